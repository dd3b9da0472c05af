// Vectors of the compute type, as wide as the instruction set has them, and how each storage type gets in and out of
// them. Compiled once per instruction set: see kernels.cpp. Uses the vector types that GCC and clang share.
#pragma once

#include <cstdint>

#include "element.h"

#if defined(__F16C__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace onnxnorm::cpu {
namespace ONNXNORM_ISA_NAMESPACE {
namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

template <class C>
struct VectorTypes;
template <>
struct VectorTypes<float> {
  typedef float value __attribute__((vector_size(vector_bytes)));
  typedef float stored __attribute__((vector_size(vector_bytes), aligned(4), may_alias));
  typedef uint32_t bits __attribute__((vector_size(vector_bytes)));
  typedef int32_t index __attribute__((vector_size(vector_bytes)));
};
template <>
struct VectorTypes<double> {
  typedef double value __attribute__((vector_size(vector_bytes)));
  typedef double stored __attribute__((vector_size(vector_bytes), aligned(8), may_alias));
  typedef int64_t index __attribute__((vector_size(vector_bytes)));
};

template <class C>
using Vector = typename VectorTypes<C>::value;
template <class C>
constexpr int64_t lanes = vector_bytes / static_cast<int64_t>(sizeof(C));

using Bits = VectorTypes<float>::bits;
typedef uint16_t HalfBits __attribute__((vector_size(vector_bytes / 2)));
typedef uint16_t StoredHalfBits __attribute__((vector_size(vector_bytes / 2), aligned(2), may_alias));

/// How much of a vector a load or store covers: all lanes, or the first few at the end of a run.
struct Whole {};
struct Part {
  int64_t count;
};

/// Calls body(i, Whole{}) for each whole vector below `count`, then body(i, Part{...}) for what is left.
template <class C, class Body>
inline void for_vectors(int64_t count, const Body& body) {
  int64_t i = 0;
  for (; i + lanes<C> <= count; i += lanes<C>) body(i, Whole{});
  if (i < count) body(i, Part{count - i});
}

template <class C>
inline Vector<C> broadcast(C value) {
  return value - Vector<C>{};
}

/// Lane by lane; NaN stays NaN.
template <class C>
inline Vector<C> at_least(Vector<C> value, C low) {
  return value < low ? broadcast(low) : value;
}
template <class C>
inline Vector<C> at_most(Vector<C> value, C high) {
  return value > high ? broadcast(high) : value;
}
// Of two operands one of which is NaN, these instructions return the second.
#if defined(__AVX512F__)
inline Vector<float> at_least(Vector<float> value, float low) { return _mm512_max_ps(_mm512_set1_ps(low), value); }
inline Vector<float> at_most(Vector<float> value, float high) { return _mm512_min_ps(_mm512_set1_ps(high), value); }
#elif defined(__AVX2__)
inline Vector<float> at_least(Vector<float> value, float low) { return _mm256_max_ps(_mm256_set1_ps(low), value); }
inline Vector<float> at_most(Vector<float> value, float high) { return _mm256_min_ps(_mm256_set1_ps(high), value); }
#elif defined(__aarch64__)
// Of two operands one of which is NaN, these instructions return NaN.
inline Vector<float> at_least(Vector<float> value, float low) { return vmaxq_f32(value, vdupq_n_f32(low)); }
inline Vector<float> at_most(Vector<float> value, float high) { return vminq_f32(value, vdupq_n_f32(high)); }
inline Vector<double> at_least(Vector<double> value, double low) { return vmaxq_f64(value, vdupq_n_f64(low)); }
inline Vector<double> at_most(Vector<double> value, double high) { return vminq_f64(value, vdupq_n_f64(high)); }
#endif
template <class V, class C>
inline V clamp(V value, C low, C high) {
  return at_most(at_least(value, low), high);
}

inline Vector<float> load(const float* from, Whole = {}) {
  return *reinterpret_cast<const VectorTypes<float>::stored*>(from);
}
inline Vector<double> load(const double* from, Whole = {}) {
  return *reinterpret_cast<const VectorTypes<double>::stored*>(from);
}
inline Vector<float> load(const BFloat* from, Whole = {}) {
  // Compilers widen vectors of this size in two halves, or lane by lane.
#if defined(__AVX512F__)
  const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
#elif defined(__AVX2__)
  const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
#elif defined(__aarch64__)
  const HalfBits bits = *reinterpret_cast<const StoredHalfBits*>(from);
  return (Vector<float>)vshll_n_u16((uint16x4_t)bits, 16);
#else
  const HalfBits bits = *reinterpret_cast<const StoredHalfBits*>(from);
  return (Vector<float>)(__builtin_convertvector(bits, Bits) << 16);
#endif
}
inline Vector<float> load(const Half* from, Whole = {}) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__F16C__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#elif defined(__aarch64__)
  const HalfBits bits = *reinterpret_cast<const StoredHalfBits*>(from);
  return vcvt_f32_f16((float16x4_t)bits);
#else
  const Bits bits = __builtin_convertvector(*reinterpret_cast<const StoredHalfBits*>(from), Bits);
  const Bits magnitude = bits & 0x7fffu;
  // Not through float's own subnormals: the process may have these flushed to zero.
  const Bits subnormal =
      (Bits)(__builtin_convertvector((VectorTypes<float>::index)magnitude, Vector<float>) * 0x1p-24f);
  const Bits normal = (magnitude << 13) + (112u << 23);
  const Bits not_finite = (magnitude << 13) | 0x7f800000u;
  const Bits is_subnormal = (Bits)(magnitude < 0x400u);
  const Bits is_not_finite = (Bits)(magnitude >= 0x7c00u);
  const Bits is_normal = ~(is_subnormal | is_not_finite);
  return (Vector<float>)((is_subnormal & subnormal) | (is_normal & normal) | (is_not_finite & not_finite) |
                         (bits & 0x8000u) << 16);
#endif
}

inline void store(Vector<float> value, float* to, Whole = {}) {
  *reinterpret_cast<VectorTypes<float>::stored*>(to) = value;
}
inline void store(Vector<double> value, double* to, Whole = {}) {
  *reinterpret_cast<VectorTypes<double>::stored*>(to) = value;
}
inline void store(Vector<float> value, BFloat* to, Whole = {}) {
#if defined(__AVX512BF16__)
  // The instruction takes subnormal numbers for zero.
  constexpr int subnormal = 0x20;
  if (__builtin_expect(!_mm512_fpclass_ps_mask(value, subnormal), true)) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(value));
    return;
  }
#endif
  const Bits bits = (Bits)value;
  const Bits nearest_even = bits + 0x7fffu + ((bits >> 16) & 1u);
#if defined(__AVX512F__)
  // A quiet NaN, which rounding could have carried away.
  const __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
  const __m512i rounded =
      _mm512_mask_or_epi32((__m512i)nearest_even, is_nan, (__m512i)bits, _mm512_set1_epi32(0x400000));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
#else
  const Bits quiet_nan = bits | 0x400000u;
  const Bits is_nan = (Bits)(value != value);
  const Bits high = ((is_nan & quiet_nan) | (~is_nan & nearest_even)) >> 16;
#if defined(__aarch64__)
  *reinterpret_cast<StoredHalfBits*>(to) = (HalfBits)vmovn_u32(high);
#elif defined(__AVX2__)
  const __m256i packed = _mm256_packus_epi32((__m256i)high, (__m256i)high);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
#else
  *reinterpret_cast<StoredHalfBits*>(to) = __builtin_convertvector(high, HalfBits);
#endif
#endif
}
inline void store(Vector<float> value, Half* to, Whole = {}) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__aarch64__)
  *reinterpret_cast<StoredHalfBits*>(to) = (HalfBits)vcvt_f16_f32(value);
#else
  const Bits bits = (Bits)value;
  const Bits magnitude = bits & 0x7fffffffu;
  const Bits normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Adding 0.5 leaves float with the spacing of half's subnormals, so that the addition itself rounds.
  const Bits subnormal = (Bits)((Vector<float>)magnitude + 0.5f) - 0x3f000000u;
  const Bits is_nan = (Bits)(magnitude > 0x7f800000u);
  const Bits not_finite = 0x7c00u | (is_nan & 0x200u);
  const Bits is_subnormal = (Bits)(magnitude < (113u << 23));
  const Bits is_not_finite = (Bits)(magnitude >= (143u << 23));
  const Bits is_normal = ~(is_subnormal | is_not_finite);
  const Bits result =
      (is_subnormal & subnormal) | (is_normal & normal) | (is_not_finite & not_finite) | (bits >> 16 & 0x8000u);
  *reinterpret_cast<StoredHalfBits*>(to) = __builtin_convertvector(result, HalfBits);
#endif
}

/// Calls body(lane) for each lane that the part covers. Written as a loop of `part.count` steps, moving them would be a
/// call of memcpy.
template <class C, class Body>
inline void for_lanes(Part part, const Body& body) {
#pragma GCC unroll 16
  for (int64_t i = 0; i < lanes<C>; ++i) {
    if (i < part.count) body(i);
  }
}

/// The filler in the lanes that the load does not cover.
template <class T>
inline Vector<Compute<T>> load(const T* from, Whole, Vector<Compute<T>>) {
  return load(from);
}
template <class T>
inline Vector<Compute<T>> load(const T* from, Part part, Vector<Compute<T>> filler) {
  using C = Compute<T>;
  alignas(vector_bytes) T values[lanes<C>] = {};
  for_lanes<C>(part, [&](int64_t i) { values[i] = from[i]; });
  const Vector<C> loaded = load(values);
  for_lanes<C>(part, [&](int64_t i) { filler[i] = loaded[i]; });
  return filler;
}
template <class T>
inline void store(Vector<Compute<T>> value, T* to, Part part) {
  alignas(vector_bytes) T values[lanes<Compute<T>>];
  store(value, values);
  for_lanes<Compute<T>>(part, [&](int64_t i) { to[i] = values[i]; });
}
#if defined(__AVX512F__)
inline __mmask16 mask_of(Part part) { return static_cast<__mmask16>((1u << part.count) - 1u); }
inline Vector<float> load(const float* from, Part part, Vector<float> filler) {
  return _mm512_mask_loadu_ps(filler, mask_of(part), from);
}
inline Vector<double> load(const double* from, Part part, Vector<double> filler) {
  return _mm512_mask_loadu_pd(filler, static_cast<__mmask8>(mask_of(part)), from);
}
inline Vector<float> load(const Half* from, Part part, Vector<float> filler) {
  return _mm512_mask_cvtph_ps(filler, mask_of(part), _mm256_maskz_loadu_epi16(mask_of(part), from));
}
inline Vector<float> load(const BFloat* from, Part part, Vector<float> filler) {
  const __m512i bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask_of(part), from));
  return _mm512_mask_mov_ps(filler, mask_of(part), _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)));
}
inline void store(Vector<float> value, float* to, Part part) { _mm512_mask_storeu_ps(to, mask_of(part), value); }
inline void store(Vector<double> value, double* to, Part part) {
  _mm512_mask_storeu_pd(to, static_cast<__mmask8>(mask_of(part)), value);
}
#endif

/// One element in the compute type.
inline float value_at(const float* from) { return *from; }
inline double value_at(const double* from) { return *from; }
template <class T>
inline float value_at(const T* from) {
  return load(from, Part{1}, Vector<float>{})[0];
}

/// Lane by lane: 0 1 2 3 and 4 5 6 7 give 0 4 1 5 (low) and 2 6 3 7 (high).
#if defined(__AVX512F__)
inline Vector<float> zip_low(Vector<float> a, Vector<float> b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline Vector<float> zip_high(Vector<float> a, Vector<float> b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
inline Vector<double> zip_low(Vector<double> a, Vector<double> b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
inline Vector<double> zip_high(Vector<double> a, Vector<double> b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
#elif defined(__AVX2__)
inline Vector<float> zip_low(Vector<float> a, Vector<float> b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
inline Vector<float> zip_high(Vector<float> a, Vector<float> b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
inline Vector<double> zip_low(Vector<double> a, Vector<double> b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
inline Vector<double> zip_high(Vector<double> a, Vector<double> b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#else
inline Vector<float> zip_low(Vector<float> a, Vector<float> b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
inline Vector<float> zip_high(Vector<float> a, Vector<float> b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
inline Vector<double> zip_low(Vector<double> a, Vector<double> b) { return __builtin_shufflevector(a, b, 0, 2); }
inline Vector<double> zip_high(Vector<double> a, Vector<double> b) { return __builtin_shufflevector(a, b, 1, 3); }
#endif

/// Where element `index` stands, which needs not exist: no pointer arithmetic.
template <class T>
[[gnu::always_inline]] inline const void* place(const void* base, int64_t index) {
  return reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(base) + index * static_cast<int64_t>(sizeof(T)));
}

/// Asks for `count` elements from element `index` on, which need not exist, to be in the second-level cache soon.
template <class T>
inline void prefetch(const T* base, int64_t index, int64_t count) {
  constexpr int64_t line = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t i = 0; i < count; i += line) __builtin_prefetch(place<T>(base, index + i), 0, 2);
}

template <class C>
struct Ones {
  constexpr Ones() : values() {
    for (C& value : values) value = 1;
  }
  C values[lanes<C>];
};
template <class C>
constexpr Ones<C> vector_of_ones{};

/// Lane i of the result is the sum of all lanes of rows[i]; for as many rows as there are lanes. Each step halves the
/// number of vectors, where summing one row after the other would take all steps for each.
template <class C>
inline Vector<C> sums_of_rows(Vector<C>* rows) {
#pragma GCC unroll 4
  for (int64_t half = lanes<C> / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < half; ++i) rows[i] = zip_low(rows[i], rows[i + half]) + zip_high(rows[i], rows[i + half]);
  }
  return rows[0];
}

template <class C>
inline C sum_of_lanes(Vector<C> value) {
  alignas(vector_bytes) C values[lanes<C>];
  store(value, values);
#pragma GCC unroll 4
  for (int64_t half = lanes<C> / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < half; ++i) values[i] += values[i + half];
  }
  return values[0];
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
