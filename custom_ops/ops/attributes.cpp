#include "ops/attributes.h"

namespace onnxnorm {
namespace {

/// False when the node has no such attribute, or one of another type; the API reports both as any other error.
bool found(const OrtApi& api, OrtStatus* status) {
  if (!status) return true;
  api.ReleaseStatus(status);
  return false;
}

struct Known {
  const char* name;
  const char* type;  // as ONNX names it
  bool (*belongs_to)(Kind kind);
};

constexpr auto to_any = [](Kind) { return true; };

constexpr Known known_attributes[] = {
    {"axis", "INT", has_channels},
    {"num_groups", "INT", [](Kind kind) { return kind == Kind::group; }},
    {"channel_block", "INT", has_channels},
    {"axes", "INTS", [](Kind kind) { return !has_channels(kind); }},
    {"epsilon", "FLOAT", to_any},
    {"subtract_mean", "INT", [](Kind kind) { return kind == Kind::layer; }},
    {"stash_type", "INT", to_any},
    {"activation", "STRING", to_any},
    {"activation_params", "FLOATS", to_any},
    {"residual_stage", "STRING", to_any},
};

/// The type of an attribute that the node has; empty where it has none. A list without elements is of `expected`.
std::string type_of(const OrtApi& api, const OrtKernelInfo& info, const char* name, const std::string& expected) {
  int64_t integer = 0;
  float number = 0;
  size_t size = 0, integers = 0, numbers = 0;
  // ONNX Runtime takes an attribute of any type for a list, without elements where the type is not the list's.
  if (!found(api, api.KernelInfoGetAttributeArray_int64(&info, name, nullptr, &integers))) return {};
  if (found(api, api.KernelInfoGetAttribute_int64(&info, name, &integer))) return "INT";
  if (found(api, api.KernelInfoGetAttribute_float(&info, name, &number))) return "FLOAT";
  if (found(api, api.KernelInfoGetAttribute_string(&info, name, nullptr, &size))) return "STRING";
  if (integers > 0) return "INTS";
  found(api, api.KernelInfoGetAttributeArray_float(&info, name, nullptr, &numbers));
  if (numbers > 0) return "FLOATS";
  return expected.back() == 'S' ? expected : "of another type";
}

std::string accepted_attributes(Kind kind) {
  std::string names;
  for (const Known& known : known_attributes) {
    if (known.belongs_to(kind)) names += (names.empty() ? "" : ", ") + std::string(known.name);
  }
  return names;
}

std::string read_string(const OrtApi& api, const OrtKernelInfo& info, const char* name) {
  size_t size = 0;
  if (!found(api, api.KernelInfoGetAttribute_string(&info, name, nullptr, &size))) return {};
  std::string value(size, '\0');
  if (size > 0) check(api, api.KernelInfoGetAttribute_string(&info, name, value.data(), &size));
  return value.c_str();  // up to the terminator that the size counts
}

}  // namespace

void check_attribute_types(const OrtApi& api, Kind kind, const OrtKernelInfo& info) {
  for (const Known& known : known_attributes) {
    const std::string type = type_of(api, info, known.name, known.type);
    if (type.empty()) continue;
    const std::string attribute = "the attribute " + std::string(known.name);
    if (!known.belongs_to(kind)) {
      throw std::invalid_argument(attribute + " is not one of this operator; accepted: " + accepted_attributes(kind));
    }
    if (type != known.type) throw std::invalid_argument(attribute + " is " + type + "; accepted: " + known.type);
  }
}

Attributes read_attributes(const OrtApi& api, Kind kind, const OrtKernelInfo& info) {
  Attributes attributes = defaults_of(kind);
  found(api, api.KernelInfoGetAttribute_float(&info, "epsilon", &attributes.epsilon));
  found(api, api.KernelInfoGetAttribute_int64(&info, "stash_type", &attributes.stash_type));
  if (kind == Kind::layer)
    found(api, api.KernelInfoGetAttribute_int64(&info, "subtract_mean", &attributes.subtract_mean));
  if (!has_channels(kind)) {
    size_t size = 0;
    if (found(api, api.KernelInfoGetAttributeArray_int64(&info, "axes", nullptr, &size))) {
      attributes.axes.resize(size);
      if (size > 0) check(api, api.KernelInfoGetAttributeArray_int64(&info, "axes", attributes.axes.data(), &size));
    }
    return attributes;
  }
  found(api, api.KernelInfoGetAttribute_int64(&info, "axis", &attributes.axis));
  found(api, api.KernelInfoGetAttribute_int64(&info, "channel_block", &attributes.channel_block));
  if (kind == Kind::group &&
      !found(api, api.KernelInfoGetAttribute_int64(&info, "num_groups", &attributes.num_groups))) {
    throw std::invalid_argument("the attribute num_groups is missing; accepted: an integer that divides the channels");
  }
  return attributes;
}

EpilogueAttributes read_epilogue(const OrtApi& api, const OrtKernelInfo& info) {
  EpilogueAttributes attributes;
  attributes.activation = read_string(api, info, "activation");
  attributes.residual_stage = read_string(api, info, "residual_stage");
  size_t size = 0;
  if (found(api, api.KernelInfoGetAttributeArray_float(&info, "activation_params", nullptr, &size)) && size > 0) {
    std::vector<float>& values = attributes.activation_params;
    values.resize(size);
    check(api, api.KernelInfoGetAttributeArray_float(&info, "activation_params", values.data(), &size));
  }
  return attributes;
}

}  // namespace onnxnorm
