// What the kernels need of CUDA, from the toolkit or from its emulation on the CPU.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef ONNXNORM_EMULATION

#include <cmath>

#include "emulation/emulation.h"

#define SHARED_ARRAY(type, name, count) \
  auto* const name = static_cast<type*>(emulation::shared(EMULATION_SITE, sizeof(type) * (count)))
#define DYNAMIC_SHARED(type, name) auto* const name = static_cast<type*>(emulation::dynamic_shared())
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ((void)(stream), emulation::launch((grid), (block), (shared_bytes), [=] { kernel(__VA_ARGS__); }))
#define CHECK_ALIGNED(address, bytes) emulation::check_aligned((address), (bytes), EMULATION_SITE)

using Stream = void*;

#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#define SHARED_ARRAY(type, name, count) __shared__ type name[count]
#define DYNAMIC_SHARED(type, name)                        \
  extern __shared__ __align__(16) unsigned char memory[]; \
  type* const name = reinterpret_cast<type*>(memory)
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
#define CHECK_ALIGNED(address, bytes) ((void)0)

using Stream = cudaStream_t;

#endif

namespace onnxnorm::cuda {

// ---- Storage types, by their bits, and the type that each is computed in.

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

__device__ inline float widen(float value) { return value; }
__device__ inline double widen(double value) { return value; }

__device__ inline float as_float(uint32_t bits) {
#ifdef ONNXNORM_EMULATION
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
#else
  return __uint_as_float(bits);
#endif
}
__device__ inline uint32_t as_bits(float value) {
#ifdef ONNXNORM_EMULATION
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
#else
  return __float_as_uint(value);
#endif
}

__device__ inline float widen(BFloat value) { return as_float(uint32_t{value.bits} << 16); }
__device__ inline float widen(Half value) {
#ifdef ONNXNORM_EMULATION
  const uint32_t sign = (value.bits & 0x8000u) << 16, magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return as_float(sign | 0x7f800000u | magnitude << 13);
  if (magnitude >= 0x400u) return as_float(sign | ((magnitude << 13) + (112u << 23)));
  const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
  return sign ? -subnormal : subnormal;
#else
  return __half2float(__ushort_as_half(value.bits));
#endif
}

template <class T>
struct Narrow;
template <>
struct Narrow<float> {
  __device__ static float from(float value) { return value; }
};
template <>
struct Narrow<double> {
  __device__ static double from(double value) { return value; }
};
template <>
struct Narrow<BFloat> {
  __device__ static BFloat from(float value) {
    const uint32_t bits = as_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>(bits >> 16 | 0x40u)};
    return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
  }
};
template <>
struct Narrow<Half> {
  __device__ static Half from(float value) {
#ifdef ONNXNORM_EMULATION
    const uint32_t bits = as_bits(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    uint32_t result;
    if (magnitude > 0x7f800000u) {
      result = 0x7e00u;
    } else if (magnitude >= 143u << 23) {
      result = 0x7c00u;
    } else if (magnitude < 113u << 23) {
      // Adding 0.5 leaves float with the spacing of half's subnormals, so that the addition itself rounds.
      result = as_bits(as_float(magnitude) + 0.5f) - 0x3f000000u;
    } else {
      result = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    }
    return {static_cast<uint16_t>(sign | result)};
#else
    return {__half_as_ushort(__float2half_rn(value))};
#endif
  }
};

// ---- Vectors: as many elements as 16 bytes hold, or one.

template <class T>
constexpr int widest = static_cast<int>(16 / sizeof(T));

template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
};

template <class T, int N>
__device__ inline Pack<T, N> load(const T* from) {
  CHECK_ALIGNED(from, sizeof(T) * N);
  return *reinterpret_cast<const Pack<T, N>*>(from);
}
template <class T, int N>
__device__ inline void store(const Pack<T, N>& values, T* to) {
  CHECK_ALIGNED(to, sizeof(T) * N);
  *reinterpret_cast<Pack<T, N>*>(to) = values;
}

/// To global memory, in one instruction: the compiler splits some of these stores by itself.
template <class T, int N>
__device__ inline void store_global(const Pack<T, N>& values, T* to) {
#ifndef ONNXNORM_EMULATION
  if constexpr (sizeof(T) * N == sizeof(uint4)) {
    uint4 bits;
    memcpy(&bits, &values, sizeof bits);
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(to), "r"(bits.x), "r"(bits.y), "r"(bits.z), "r"(bits.w)
                 : "memory");
    return;
  }
#endif
  store<T, N>(values, to);
}

}  // namespace onnxnorm::cuda
