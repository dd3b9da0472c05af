// What is normalized, and what happens to a normalized element before it is stored.
#pragma once

#include "moments.cuh"

namespace onnxnorm::cuda {

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }
__device__ inline float exponential_minus_one(float x) { return expm1f(x); }
__device__ inline double exponential_minus_one(double x) { return expm1(x); }
__device__ inline float logarithm_of_one_plus(float x) { return log1pf(x); }
__device__ inline double logarithm_of_one_plus(double x) { return log1p(x); }
__device__ inline float hyperbolic_tangent(float x) { return tanhf(x); }
__device__ inline double hyperbolic_tangent(double x) { return tanh(x); }
__device__ inline double complementary_error(double x) { return erfc(x); }
/// By a Chebyshev fit with a relative error of 1.2e-7 (Press et al., Numerical Recipes): erfcf ends in a subroutine.
__device__ inline float complementary_error(float x) {
  const float z = fabsf(x), t = ratio(1.0f, 1.0f + 0.5f * z);
  float fit = 0.17087277f;
  for (const float c : {-0.82215223f, 1.48851587f, -1.13520398f, 0.27886807f, -0.18628806f, 0.09678418f, 0.37409196f,
                        1.00002368f, -1.26551223f}) {
    fit = fit * t + c;
  }
  const float tail = t * expf(fit - z * z);
  return x < 0 ? 2.0f - tail : tail;
}

template <class C>
__device__ inline C sigmoid(C x) {
  return ratio(C(1), C(1) + exponential(-x));
}

/// x · gate; a gate that has closed stays closed for infinite x.
template <class C>
__device__ inline C gated(C x, C gate) {
  return gate == 0 ? C(0) : x * gate;
}

template <class C>
__device__ inline C elu(C x, C alpha) {
  return x > 0 ? x : alpha * exponential_minus_one(x);
}

/// Comparisons are written so that NaN stays NaN.
template <class C>
__device__ inline C clipped(C x, C low, C high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

template <class C>
__device__ inline C activated(C x, const Problem& problem) {
  const C first = as<C>(problem.parameters[0]), second = as<C>(problem.parameters[1]);
  switch (problem.activation) {
    case Activation::relu:
      return x < 0 ? C(0) : x;
    case Activation::clip:
      return clipped(x, first, second);
    case Activation::leaky_relu:
      return x < 0 ? first * x : x;
    case Activation::elu:
      return elu(x, first);
    case Activation::selu:
      return second * elu(x, first);
    case Activation::gelu:
      return gated(x, C(0.5) * complementary_error(x * C(-0.70710678118654752440)));
    case Activation::fast_gelu:
      return gated(x, sigmoid(C(1.59576912160573071) * (x + C(0.044715) * x * x * x)));
    case Activation::swish:
      return gated(x, first == 0 ? C(0.5) : sigmoid(first * x));
    case Activation::sigmoid:
      return sigmoid(x);
    case Activation::tanh:
      return hyperbolic_tangent(x);
    case Activation::softplus:
      return (x > 0 ? x : C(0)) + logarithm_of_one_plus(exponential(x > 0 ? -x : x));
    case Activation::hard_swish:
      return gated(x, clipped(x * C(1.0 / 6) + C(0.5), C(0), C(1)));
    default:
      return x;
  }
}

/// scale and bias of N neighbouring elements, which begin at a column of a row of X.
template <class T, int N>
struct Affine {
  Compute<T> scale[N];
  Compute<T> bias[N];

  __device__ Affine(const T* one_scale, const T* one_bias) { fill(widen(*one_scale), widen(*one_bias)); }

  __device__ Affine(const Problem& problem, int64_t row, int64_t column) {
    const T* const scales = static_cast<const T*>(problem.scale);
    const T* const biases = static_cast<const T*>(problem.bias);
    // The host keeps N at one where a vector would cross the end of the table or of an entry's reign.
    if (problem.period == 1) {
      fill(widen(scales[0]), widen(biases[0]));
      return;
    }
    auto position = static_cast<uint32_t>(column);
    if (problem.rows_per_cycle > 1) {
      const View& view = problem.view;
      const auto width = static_cast<uint32_t>(view.outer == 1 ? view.depth : view.groups * view.depth);
      position += static_cast<uint32_t>(row) % problem.rows_per_cycle * width;
    }
    if (problem.inner > 1) {
      const uint32_t entry = position / problem.inner % problem.period;
      fill(widen(scales[entry]), widen(biases[entry]));
      return;
    }
    const uint32_t entry = position % problem.period;
    const Pack<T, N> s = load<T, N>(scales + entry), b = load<T, N>(biases + entry);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      scale[i] = widen(s.values[i]);
      bias[i] = widen(b.values[i]);
    }
  }

 private:
  __device__ void fill(Compute<T> s, Compute<T> b) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      scale[i] = s;
      bias[i] = b;
    }
  }
};

/// N neighbouring elements of what is normalized: X, or the sum with the residual as it would be stored.
template <class T, int N>
__device__ inline Pack<T, N> input(const Problem& problem, int64_t index) {
  Pack<T, N> x = load<T, N>(static_cast<const T*>(problem.x) + index);
  if (problem.residual && problem.residual_first) {
    const Pack<T, N> residual = load<T, N>(static_cast<const T*>(problem.residual) + index);
#pragma unroll
    for (int i = 0; i < N; ++i) x.values[i] = Narrow<T>::from(widen(x.values[i]) + widen(residual.values[i]));
  }
  return x;
}

/// Stores N neighbouring elements of Y from their normalized values.
template <class T, int N>
__device__ inline void finish(const Problem& problem, int64_t index, const Compute<T>* normalized,
                              const Affine<T, N>& affine) {
  Compute<T> values[N];
#pragma unroll
  for (int i = 0; i < N; ++i) values[i] = normalized[i] * affine.scale[i] + affine.bias[i];
  if (problem.residual && !problem.residual_first) {
    const Pack<T, N> residual = load<T, N>(static_cast<const T*>(problem.residual) + index);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] += widen(residual.values[i]);
  }
  Pack<T, N> result;
#pragma unroll
  for (int i = 0; i < N; ++i) result.values[i] = Narrow<T>::from(activated(values[i], problem));
  store_global<T, N>(result, static_cast<T*>(problem.y) + index);
}

}  // namespace onnxnorm::cuda
