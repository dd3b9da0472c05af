// Activations that are worth a pass of their own over values that wait in the first-level cache. Compiled once per
// instruction set: see kernels.cpp.
#pragma once

#include "kernels.h"
#include "math.h"
#include "output.h"
#include "vector.h"

namespace onnxnorm::cpu {
namespace ONNXNORM_ISA_NAMESPACE {
namespace {

/// gamma * x, and gamma * alpha * (exp(x) - 1) below 0.
template <class V, class C>
[[gnu::always_inline]] inline V exponential_unit(V x, C alpha, C gamma) {
  return x < 0 ? expm1_of_negative(x) * (gamma * alpha) : x * gamma;
}

/// Where a gate has closed, also -infinity becomes 0: as the lowest finite value.
template <class C>
constexpr C lowest = sizeof(C) == 4 ? -C(__FLT_MAX__) : -C(__DBL_MAX__);
template <class C>
constexpr C infinity = __builtin_inf();

/// The activations that are not straight lines, each as `apply(x, parameters)`, and how many quarters of what is summed
/// next it gives time to fetch: the longer it takes, the more. The sums wait for memory themselves.
struct Elu {
  static constexpr int64_t fetched = 1;
  template <class V, class C>
  [[gnu::always_inline]] static V apply(V x, const C* alpha) {
    return exponential_unit(x, *alpha, C(1));
  }
};
struct Selu {
  static constexpr int64_t fetched = 1;
  template <class V, class C>
  [[gnu::always_inline]] static V apply(V x, const C* alpha_and_gamma) {
    return exponential_unit(x, alpha_and_gamma[0], alpha_and_gamma[1]);
  }
};
struct Gelu {
  static constexpr int64_t fetched = 4;
  template <class V, class C>
  [[gnu::always_inline]] static V apply(V x, const C*) {
    return gelu(x);
  }
};
struct FastGelu {
  static constexpr int64_t fetched = 2;
  template <class V, class C>
  [[gnu::always_inline]] static V apply(V x, const C*) {
    // sigmoid(2 * u) is 0.5 * (1 + tanh(u)), and loses nothing where tanh is close to -1.
    constexpr C linear = C(-1.5957691216057307117), cubic = C(-0.071354816272600249);
    return at_least(x, lowest<C>) / (exp(x * (x * x * cubic + linear)) + 1);
  }
};
struct Swish {
  static constexpr int64_t fetched = 2;
  template <class V, class C>
  [[gnu::always_inline]] static V apply(V x, const C* alpha) {
    if (*alpha == 0) return x * C(0.5);
    const C low = *alpha > 0 ? lowest<C> : -infinity<C>;
    const C high = *alpha < 0 ? -lowest<C> : infinity<C>;
    return clamp(x, low, high) / (exp(x * -*alpha) + 1);
  }
};
struct Sigmoid {
  static constexpr int64_t fetched = 2;
  template <class V, class C>
  [[gnu::always_inline]] static V apply(V x, const C*) {
    return sigmoid(x);
  }
};
struct Tanh {
  static constexpr int64_t fetched = 3;
  template <class V, class C>
  [[gnu::always_inline]] static V apply(V x, const C*) {
    return tanh(x);
  }
};
struct Softplus {
  static constexpr int64_t fetched = 3;
  template <class V, class C>
  [[gnu::always_inline]] static V apply(V x, const C*) {
    return at_least(x, C(0)) + log1p_of_fraction(exp_of_negative(-absolute(x)));
  }
};
struct HardSwish {
  static constexpr int64_t fetched = 0;
  template <class V, class C>
  [[gnu::always_inline]] static V apply(V x, const C*) {
    return at_least(x, lowest<C>) * (clamp(x + C(3), C(0), C(6)) * C(1.0 / 6));
  }
};

template <class T, class Function>
void finish(const Finish& task, const void* values, int64_t index, int64_t count, const Ahead& ahead, int64_t further,
            void* y) {
  using C = Compute<T>;
  using V = Vector<C>;
  const C* from = static_cast<const C*>(values);
  const T* residual = task.residual ? static_cast<const T*>(task.residual) + index : nullptr;
  const Target<T> target(y, index, ahead);
  const C parameters[] = {static_cast<C>(task.parameters[0]), static_cast<C>(task.parameters[1])};
  const int64_t fetched = further == 0 ? count : count * Function::fetched / 4;
  for_vectors<C>(count, [&](int64_t i, auto extent) {
    if (i < fetched) __builtin_prefetch(place<T>(task.x, index + ahead.read + further + i), 0, 2);
    V value = load(from + i, extent, V{});
    if (residual) value += added(residual, i, ahead.read, extent);
    target.put(Function::apply(value, parameters), i, extent);
  });
}

/// to[i] = from[i] + other[i], rounded to the storage type.
template <class T>
void add(const void* from, const void* other, int64_t index, int64_t count, void* to) {
  const T* a = static_cast<const T*>(from) + index;
  const T* b = static_cast<const T*>(other) + index;
  T* sums = static_cast<T*>(to) + index;
  for_vectors<Compute<T>>(count, [&](int64_t i, auto extent) {
    using V = Vector<Compute<T>>;
    store(load(a + i, extent, V{}) + load(b + i, extent, V{}), sums + i, extent);
  });
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
