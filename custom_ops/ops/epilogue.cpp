#include "ops/epilogue.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace onnxnorm {
namespace {

struct Known {
  const char* name;
  Activation activation;
  std::vector<const char*> parameters;
};

const std::vector<Known>& known_activations() {
  static const std::vector<Known> known = {{"Relu", Activation::relu, {}},
                                           {"Clip", Activation::clip, {"min", "max"}},
                                           {"LeakyRelu", Activation::leaky_relu, {"alpha"}},
                                           {"Elu", Activation::elu, {"alpha"}},
                                           {"Selu", Activation::selu, {"alpha", "gamma"}},
                                           {"Gelu", Activation::gelu, {}},
                                           {"FastGelu", Activation::fast_gelu, {}},
                                           {"Swish", Activation::swish, {"alpha"}},
                                           {"Sigmoid", Activation::sigmoid, {}},
                                           {"Tanh", Activation::tanh, {}},
                                           {"Softplus", Activation::softplus, {}},
                                           {"HardSwish", Activation::hard_swish, {}}};
  return known;
}

template <class Items, class Text>
std::string join(const Items& items, const Text& text) {
  std::string result;
  for (const auto& item : items) result += (result.empty() ? "" : ", ") + std::string(text(item));
  return result;
}

const Known& activation_named(const std::string& name) {
  for (const Known& known : known_activations()) {
    if (name == known.name) return known;
  }
  throw std::invalid_argument("activation is '" + name + "'; accepted: " +
                              join(known_activations(), [](const Known& known) { return known.name; }));
}

void read_activation(const EpilogueAttributes& attributes, Epilogue& epilogue) {
  const std::vector<float>& given = attributes.activation_params;
  const auto listed = [&] { return "[" + join(given, [](float value) { return std::to_string(value); }) + "]"; };
  if (attributes.activation.empty()) {
    if (given.empty()) return;
    throw std::invalid_argument("activation_params is " + listed() +
                                ", but there is no activation; accepted: the two together");
  }
  const Known& known = activation_named(attributes.activation);
  if (given.size() != known.parameters.size()) {
    throw std::invalid_argument("activation_params is " + listed() + " for the activation " + known.name +
                                "; accepted: [" + join(known.parameters, [](const char* name) { return name; }) + "]");
  }
  for (size_t i = 0; i < given.size(); ++i) {
    // Bounds may be infinite: a side that is open.
    if (std::isfinite(given[i]) || (known.activation == Activation::clip && !std::isnan(given[i]))) continue;
    throw std::invalid_argument("activation_params is " + listed() + " for the activation " + known.name +
                                "; accepted: " + (known.activation == Activation::clip ? "no NaN" : "finite numbers"));
  }
  epilogue.activation = known.activation;
  std::copy(given.begin(), given.end(), epilogue.parameters);
}

}  // namespace

Epilogue epilogue_of(const EpilogueAttributes& attributes, bool has_residual) {
  Epilogue epilogue;
  read_activation(attributes, epilogue);
  const std::string& stage = attributes.residual_stage;
  if (stage.empty()) return epilogue;
  if (stage != "input" && stage != "output") {
    throw std::invalid_argument("residual_stage is '" + stage + "'; accepted: input, output");
  }
  if (!has_residual) {
    throw std::invalid_argument("residual_stage is '" + stage +
                                "', but there is no residual; accepted: the two together");
  }
  epilogue.residual_first = stage == "input";
  return epilogue;
}

}  // namespace onnxnorm
