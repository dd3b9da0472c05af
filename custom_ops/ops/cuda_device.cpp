#include <cuda_runtime_api.h>

#include <algorithm>

#include "cuda/normalize.h"
#include "ops/device.h"

namespace onnxnorm {
namespace {

void check_cuda(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("onnxnorm: CUDA: ") + cudaGetErrorString(error));
}

cuda::DeviceLimits limits_of_current_device() {
  int device = 0, multiprocessors = 0, shared = 0;
  check_cuda(cudaGetDevice(&device));
  check_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  check_cuda(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return {multiprocessors, shared};
}

struct ReleaseAllocator {
  const OrtApi* api;
  void operator()(OrtAllocator* allocator) const { api->ReleaseAllocator(allocator); }
};

class CudaDevice final : public Device {
 public:
  CudaDevice(const OrtApi& api, const OrtKernelInfo& info) : api_(api), limits_(limits_of_current_device()) {
    OrtAllocator* allocator = nullptr;
    check(api, api.KernelInfoGetAllocator(&info, OrtMemTypeDefault, &allocator));
    allocator_ = {allocator, ReleaseAllocator{&api}};
  }

  int64_t channel_block() const override { return 0; }

  void normalize(OrtKernelContext& context, const Tensor& x, const Tensor& residual, const Shape& y_shape,
                 Normalization normalization) const override {
    void* stream = nullptr;
    check(api_, api_.KernelContext_GetGPUComputeStream(&context, &stream));
    const Scratch full_x = expanded(context, x, y_shape, normalization.element, stream);
    const Scratch full_residual = expanded(context, residual, y_shape, normalization.element, stream);
    normalization.x = full_x ? full_x.get() : x.data;
    normalization.residual = full_residual ? full_residual.get() : residual.data;
    const cuda::Launches launches = cuda::launches_of(normalization, limits_);
    const Scratch partials = scratch(context, launches.scratch_bytes);
    cuda::enqueue(launches, partials.get(), stream);
    check_cuda(cudaGetLastError());
  }

 private:
  /// Memory of the session's arena, which hands it on to work that the same stream does later, and to no other before
  /// this work is done: so it may be given back at once.
  struct GiveBack {
    OrtAllocator* allocator;
    void operator()(void* memory) const { allocator->Free(allocator, memory); }
  };
  using Scratch = std::unique_ptr<void, GiveBack>;

  Scratch scratch(OrtKernelContext& context, int64_t bytes) const {
    void* memory = nullptr;
    if (bytes > 0) {
      const OrtMemoryInfo* place = nullptr;
      check(api_, api_.AllocatorGetInfo(allocator_.get(), &place));
      check(api_, api_.KernelContext_GetScratchBuffer(&context, place, static_cast<size_t>(bytes), &memory));
    }
    return {memory, GiveBack{allocator_.get()}};
  }

  Scratch expanded(OrtKernelContext& context, const Tensor& tensor, const Shape& shape, Element element,
                   void* stream) const {
    const bool is_empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
    if (!tensor.data || tensor.shape == shape || is_empty) return scratch(context, 0);
    int64_t bytes = element_size(element);
    for (const int64_t extent : shape) bytes *= extent;
    Scratch memory = scratch(context, bytes);
    if (memory) cuda::enqueue_expand(tensor.data, tensor.shape, shape, element, memory.get(), stream);
    return memory;
  }

  const OrtApi& api_;
  const cuda::DeviceLimits limits_;
  std::unique_ptr<OrtAllocator, ReleaseAllocator> allocator_;
};

}  // namespace

std::unique_ptr<Device> cuda_device(const OrtApi& api, const OrtKernelInfo& info) {
  return std::make_unique<CudaDevice>(api, info);
}

}  // namespace onnxnorm
