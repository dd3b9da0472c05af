#include "ops/kernel.h"

#include <algorithm>

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

/// "operator 'node'", the start of every error.
std::string describe(const OrtApi& api, Kind kind, const OrtKernelInfo& info) {
  size_t size = 0;
  check(api, api.KernelInfo_GetNodeName(&info, nullptr, &size));
  std::string name(size, '\0');
  check(api, api.KernelInfo_GetNodeName(&info, name.data(), &size));
  name.resize(name.find('\0') == std::string::npos ? name.size() : name.find('\0'));
  return "onnxnorm." + std::string(name_of(kind)) + " node '" + name + "': ";
}

/// False when the node has no such attribute; the API reports that as any other error.
bool found(const OrtApi& api, OrtStatus* status) {
  if (!status) return true;
  api.ReleaseStatus(status);
  return false;
}

Attributes read_attributes(const OrtApi& api, Kind kind, const OrtKernelInfo& info) {
  Attributes attributes = defaults_of(kind);
  found(api, api.KernelInfoGetAttribute_float(&info, "epsilon", &attributes.epsilon));
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
  if (kind == Kind::group &&
      !found(api, api.KernelInfoGetAttribute_int64(&info, "num_groups", &attributes.num_groups))) {
    throw std::invalid_argument("the attribute num_groups is missing; accepted: an integer that divides the channels");
  }
  return attributes;
}

/// The shape of an input as far as the model tells it.
Shape known_shape(const OrtApi& api, const OrtKernelInfo& info, size_t index) {
  OrtTypeInfo* created = nullptr;
  check(api, api.KernelInfo_GetInputTypeInfo(&info, index, &created));
  const TypeInfo type(created, {&api});
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  check(api, api.CastTypeInfoToTensorInfo(type.get(), &tensor));
  if (!tensor) return {};
  size_t rank = 0;
  check(api, api.GetDimensionsCount(tensor, &rank));
  Shape shape(rank);
  check(api, api.GetDimensions(tensor, shape.data(), rank));
  return shape;
}

struct Tensor {
  Shape shape;
  const void* data;
};

Tensor input(const OrtApi& api, const OrtKernelContext& context, size_t index) {
  const OrtValue* value = nullptr;
  check(api, api.KernelContext_GetInput(&context, index, &value));
  OrtTensorTypeAndShapeInfo* created = nullptr;
  check(api, api.GetTensorTypeAndShape(value, &created));
  const ShapeInfo info(created, {&api});
  size_t rank = 0;
  check(api, api.GetDimensionsCount(created, &rank));
  Tensor tensor{Shape(rank), nullptr};
  check(api, api.GetDimensions(created, tensor.shape.data(), rank));
  void* data = nullptr;
  // The API has no read-only access to a tensor; nothing is written through this pointer.
  check(api, api.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  tensor.data = data;
  return tensor;
}

}  // namespace

Kernel::Kernel(const OrtApi& api, Kind kind, cpu::Element element, const OrtKernelInfo& info)
    : api_(api), kind_(kind), element_(element), node_(describe(api, kind, info)) {
  try {
    attributes_ = read_attributes(api, kind, info);
    check_attributes(kind, attributes_);
    const Shapes shapes{known_shape(api, info, 0), known_shape(api, info, 1), known_shape(api, info, 2)};
    check_known_shapes(kind, attributes_, shapes);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(node_ + error.what());
  }
}

void Kernel::compute(OrtKernelContext& context) const {
  const Tensor x = input(api_, context, 0);
  const Tensor scale = input(api_, context, 1);
  const Tensor bias = input(api_, context, 2);
  std::vector<cpu::Dimension> dimensions;
  try {
    dimensions = dimensions_of(kind_, attributes_, {x.shape, scale.shape, bias.shape});
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(node_ + error.what());
  }
  OrtValue* output = nullptr;
  check(api_, api_.KernelContext_GetOutput(&context, 0, x.shape.data(), x.shape.size(), &output));
  void* y = nullptr;
  check(api_, api_.GetTensorMutableData(output, &y));
  SessionThreads threads(api_, context);
  cpu::normalize(
      {element_, dimensions.data(), static_cast<int64_t>(dimensions.size()), divisor_of(kind_),
       subtracts_mean(kind_, attributes_), static_cast<double>(attributes_.epsilon), x.data, scale.data, bias.data, y},
      threads);
}

}  // namespace onnxnorm
