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

/// exp(r) = (1 + r * rising(r)) for |r| up to half of log(2).
constexpr float rising[] = {1, 0.5f, 0.16666666f, 0.04166648f, 0.0083334204f, 0.0013933482f, 0.00019824035f};

/// x = n * log(2) + r with |r| at most half of log(2), for -88 <= x <= 89.
struct Reduced {
  [[gnu::always_inline]] explicit Reduced(Vector<float> x) {
    // Adding 1.5 * 2^23 leaves the nearest integer in the last bits.
    const Vector<float> shifted = x * 1.44269504f + 12582912.0f;
    const Vector<float> n = shifted - 12582912.0f;
    r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    power = (Vector<float>)(((Bits)shifted << 23) + 0x3f800000u);
  }

  Vector<float> r;
  Vector<float> power;  // 2^n; 0 for n = -127, infinite for n = 128
};

/// exp(x + rest), `rest` small beside x; 0 where that is no normal number.
[[gnu::always_inline]] inline Vector<float> exp(Vector<float> x, Vector<float> rest) {
  const Reduced reduced(clamp(x, -88.0f, 89.0f));
  const Vector<float> r = reduced.r + rest;
  return (r * polynomial(r, rising) + 1) * reduced.power;
}
[[gnu::always_inline]] inline Vector<float> exp(Vector<float> x) {
  const Reduced reduced(clamp(x, -88.0f, 89.0f));
  return (reduced.r * polynomial(reduced.r, rising) + 1) * reduced.power;
}

/// exp(x) - 1 for x <= 0, and 0 above.
[[gnu::always_inline]] inline Vector<float> expm1_of_negative(Vector<float> x) {
  const Reduced reduced(clamp(x, -20.0f, 0.0f));
  const Vector<float> scaled = reduced.r * reduced.power;
  return scaled * polynomial(reduced.r, rising) + (reduced.power - 1);
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
  return (Vector<float>)((Bits)(-fall / (fall + 2)) | sign);
}

/// The probability that a normal variable is below x: exp(-x^2 / 2) * q(|x|) in the lower tail, q smooth.
[[gnu::always_inline]] inline Vector<float> normal_distribution(Vector<float> x) {
  const Vector<float> t = clamp(absolute(x), 0.0f, 14.5f);
  // The square in two parts, the first one exact: what it lost would count as often as its size says.
  const Vector<float> head = (Vector<float>)((Bits)t & 0xfffff000u);
  const Vector<float> fall = exp(head * head * -0.5f, (t - head) * (t + head) * -0.5f);
  constexpr float tail[] = {0.11968669f,  0.1195718f,  0.1102355f,   0.07838929f,  0.0961579f,
                            -0.07942551f, 0.19178699f, -0.22821546f, 0.112436406f, -0.020623615f};
  const Vector<float> u = 1 / (t * 0.3f + 1);
  const Vector<float> below = fall * u * polynomial(u, tail);
  return x < 0 ? below : 1 - below;
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
inline Vector<double> normal_distribution(Vector<double> x) {
  return lane_by_lane(x, [](double value) { return 0.5 * __builtin_erfc(value * -0.70710678118654752440); });
}

/// 1 / (1 + exp(-x))
template <class V>
[[gnu::always_inline]] inline V sigmoid(V x) {
  return 1 / (exp(-x) + 1);
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
