// How the element types are stored and computed with. Compiled once per instruction set: see kernels.cpp.
#pragma once

#include <cstdint>

#if defined(__F16C__)
#include <immintrin.h>
#endif

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

/// Elements converted at a time: the float copy of a tile stays in the first-level cache.
constexpr int64_t tile_size = 1024;

inline uint32_t bits_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

inline float to_float(BFloat value) { return float_of(uint32_t{value.bits} << 16); }

inline float to_float(Half value) {
#if defined(__F16C__)
  return _cvtsh_ss(value.bits);
#else
  // Scaling by 2^112 moves the exponent and makes half's subnormals right as well.
  const uint32_t magnitude = value.bits & 0x7fffu;
  const uint32_t finite = bits_of(float_of(magnitude << 13) * 0x1p112f);
  const uint32_t not_finite = 0x7f800000u | (magnitude << 13);
  const uint32_t sign = uint32_t{value.bits & 0x8000u} << 16;
  return float_of(sign | (magnitude >= 0x7c00u ? not_finite : finite));
#endif
}

inline float to_float(float value) { return value; }
inline double to_float(double value) { return value; }

inline BFloat to_bfloat(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t nearest_even = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet_nan = (bits >> 16) | 0x40u;
  return {static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : nearest_even)};
}

inline Half to_half(float value) {
#if defined(__F16C__)
  return {static_cast<uint16_t>(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT))};
#else
  const uint32_t bits = bits_of(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Adding 0.5 leaves float with the spacing of half's subnormals, so that the addition itself rounds.
  const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  const uint32_t not_finite = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t finite = magnitude < (113u << 23) ? subnormal : normal;
  const uint32_t result = magnitude >= (143u << 23) ? not_finite : finite;
  return {static_cast<uint16_t>(result | (bits >> 16 & 0x8000u))};
#endif
}

inline void widen_run(const BFloat* from, int64_t count, float* to) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] = to_float(from[i]);
}

inline void widen_run(const Half* from, int64_t count, float* to) {
  int64_t done = 0;
  // GCC 12 does not vectorize the conversion instructions by itself.
#if defined(__AVX512F__)
  for (; done + 16 <= count; done += 16) {
    const __m256i packed = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + done));
    _mm512_storeu_ps(to + done, _mm512_cvtph_ps(packed));
  }
#endif
#if defined(__F16C__)
  for (; done + 8 <= count; done += 8) {
    const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + done));
    _mm256_storeu_ps(to + done, _mm256_cvtph_ps(packed));
  }
#endif
#pragma omp simd
  for (int64_t i = done; i < count; ++i) to[i] = to_float(from[i]);
}

inline void narrow_run(const float* from, int64_t count, BFloat* to) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] = to_bfloat(from[i]);
}

inline void narrow_run(const float* from, int64_t count, Half* to) {
  int64_t done = 0;
#if defined(__AVX512F__)
  for (; done + 16 <= count; done += 16) {
    const __m256i packed = _mm512_cvtps_ph(_mm512_loadu_ps(from + done), _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + done), packed);
  }
#endif
#if defined(__F16C__)
  for (; done + 8 <= count; done += 8) {
    const __m128i packed = _mm256_cvtps_ph(_mm256_loadu_ps(from + done), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + done), packed);
  }
#endif
#pragma omp simd
  for (int64_t i = done; i < count; ++i) to[i] = to_half(from[i]);
}

/// `from` as values to compute with: in place where the storage type is the compute type, else converted into
/// `buffer`.
inline const float* widened(const float* from, int64_t, float*) { return from; }
inline const double* widened(const double* from, int64_t, double*) { return from; }
template <class T>
inline const float* widened(const T* from, int64_t count, float* buffer) {
  widen_run(from, count, buffer);
  return buffer;
}

/// Where to compute results for `to`, and the step that brings them there.
inline float* landing(float* to, float*) { return to; }
inline double* landing(double* to, double*) { return to; }
template <class T>
inline float* landing(T*, float* buffer) {
  return buffer;
}
inline void land(const float*, int64_t, float*) {}
inline void land(const double*, int64_t, double*) {}
template <class T>
inline void land(const float* from, int64_t count, T* to) {
  narrow_run(from, count, to);
}

inline float narrowed(float value, const float*) { return value; }
inline double narrowed(double value, const double*) { return value; }
inline Half narrowed(float value, const Half*) { return to_half(value); }
inline BFloat narrowed(float value, const BFloat*) { return to_bfloat(value); }

template <class N>
inline N smaller(N a, N b) {
  return b < a ? b : a;
}
template <class N>
inline N larger(N a, N b) {
  return a < b ? b : a;
}

/// 1 / sqrt(variance + epsilon); a variance that rounding made negative counts as zero, NaN stays NaN.
inline double reciprocal_deviation(double variance, double epsilon) {
  return 1.0 / __builtin_sqrt((variance < 0 ? 0 : variance) + epsilon);
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
