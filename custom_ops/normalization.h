// What every operator of the domain computes, as a record: free of ONNX Runtime, and the same for every device.
#pragma once

#include <cstdint>

namespace onnxnorm {

enum class Element { float32, float16, bfloat16, float64 };

/// In bytes.
int64_t element_size(Element element);

/// One axis of X. A stride of 0 broadcasts scale or bias along it.
struct Dimension {
  int64_t extent;
  bool reduced;
  int64_t scale_stride;
  int64_t bias_stride;
};

/// What the elements of a group are divided by, with `n` of them.
enum class Divisor {
  deviation,         // sqrt(variance + epsilon)
  root_mean_square,  // sqrt(variance + mean^2 + epsilon)
  length,            // sqrt(max(n * (variance + mean^2), epsilon))
};

enum class Activation {
  none,
  relu,
  clip,        // [min, max]
  leaky_relu,  // [alpha]
  elu,         // [alpha]
  selu,        // [alpha, gamma]
  gelu,        // x * erfc(-x / sqrt(2)) / 2
  fast_gelu,   // x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2
  swish,       // [alpha]: x * sigmoid(alpha * x)
  sigmoid,
  tanh,
  softplus,
  hard_swish,
};
constexpr int activation_count = static_cast<int>(Activation::hard_swish) + 1;

/// y = activation((x - mean) / divisor * scale + bias + residual), or without subtracting the mean, the moments being
/// those over the reduced dimensions of X for each position of the others. With `residual_first` the residual is added
/// to X instead, and the sum rounded to the element type. X, the residual and Y are dense and row-major over
/// `dimensions`; Y may be X or the residual.
struct Normalization {
  Element element;
  const Dimension* dimensions;
  int64_t rank;
  Divisor divisor;
  bool subtract_mean;
  double epsilon;
  const void* x;
  const void* scale;
  const void* bias;
  void* y;
  Activation activation;
  double parameters[2];  // of the activation
  const void* residual;  // null: none
  bool residual_first;
};

/// X as (batch, outer, groups, depth), row-major: statistics over outer x depth for each batch and group.
struct View {
  int64_t batch = 1;
  int64_t outer = 1;
  int64_t groups = 1;
  int64_t depth = 1;
};

/// False when reduced and kept dimensions alternate more often than a View can.
bool view_of(const Normalization& normalization, View& view);

}  // namespace onnxnorm
