// Mean and variance without cancellation: everything is relative to an anchor, an element of the group itself. Of a
// mean square, the anchor and the mean are 0.
#pragma once

#include "platform.h"
#include "problem.h"

namespace onnxnorm::cuda {

// To a unit in the last place or two, without the subroutine that rounds correctly, which costs registers.
#ifdef ONNXNORM_EMULATION
__device__ inline float ratio(float a, float b) { return a / b; }
__device__ inline float reciprocal_root(float value) { return 1 / sqrtf(value); }
__device__ inline double reciprocal_root(double value) { return 1 / sqrt(value); }
#else
__device__ inline float ratio(float a, float b) { return __fdividef(a, b); }
__device__ inline float reciprocal_root(float value) { return rsqrtf(value); }
__device__ inline double reciprocal_root(double value) { return rsqrt(value); }
#endif
__device__ inline double ratio(double a, double b) { return a / b; }

/// Moments of `count` elements: their mean is anchor + offset, and `squares` the sum of squared distances from it.
template <class C>
struct Moments {
  C anchor;
  C offset;
  C squares;
  C count;
};

/// The moments of both together, relative to the anchor of the first; either may be empty.
template <class C>
__device__ inline Moments<C> merged(const Moments<C>& a, const Moments<C>& b) {
  if (b.count == 0) return a;
  if (a.count == 0) return b;
  const C count = a.count + b.count;
  const C distance = (b.anchor - a.anchor) + (b.offset - a.offset);
  const C share = ratio(b.count, count);
  return {a.anchor, a.offset + distance * share, a.squares + b.squares + distance * distance * a.count * share, count};
}

/// Whether distances are from the mean. Where nothing but the mean square counts they are from 0: an infinity then
/// makes that infinite, where its distance from an infinite mean would be NaN.
__device__ inline bool about_mean(const Problem& problem) { return problem.divisor == Divisor::deviation; }

/// Another element of which the moments so far are known; `reciprocal` is one over the new count.
template <class C>
__device__ inline void add(Moments<C>& moments, C value, C reciprocal, bool about_mean) {
  if (!about_mean) {
    moments.squares += value * value;
    return;
  }
  const C distance = (value - moments.anchor) - moments.offset;
  moments.offset += distance * reciprocal;
  moments.squares += distance * ((value - moments.anchor) - moments.offset);
}

template <class C>
__device__ inline C as(const Number& number);
template <>
__device__ inline float as<float>(const Number& number) {
  return number.single;
}
template <>
__device__ inline double as<double>(const Number& number) {
  return number.full;
}

/// What maps an element to its normalized value: ((x - shift) - offset) * factor.
template <class C>
struct Map {
  C shift;
  C offset;
  C factor;

  __device__ C operator()(C x) const { return ((x - shift) - offset) * factor; }
};

template <class C>
__device__ inline Map<C> map_of(const Moments<C>& moments, const Problem& problem) {
  const C variance = ratio(moments.squares, moments.count), epsilon = as<C>(problem.epsilon);
  const C mean = moments.anchor + moments.offset;
  C square = variance + epsilon;
  if (problem.divisor == Divisor::root_mean_square) square = variance + mean * mean + epsilon;
  if (problem.divisor == Divisor::length) {
    const C sum = moments.squares + moments.count * mean * mean;
    square = sum > epsilon || sum != sum ? sum : epsilon;
  }
  const C factor = reciprocal_root(square);
  if (!problem.subtract_mean) return {C(0), C(0), factor};
  return {moments.anchor, moments.offset, factor};
}

// ---- Sums and merges over the threads that share a group: `width` lanes of a warp, or the whole block.

/// The thread's number in its warp.
__device__ inline unsigned lane() { return (threadIdx.x + threadIdx.y * blockDim.x) % 32; }

constexpr unsigned all_lanes = 0xffffffffu;
constexpr int most_warps = 32;

template <class C>
__device__ inline C sum_of_lanes(C value, int width) {
  for (int distance = width / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(all_lanes, value, distance, width);
  }
  return value;
}

/// Over blockDim.x threads: a power of two up to a warp, several rows to a block; or whole warps, one row to a block.
template <class C>
__device__ inline C sum_of_row(C value) {
  if (blockDim.x <= 32) return sum_of_lanes(value, static_cast<int>(blockDim.x));
  SHARED_ARRAY(C, parts, most_warps);
  value = sum_of_lanes(value, 32);
  __syncthreads();  // the parts of the sum before are read
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  return sum_of_lanes(lane() < blockDim.x / 32 ? parts[lane()] : C(0), 32);
}

/// Over the lanes of a warp, the same in all of them.
template <class C>
__device__ inline Moments<C> merged_lanes(Moments<C> moments) {
  for (int distance = 16; distance > 0; distance /= 2) {
    const Moments<C> other = {__shfl_xor_sync(all_lanes, moments.anchor, distance, 32),
                              __shfl_xor_sync(all_lanes, moments.offset, distance, 32),
                              __shfl_xor_sync(all_lanes, moments.squares, distance, 32),
                              __shfl_xor_sync(all_lanes, moments.count, distance, 32)};
    // In the order of the lanes on both sides, so that all lanes end with the same bits.
    moments = lane() & static_cast<unsigned>(distance) ? merged(other, moments) : merged(moments, other);
  }
  return moments;
}

/// The moments of a group from those of its parts, by a warp, the same in all its lanes.
template <class C>
__device__ inline Moments<C> merged_parts(const Moments<C>* parts, int64_t count) {
  Moments<C> moments{C(0), C(0), C(0), C(0)};
  for (int64_t p = lane(); p < count; p += 32) moments = merged(moments, parts[p]);
  return merged_lanes(moments);
}

}  // namespace onnxnorm::cuda
