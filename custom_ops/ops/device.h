// What runs the operators: one kind of device for each execution provider of ONNX Runtime.
#pragma once

#include <memory>
#include <vector>

#include "normalization.h"
#include "ops/api.h"
#include "ops/geometry.h"

namespace onnxnorm {

struct Tensor {
  Shape shape;
  const void* data;
};

/// The device of one node.
class Device {
 public:
  virtual ~Device() = default;

  /// How many channels form a block in the layout in which ONNX Runtime keeps convolutions here; 0: there is none.
  virtual int64_t channel_block() const = 0;

  /// Runs a normalization, in which x and residual are still open: they are repeated to the shape of Y where theirs are
  /// smaller, all as they are stored. A residual without data is none.
  virtual void normalize(OrtKernelContext& context, const Tensor& x, const Tensor& residual, const Shape& y_shape,
                         Normalization normalization) const = 0;
};

struct Provider {
  const char* name;  // null: the CPU's
  std::unique_ptr<Device> (*device)(const OrtApi& api, const OrtKernelInfo& info);
};

/// Those that this library has operators for.
std::vector<Provider> providers();

std::unique_ptr<Device> cpu_device(const OrtApi& api, const OrtKernelInfo& info);
std::unique_ptr<Device> cuda_device(const OrtApi& api, const OrtKernelInfo& info);

}  // namespace onnxnorm
