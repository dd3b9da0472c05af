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
/// By 32 entries, for the last five bits of an integer.
struct Table {
  Vector<float> low;
  Vector<float> high;

  [[gnu::always_inline]] Vector<float> operator[](__m512i index) const {
    return _mm512_permutex2var_ps(low, index, high);
  }
};

/// x = n * log(2) + r, n the nearest thirty-second, for |x| below 2^15; exp(x) = 2^n * exp(r).
class Reduced {
 public:
  [[gnu::always_inline]] explicit Reduced(Vector<float> x) {
    // Adding 1.5 * 2^18 leaves the nearest thirty-second in the last bits.
    const Vector<float> shifted = x * 1.44269504f + 393216.0f;
    const Vector<float> n = shifted - 393216.0f;
    r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    index_ = (__m512i)shifted;
    power_ = _mm512_scalef_ps(powers[index_], n);
  }
  [[gnu::always_inline]] Vector<float> exp() const { return (r * polynomial(r, rising) + 1) * power_; }
  [[gnu::always_inline]] Vector<float> expm1() const {
    // Beside 1, what the table lost counts.
    return (r * polynomial(r, rising) + lost_by_powers[index_]) * power_ + (power_ - 1);
  }

  Vector<float> r;

 private:
  /// exp(r) = 1 + r * rising(r)
  static constexpr float rising[] = {1, 0.5f, 0.16666667f};
  /// 2^(i / 32), and by what share of its float it is larger.
  static constexpr Table powers = {
      {1, 1.0218972f, 1.0442737f, 1.0671405f, 1.0905077f, 1.1143868f, 1.1387886f, 1.1637249f, 1.1892071f, 1.2152474f,
       1.2418578f, 1.269051f, 1.2968396f, 1.3252367f, 1.3542556f, 1.38391f},
      {1.4142135f, 1.4451808f, 1.4768262f, 1.5091645f, 1.5422108f, 1.5759809f, 1.6104903f, 1.6457555f, 1.6817929f,
       1.7186193f, 1.7562522f, 1.7947091f, 1.8340081f, 1.8741677f, 1.9152066f, 1.9571441f}};
  static constexpr Table lost_by_powers = {
      {0, -4.7084576e-08f, 4.628547e-08f, -5.5604225e-08f, -1.19921575e-08f, -4.8776062e-08f, 4.7297824e-08f,
       -3.4814427e-08f, 3.193418e-08f, -2.6886665e-08f, 3.6210572e-08f, 1.118421e-09f, -3.099072e-08f, -2.638301e-08f,
       -7.475213e-09f, -4.2456357e-08f},
      {1.7114271e-08f, 2.3001967e-08f, -3.0476834e-08f, -1.6538538e-08f, 5.233334e-09f, -3.5920646e-08f, 6.1075918e-09f,
       -3.1140544e-08f, -1.4719605e-08f, -2.8218102e-08f, -5.258795e-09f, -6.3603873e-09f, -6.1282597e-09f,
       -2.4880409e-08f, 5.1406093e-09f, -8.697267e-09f}};

  __m512i index_;
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

/// exp(x); as good as 0 where that is no normal number.
[[gnu::always_inline]] inline Vector<float> exp(Vector<float> x) { return Reduced(clamp(x, -88.0f, 89.0f)).exp(); }

/// The same for x <= 0, and anything above.
[[gnu::always_inline]] inline Vector<float> exp_of_negative(Vector<float> x) {
  return Reduced(at_least(x, -88.0f)).exp();
}

/// exp(x) - 1 for x <= 0, and anything above.
[[gnu::always_inline]] inline Vector<float> expm1_of_negative(Vector<float> x) {
  return Reduced(at_least(x, -20.0f)).expm1();
}

/// log(1 + x) for 0 <= x <= 1.
[[gnu::always_inline]] inline Vector<float> log1p_of_fraction(Vector<float> x) {
  constexpr float share[] = {1,           -0.49999493f,  0.33319098f,  -0.24842982f, 0.19106007f, -0.13663244f,
                             0.07822594f, -0.029505232f, 0.0052326927f};
  return x * polynomial(x, share);
}

[[gnu::always_inline]] inline Vector<float> tanh(Vector<float> x) {
  const Vector<float> fall = expm1_of_negative(absolute(x) * -2.0f);
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
inline Vector<double> exp_of_negative(Vector<double> x) { return exp(x); }
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
