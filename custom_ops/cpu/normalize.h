// The one computation behind every operator of the domain, free of ONNX Runtime types.
#pragma once

#include <cstddef>
#include <cstdint>

namespace onnxnorm::cpu {

enum class Element { float32, float16, bfloat16, float64 };

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

/// y = (x - mean) / divisor * scale + bias, or without the mean, the moments being those over the reduced dimensions of
/// X for each position of the others. X and Y are dense and row-major over `dimensions`; Y may be X itself.
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
};

/// Whoever lends the threads. `task` may be called from several threads at once, for each index exactly once, and
/// `run` returns when all calls have.
class Executor {
 public:
  virtual void run(size_t count, void (*task)(void* context, size_t index), void* context) = 0;

 protected:
  ~Executor() = default;
};

/// Results are bitwise the same whatever the executor: work is split by shape alone.
void normalize(const Normalization& normalization, Executor& executor);

}  // namespace onnxnorm::cpu
