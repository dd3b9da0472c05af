// What the attributes of the optimized form mean: the activation and the residual that a node has swallowed.
#pragma once

#include <string>
#include <vector>

#include "normalization.h"

namespace onnxnorm {

/// As the node has them; empty where it does not.
struct EpilogueAttributes {
  std::string activation;
  std::vector<float> activation_params;
  std::string residual_stage;
};

struct Epilogue {
  Activation activation = Activation::none;
  double parameters[2] = {0, 0};
  bool residual_first = false;
};

/// Throws std::invalid_argument when the attributes are unknown or do not fit one another.
Epilogue epilogue_of(const EpilogueAttributes& attributes, bool has_residual);

}  // namespace onnxnorm
