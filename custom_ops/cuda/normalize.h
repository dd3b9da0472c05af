// The one computation behind every operator of the domain, on a CUDA device.
#pragma once

#include <cstdint>
#include <vector>

#include "plan.h"

namespace onnxnorm::cuda {

/// A normalization with its launches chosen: made on the host, before scratch memory is asked for.
struct Launches {
  Element element;
  bool nothing = false;  // X is empty
  Posed posed;
  Plan plan;  // not used where the axes are
  int64_t scratch_bytes = 0;
  int64_t most_shared = 0;  // bytes of dynamic shared memory that the device has for a block
};

Launches launches_of(const Normalization& normalization, const DeviceLimits& device);

/// Enqueues the kernels in a cudaStream_t; the scratch memory is theirs until the stream has passed them.
void enqueue(const Launches& launches, void* scratch, void* stream);

/// Fills the dense tensor `to` of `to_shape`, as the ONNX operator Expand does. The shape of `from` broadcasts to it.
void enqueue_expand(const void* from, const std::vector<int64_t>& from_shape, const std::vector<int64_t>& to_shape,
                    Element element, void* to, void* stream);

}  // namespace onnxnorm::cuda
