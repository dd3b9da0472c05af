// The operators as ONNX Runtime sees them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/api.h"
#include "ops/device.h"
#include "ops/geometry.h"

namespace onnxnorm {

enum Input : size_t { input_x, input_scale, input_bias, input_residual, input_count };

/// One operator of one execution provider for one element type; ONNX Runtime calls back through the function pointers
/// of the base.
struct Operator : OrtCustomOp {
  /// `needs_residual`: the operator whose fourth input has to be there, under a name of its own.
  Operator(const OrtApi& api, const Provider& provider, Kind kind, Element element, bool needs_residual);

  const OrtApi& api;
  const Provider provider;
  const Kind kind;
  const Element element;
  const bool needs_residual;
  const std::string name;
};

/// Every operator of the domain for every provider and element type.
std::vector<std::unique_ptr<Operator>> all_operators(const OrtApi& api);

}  // namespace onnxnorm
