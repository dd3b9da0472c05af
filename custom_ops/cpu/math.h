// Exponentials and what is made of them, for vectors: float by polynomials of our own, to a few units in the last place
// over the whole range; double by the C library, lane by lane. NaN stays NaN. Compiled once per instruction set: see
// kernels.cpp.
#pragma once

#include "vector.h"

namespace onnxnorm::cpu {
namespace ONNXNORM_ISA_NAMESPACE {
namespace {

/// c[0] + c[1] * x + ...
template <class V, class C, int64_t count>
[[gnu::always_inline]] inline V polynomial(V x, const C (&c)[count]) {
  V sum = x * c[count - 1] + c[count - 2];
#pragma GCC unroll 16
  for (int64_t i = count - 3; i >= 0; --i) sum = sum * x + c[i];
  return sum;
}

inline Vector<float> absolute(Vector<float> x) { return (Vector<float>)((Bits)x & 0x7fffffffu); }
inline Vector<double> absolute(Vector<double> x) { return x < 0 ? -x : x; }

#if defined(__AVX512F__)
/// x = n * log(2) + r, n the nearest sixteenth, for |x| below 2^15; exp(x) = 2^n * exp(r).
class Reduced {
 public:
  [[gnu::always_inline]] explicit Reduced(Vector<float> x) {
    // Adding 1.5 * 2^19 leaves the nearest sixteenth in the last bits.
    const Vector<float> shifted = x * 1.44269504f + 786432.0f;
    const Vector<float> n = shifted - 786432.0f;
    r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    sixteenths_ = (__m512i)shifted;
    power_ = _mm512_scalef_ps(_mm512_permutexvar_ps(sixteenths_, powers), n);
  }
  [[gnu::always_inline]] Vector<float> exp() const { return (r * polynomial(r, rising) + 1) * power_; }
  [[gnu::always_inline]] Vector<float> expm1() const {
    // Beside 1, what the table lost counts.
    const Vector<float> lost = _mm512_permutexvar_ps(sixteenths_, lost_by_powers);
    return (r * polynomial(r, rising_alone) + lost) * power_ + (power_ - 1);
  }

  Vector<float> r;

 private:
  /// exp(r) = 1 + r * rising(r), the second one for when nothing is added to it.
  static constexpr float rising[] = {1, 0.5f, 0.16666667f};
  static constexpr float rising_alone[] = {1, 0.5f, 0.16666667f, 0.041666667f};
  /// 2^(i / 16), and the part of it by which it is larger than its float.
  static constexpr Vector<float> powers = {1,          1.0442737f, 1.0905077f, 1.1387886f, 1.1892071f, 1.2418578f,
                                           1.2968396f, 1.3542556f, 1.4142135f, 1.4768262f, 1.5422108f, 1.6104903f,
                                           1.6817929f, 1.7562522f, 1.8340081f, 1.9152066f};
  static constexpr Vector<float> lost_by_powers = {0,
                                                   4.628547e-08f,
                                                   -1.199216e-08f,
                                                   4.729782e-08f,
                                                   3.193418e-08f,
                                                   3.621057e-08f,
                                                   -3.099072e-08f,
                                                   -7.475213e-09f,
                                                   1.711427e-08f,
                                                   -3.047684e-08f,
                                                   5.233334e-09f,
                                                   6.107592e-09f,
                                                   -1.471961e-08f,
                                                   -5.258795e-09f,
                                                   -6.12826e-09f,
                                                   5.140609e-09f};

  __m512i sixteenths_;
  Vector<float> power_;
};
#else
/// x = n * log(2) + r, n the nearest integer, for -88 <= x <= 89; exp(x) = 2^n * exp(r).
class Reduced {
 public:
  [[gnu::always_inline]] explicit Reduced(Vector<float> x) {
    // Adding 1.5 * 2^23 leaves the nearest integer in the last bits.
    const Vector<float> shifted = x * 1.44269504f + 12582912.0f;
    const Vector<float> n = shifted - 12582912.0f;
    r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    power_ = (Vector<float>)(((Bits)shifted << 23) + 0x3f800000u);
  }
  [[gnu::always_inline]] Vector<float> exp() const { return (r * polynomial(r, rising) + 1) * power_; }
  [[gnu::always_inline]] Vector<float> expm1() const {
    const Vector<float> scaled = r * power_;
    return scaled * polynomial(r, rising) + (power_ - 1);
  }

  Vector<float> r;

 private:
  /// exp(r) = 1 + r * rising(r)
  static constexpr float rising[] = {1, 0.5f, 0.16666666f, 0.04166648f, 0.0083334204f, 0.0013933482f, 0.00019824035f};

  Vector<float> power_;  // 0 for n = -127, infinite for n = 128
};
#endif

/// exp(x); 0 where that is no normal number.
[[gnu::always_inline]] inline Vector<float> exp(Vector<float> x) { return Reduced(clamp(x, -88.0f, 89.0f)).exp(); }

/// exp(x) - 1 for x <= 0, and 0 above.
[[gnu::always_inline]] inline Vector<float> expm1_of_negative(Vector<float> x) {
  return Reduced(clamp(x, -20.0f, 0.0f)).expm1();
}

/// log(1 + x) for 0 <= x <= 1: 2 * atanh(s) with s = x / (2 + x).
[[gnu::always_inline]] inline Vector<float> log1p_of_fraction(Vector<float> x) {
  constexpr float odd[] = {0.33333337f, 0.19999439f, 0.14308442f, 0.10713831f, 0.121504664f};
  const Vector<float> s = x / (x + 2);
  const Vector<float> square = s * s;
  const Vector<float> twice = s + s;
  return twice + twice * square * polynomial(square, odd);
}

[[gnu::always_inline]] inline Vector<float> tanh(Vector<float> x) {
  const Vector<float> fall = expm1_of_negative(-2.0f * absolute(x));
  const Bits sign = (Bits)x & 0x80000000u;
  return (Vector<float>)((Bits)(fall / (-2 - fall)) | sign);
}

/// x * x - square, where square = x * x was rounded.
[[gnu::always_inline]] inline Vector<float> lost_by_square(Vector<float> x, Vector<float> square) {
#if defined(__AVX512F__)
  return _mm512_fmsub_ps(x, x, square);
#elif defined(__FMA__)
  return _mm256_fmsub_ps(x, x, square);
#elif defined(__aarch64__)
  return vfmaq_f32(-square, x, x);
#else
  const Vector<float> head = (Vector<float>)((Bits)x & 0xfffff000u);
  return (head * head - square) + (x - head) * (x + head);
#endif
}

/// x times the probability that a normal variable is below x. With t = |x| that is max(x, 0) - t * tail(t), and
/// tail(t) = exp(-t^2 / 2) * q(t), q smooth.
[[gnu::always_inline]] inline Vector<float> gelu(Vector<float> x) {
  const Vector<float> t = at_most(absolute(x), 13.2f);
  const Vector<float> square = t * t;
  Reduced reduced(square * -0.5f);
  reduced.r += lost_by_square(t, square) * -0.5f;
  constexpr float q[] = {0.13962166f, 0.13985756f,  0.11986309f, 0.10539212f, -0.02284336f,
                         0.15879644f, -0.25539088f, 0.14381835f, -0.029115f};
  const Vector<float> u = 1 / (t * 0.35f + 1);
  return at_least(x, 0.0f) - reduced.exp() * (t * u) * polynomial(u, q);
}

template <class Function>
inline Vector<double> lane_by_lane(Vector<double> x, const Function& function) {
  for (int64_t i = 0; i < lanes<double>; ++i) x[i] = function(x[i]);
  return x;
}
inline Vector<double> exp(Vector<double> x) {
  return lane_by_lane(x, [](double value) { return __builtin_exp(value); });
}
inline Vector<double> expm1_of_negative(Vector<double> x) {
  return lane_by_lane(x, [](double value) { return __builtin_expm1(value < 0 ? value : 0); });
}
inline Vector<double> log1p_of_fraction(Vector<double> x) {
  return lane_by_lane(x, [](double value) { return __builtin_log1p(value); });
}
inline Vector<double> tanh(Vector<double> x) {
  return lane_by_lane(x, [](double value) { return __builtin_tanh(value); });
}
inline Vector<double> gelu(Vector<double> x) {
  return lane_by_lane(x, [](double value) {
    const double below = 0.5 * __builtin_erfc(value * -0.70710678118654752440);
    return below == 0 ? 0 : value * below;
  });
}

/// 1 / (1 + exp(-x))
template <class V>
[[gnu::always_inline]] inline V sigmoid(V x) {
  return 1 / (exp(-x) + 1);
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
