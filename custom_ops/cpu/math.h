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
inline V polynomial(V x, const C (&c)[count]) {
  V sum = x * c[count - 1] + c[count - 2];
#pragma GCC unroll 16
  for (int64_t i = count - 3; i >= 0; --i) sum = sum * x + c[i];
  return sum;
}

template <class V>
inline V absolute(V x) {
  return x < 0 ? -x : x;
}

/// 2^n as a factor, for a normal result.
inline Vector<float> power_of_two(VectorTypes<float>::index n) { return (Vector<float>)((n + 127) << 23); }

/// x = n * log(2) + r with |r| at most half of log(2); then exp(r) - 1 = p.
struct Reduced {
  explicit Reduced(Vector<float> x, Vector<float> rest = Vector<float>{}) {
    // Adding 1.5 * 2^23 leaves the nearest integer in the last bits.
    const Vector<float> shifted = x * 1.44269504f + 12582912.0f;
    n = (VectorTypes<float>::index)shifted - 0x4b400000;
    const Vector<float> whole = shifted - 12582912.0f;
    const Vector<float> r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f + rest;
    constexpr float rising[] = {0.16666666f, 0.04166648f, 0.0083334204f, 0.0013933482f, 0.00019824035f};
    p = r + r * r * (r * polynomial(r, rising) + 0.5f);
  }

  VectorTypes<float>::index n;
  Vector<float> p;
};

/// exp(x + rest), `rest` small beside x.
inline Vector<float> exp(Vector<float> x, Vector<float> rest = Vector<float>{}) {
  x = x < -105.0f ? Vector<float>{} - 105.0f : x;
  x = x > 89.0f ? Vector<float>{} + 89.0f : x;
  const Reduced reduced(x, rest);
  // In two steps: 2^n itself may leave the range of normal numbers where the result does not.
  const VectorTypes<float>::index half = reduced.n >> 1;
  return (reduced.p + 1) * power_of_two(half) * power_of_two(reduced.n - half);
}

/// exp(x) - 1 for x <= 0.
inline Vector<float> expm1_of_negative(Vector<float> x) {
  const Reduced reduced(x < -20.0f ? Vector<float>{} - 20.0f : x);
  const Vector<float> power = power_of_two(reduced.n);
  return reduced.p * power + (power - 1);
}

/// log(1 + x) for 0 <= x <= 1: 2 * atanh(s) with s = x / (2 + x).
inline Vector<float> log1p_of_fraction(Vector<float> x) {
  constexpr float rising[] = {0.33333337f, 0.19999439f, 0.14308442f, 0.10713831f, 0.121504664f};
  const Vector<float> s = x / (x + 2);
  const Vector<float> square = s * s;
  const Vector<float> twice = s + s;
  return twice + twice * square * polynomial(square, rising);
}

inline Vector<float> tanh(Vector<float> x) {
  const Vector<float> fall = expm1_of_negative(-2 * absolute(x));
  const Vector<float> magnitude = -fall / (fall + 2);
  return x < 0 ? -magnitude : magnitude;
}

/// The probability that a normal variable is below x: exp(-x^2 / 2) * q(|x|) in the lower tail, q smooth.
inline Vector<float> normal_distribution(Vector<float> x) {
  const Vector<float> distance = absolute(x);
  const Vector<float> t = distance > 14.5f ? Vector<float>{} + 14.5f : distance;
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
  return lane_by_lane(x, [](double value) { return __builtin_expm1(value); });
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

/// 1 / (1 + exp(-x)), by the exponential that falls.
template <class V>
inline V sigmoid(V x) {
  const V fall = exp(-absolute(x));
  return (x < 0 ? fall : V{} + 1) / (fall + 1);
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
