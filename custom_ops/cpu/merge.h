// Moments of a group from those of its parts. Compiled once per instruction set: see kernels.cpp.
#pragma once

#include "element.h"
#include "kernels.h"

namespace onnxnorm::cpu {
namespace ONNXNORM_ISA_NAMESPACE {
namespace {

void merge_moments(const double* means, const double* variances, const double* counts, int64_t parts, int64_t pitch,
                   int64_t groups, double* mean, double* variance) {
  constexpr int64_t block = 64;
  double total = 0;
  for (int64_t p = 0; p < parts; ++p) total += counts[p];
  const double share = 1 / total;
  for (int64_t begin = 0; begin < groups; begin += block) {
    const int64_t size = smaller(block, groups - begin);
    // Relative to the first part's mean, so that equal means merge to themselves exactly.
    const double* anchor = means + begin;
    double shift[block] = {}, squares[block] = {};
    for (int64_t p = 0; p < parts; ++p) {
      const double* part = means + p * pitch + begin;
#pragma omp simd
      for (int64_t g = 0; g < size; ++g) shift[g] += counts[p] * share * (part[g] - anchor[g]);
    }
    for (int64_t p = 0; p < parts; ++p) {
      const double* part = means + p * pitch + begin;
      const double* spread = variances + p * pitch + begin;
#pragma omp simd
      for (int64_t g = 0; g < size; ++g) {
        const double distance = (part[g] - anchor[g]) - shift[g];
        squares[g] += counts[p] * (spread[g] + distance * distance);
      }
    }
    for (int64_t g = 0; g < size; ++g) {
      mean[begin + g] = anchor[g] + shift[g];
      variance[begin + g] = squares[g] * share;
      if (is_finite(mean[begin + g])) continue;
      // Both are infinite where a part's are, as in Moments, unless another is NaN.
      bool is_nan = false;
      for (int64_t p = 0; p < parts; ++p) is_nan |= means[p * pitch + begin + g] != means[p * pitch + begin + g];
      mean[begin + g] = variance[begin + g] = is_nan ? __builtin_nan("") : __builtin_inf();
    }
  }
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
