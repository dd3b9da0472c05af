// The element types, what they are computed with, and small arithmetic. Compiled once per instruction set: see
// kernels.cpp.
#pragma once

#include <cstdint>

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

inline bool is_finite(double value) { return value - value == 0; }

/// 1 / sqrt(variance + epsilon); a variance that rounding made negative counts as zero, NaN stays NaN.
template <class C>
inline C reciprocal_deviation(C variance, C epsilon) {
  return C(1) / static_cast<C>(__builtin_sqrt((variance < 0 ? 0 : variance) + epsilon));
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
