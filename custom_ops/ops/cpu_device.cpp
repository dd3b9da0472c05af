#include <algorithm>

#include "cpu/expand.h"
#include "cpu/isa.h"
#include "cpu/normalize.h"
#include "ops/device.h"

namespace onnxnorm {
namespace {

/// The session's own intra-op threads.
class SessionThreads final : public cpu::Executor {
 public:
  SessionThreads(const OrtApi& api, const OrtKernelContext& context) : api_(api), context_(context) {}

  void run(size_t count, void (*task)(void* context, size_t index), void* context) override {
    check(api_, api_.KernelContext_ParallelFor(&context_, task, count, 0, context));
  }

 private:
  const OrtApi& api_;
  const OrtKernelContext& context_;
};

/// A tensor's elements repeated to a larger shape, where it is larger.
class Expanded {
 public:
  Expanded(const Tensor& tensor, const Shape& shape, Element element) : data_(tensor.data) {
    const bool is_empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
    if (!tensor.data || tensor.shape == shape || is_empty) return;
    int64_t bytes = element_size(element);
    for (const int64_t extent : shape) bytes *= extent;
    copy_.reset(new char[static_cast<size_t>(bytes)]);
    cpu::expand(tensor.data, tensor.shape, shape, element_size(element), copy_.get());
    data_ = copy_.get();
  }

  const void* data() const { return data_; }

 private:
  const void* data_;
  std::unique_ptr<char[]> copy_;
};

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const OrtApi& api) : api_(api) {}

  int64_t channel_block() const override { return cpu::nchwc_block(); }

  void normalize(OrtKernelContext& context, const Tensor& x, const Tensor& residual, const Shape& y_shape,
                 Normalization normalization) const override {
    const Expanded full_x(x, y_shape, normalization.element), full_residual(residual, y_shape, normalization.element);
    normalization.x = full_x.data();
    normalization.residual = full_residual.data();
    SessionThreads threads(api_, context);
    cpu::normalize(normalization, threads);
  }

 private:
  const OrtApi& api_;
};

}  // namespace

std::unique_ptr<Device> cpu_device(const OrtApi& api, const OrtKernelInfo&) { return std::make_unique<CpuDevice>(api); }

}  // namespace onnxnorm
