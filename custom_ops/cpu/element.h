// The element types, what they are computed with, and small arithmetic. Compiled once per instruction set: see
// kernels.cpp.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace onnxnorm::cpu {
namespace ONNXNORM_ISA_NAMESPACE {
namespace {

struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};

template <class T>
struct ComputeType {
  using type = float;
};
template <>
struct ComputeType<double> {
  using type = double;
};
template <class T>
using Compute = typename ComputeType<T>::type;

template <class N>
inline N smaller(N a, N b) {
  return b < a ? b : a;
}

template <class N>
inline void clear(N* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] = 0;
}

template <class N>
inline bool is_finite(N value) {
  return value - value == 0;
}

/// The square of what the elements of a group are divided by. A variance that rounding made negative counts as zero,
/// NaN stays NaN. With an infinite mean this is infinite where the mean square counts, NaN where the variance does.
template <class C>
inline C square_of(const Rule& rule, C mean, C variance) {
  const C weighted = mean * static_cast<C>(rule.mean_weight);
  const C square = (variance < 0 ? 0 : variance) * static_cast<C>(rule.variance_weight) + weighted * weighted +
                   static_cast<C>(rule.epsilon);
  const C least = static_cast<C>(rule.least);
  return square < least ? least : square;
}

/// What the elements of a group are multiplied by; 0 where a square left the range of C.
template <class C>
inline C factor_of(const Rule& rule, C mean, C variance) {
  return C(1) / static_cast<C>(__builtin_sqrt(square_of(rule, mean, variance)));
}

/// Whether the squares of elements that `square_of` comes from stayed in the range of C: none overflowed, and none that
/// counts lost bits below the least normal number.
template <class C, class S>
inline bool in_range(S square) {
  constexpr S least = sizeof(C) == 4 ? S(1e-30) : S(0), most = sizeof(C) == 4 ? S(__FLT_MAX__) : S(__DBL_MAX__);
  return (square > least) & (square <= most);
}
/// The same, told by the factor.
template <class C>
inline bool factor_in_range(C factor) {
  constexpr C most = sizeof(C) == 4 ? C(1e15) : C(__DBL_MAX__);
  return (factor > 0) & (factor <= most);
}

/// Mean and variance of a group in double. Of a group with an infinity, but without NaN, both are infinite.
struct Moments {
  double mean;
  double variance;
};

/// Of value(0) to value(count - 1), one after the other: slow, for groups whose squares leave the range of the compute
/// type.
template <class Value>
inline Moments moments_in_double(int64_t count, const Value& value) {
  const double anchor = value(0);
  double sum = 0;
  bool is_nan = false, is_infinite = false;
  for (int64_t i = 0; i < count; ++i) {
    const double v = value(i);
    is_nan |= v != v;
    is_infinite |= v - v != 0;
    sum += v - anchor;
  }
  if (is_infinite && !is_nan) return {__builtin_inf(), __builtin_inf()};
  const double mean = anchor + sum / static_cast<double>(count);
  double squares = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double distance = value(i) - mean;
    squares += distance * distance;
  }
  return {mean, squares / static_cast<double>(count)};
}

/// How an element is normalized in double: (x - shift) * factor.
struct DoubleMap {
  double shift;
  double factor;

  double operator()(double x) const { return (x - shift) * factor; }
};

inline DoubleMap double_map_of(const Moments& moments, const Rule& rule) {
  return {rule.subtract_mean ? moments.mean : 0, factor_of(rule, moments.mean, moments.variance)};
}

/// Whether C can hold the factor, and the distances that it is multiplied by. 0 and NaN, which leave nothing of finite
/// values, are the same in every type.
template <class C>
inline bool fits(double factor) {
  if (sizeof(C) == 8) return !(factor > __DBL_MAX__);
  return !(factor > 1e30) && !(factor < 1e-30 && factor > 0);
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
