// A tensor repeated along the axes that it broadcasts along.
#pragma once

#include <cstdint>
#include <vector>

namespace onnxnorm::cpu {

/// Fills the dense tensor `to` of `to_shape`, as the ONNX operator Expand does. The shape of `from` broadcasts to it.
void expand(const void* from, const std::vector<int64_t>& from_shape, const std::vector<int64_t>& to_shape,
            int64_t element_size, void* to);

}  // namespace onnxnorm::cpu
