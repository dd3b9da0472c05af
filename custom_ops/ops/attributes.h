// The attributes of a node as ONNX Runtime gives them to its kernel.
#pragma once

#include "ops/api.h"
#include "ops/epilogue.h"
#include "ops/geometry.h"

namespace onnxnorm {

/// Throws std::invalid_argument when a node has an attribute of another operator of the domain, or of another type than
/// the operator takes. Names that no operator knows are not seen: the API does not list attributes.
void check_attribute_types(const OrtApi& api, Kind kind, const OrtKernelInfo& info);

/// Throws std::invalid_argument when a required attribute is missing.
Attributes read_attributes(const OrtApi& api, Kind kind, const OrtKernelInfo& info);

EpilogueAttributes read_epilogue(const OrtApi& api, const OrtKernelInfo& info);

}  // namespace onnxnorm
