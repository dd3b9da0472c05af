// Axes in any order, and parameters that broadcast in any way: a block to a group, element by element. For what no
// other kernel covers.
#pragma once

#include "epilogue.cuh"
#include "moments.cuh"
#include "plan.h"

namespace onnxnorm::cuda {

/// Quotient and rest, by the short division wherever it serves.
struct Division {
  int64_t quotient;
  int64_t rest;

  __device__ Division(int64_t value, int64_t by) {
    if (((value | by) >> 32) == 0) {
      const uint32_t v = static_cast<uint32_t>(value), b = static_cast<uint32_t>(by);
      quotient = v / b;
      rest = v % b;
    } else {
      quotient = value / by;
      rest = value % by;
    }
  }
};

/// Where an element lies in X, and its scale and bias in theirs.
struct Position {
  int64_t x = 0;
  int64_t scale = 0;
  int64_t bias = 0;
};

/// Moves a position to the element that has number `index` among the reduced (or the kept) dimensions.
__device__ inline Position moved(Position position, const Axes& axes, bool reduced, int64_t index) {
  for (int d = axes.rank - 1; d >= 0; --d) {
    if (axes.reduced[d] != reduced) continue;
    const Division split(index, axes.extent[d]);
    index = split.quotient;
    position.x += split.rest * axes.x_stride[d];
    position.scale += split.rest * axes.scale_stride[d];
    position.bias += split.rest * axes.bias_stride[d];
  }
  return position;
}

template <class T>
__global__ void __launch_bounds__(strided_threads)
    normalize_strided(Problem problem, Axes axes, int64_t groups, int64_t depth) {
  using C = Compute<T>;
  SHARED_ARRAY(Moments<C>, parts, strided_threads / 32);
  const T* const scales = static_cast<const T*>(problem.scale);
  const T* const biases = static_cast<const T*>(problem.bias);
  for (int64_t group = blockIdx.x; group < groups; group += gridDim.x) {
    const Position corner = moved({}, axes, false, group);
    const C first = widen(input<T, 1>(problem, corner.x).values[0]);
    Moments<C> moments{about_mean(problem) ? first : C(0), C(0), C(0), C(0)};
    for (int64_t e = threadIdx.x; e < depth; e += strided_threads) {
      moments.count += 1;
      const C value = widen(input<T, 1>(problem, moved(corner, axes, true, e).x).values[0]);
      add(moments, value, ratio(C(1), moments.count), about_mean(problem));
    }
    moments = merged_lanes(moments);
    __syncthreads();  // the parts of the group before are read
    if (lane() == 0) parts[threadIdx.x / 32] = moments;
    __syncthreads();
    const Map<C> map = map_of(merged_parts(parts, strided_threads / 32), problem);
    for (int64_t e = threadIdx.x; e < depth; e += strided_threads) {
      const Position at = moved(corner, axes, true, e);
      const C normalized = map(widen(input<T, 1>(problem, at.x).values[0]));
      const Affine<T, 1> affine(scales + at.scale, biases + at.bias);
      finish<T, 1>(problem, at.x, &normalized, affine);
    }
  }
}

/// A tensor of another shape repeated to `count` elements; x_stride are its strides along the axes of the result.
template <class T>
__global__ void __launch_bounds__(strided_threads) expand(const T* from, Axes axes, int64_t count, T* to) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * strided_threads;
  for (int64_t e = static_cast<int64_t>(blockIdx.x) * strided_threads + threadIdx.x; e < count; e += step) {
    to[e] = from[moved({}, axes, false, e).x];
  }
}

}  // namespace onnxnorm::cuda
