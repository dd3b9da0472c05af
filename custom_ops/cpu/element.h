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

/// What the elements of a group are multiplied by. A variance that rounding made negative counts as zero, NaN stays
/// NaN; 0 where a square left the range of C.
template <class C>
inline C factor_of(const Rule& rule, C mean, C variance) {
  const C weighted = mean * static_cast<C>(rule.mean_weight);
  const C root = (variance < 0 ? 0 : variance) * static_cast<C>(rule.variance_weight) + weighted * weighted +
                 static_cast<C>(rule.epsilon);
  const C least = static_cast<C>(rule.least);
  return C(1) / static_cast<C>(__builtin_sqrt(root < least ? least : root));
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
