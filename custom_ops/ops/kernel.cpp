#include "ops/kernel.h"

#include "ops/attributes.h"
#include "ops/operators.h"

namespace onnxnorm {
namespace {

/// "operator 'node'", the start of every error.
std::string describe(const OrtApi& api, const std::string& op, const OrtKernelInfo& info) {
  size_t size = 0;
  check(api, api.KernelInfo_GetNodeName(&info, nullptr, &size));
  std::string name(size, '\0');
  check(api, api.KernelInfo_GetNodeName(&info, name.data(), &size));
  name.resize(name.find('\0') == std::string::npos ? name.size() : name.find('\0'));
  return "onnxnorm." + op + " node '" + name + "': ";
}

/// Whether the node has the input: an optional one may be left out by an empty name.
bool has_input(const OrtApi& api, const OrtKernelInfo& info, size_t index) {
  size_t count = 0, size = 0;
  check(api, api.KernelInfo_GetInputCount(&info, &count));
  if (index >= count) return false;
  check(api, api.KernelInfo_GetInputName(&info, index, nullptr, &size));
  return size > 1;  // with the terminator
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

/// The layout is the processor's: a file in another one would give wrong numbers.
void check_block(int64_t channel_block, int64_t of_device) {
  if (channel_block == 0 || channel_block == of_device) return;
  throw std::invalid_argument(
      "channel_block is " + std::to_string(channel_block) + ", " +
      (of_device ? "but ONNX Runtime keeps " + std::to_string(of_device) + " channels in a block on this CPU"
                 : "but this device has no such layout") +
      ": the model was optimized for another kind of CPU; make the file anew here with 'onnxnorm optimize --this-cpu'");
}

}  // namespace

Kernel::Kernel(const OrtApi& api, const std::string& name, Kind kind, Element element, const OrtKernelInfo& info,
               std::unique_ptr<Device> device)
    : api_(api), kind_(kind), element_(element), node_(describe(api, name, info)), device_(std::move(device)) {
  try {
    check_attribute_types(api, kind, info);
    attributes_ = read_attributes(api, kind, info);
    check_attributes(kind, attributes_);
    check_block(attributes_.channel_block, device_->channel_block());
    has_residual_ = has_input(api, info, input_residual);
    epilogue_ = epilogue_of(read_epilogue(api, info), has_residual_);
    Shapes shapes{known_shape(api, info, input_x), known_shape(api, info, input_scale),
                  known_shape(api, info, input_bias)};
    if (has_residual_) {
      const Shape residual = known_shape(api, info, input_residual);
      const bool known = !shapes.x.empty() && !residual.empty();
      const Shape sum = known ? broadcast(shapes.x, residual, attributes_.channel_block) : Shape{};
      if (epilogue_.residual_first) shapes.x = sum;
    }
    check_known_shapes(kind, attributes_, shapes);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(node_ + error.what());
  }
}

void Kernel::compute(OrtKernelContext& context) const {
  Tensor x = input(api_, context, input_x);
  const Tensor scale = input(api_, context, input_scale);
  const Tensor bias = input(api_, context, input_bias);
  Tensor residual = has_residual_ ? input(api_, context, input_residual) : Tensor{x.shape, nullptr};
  const int64_t block = attributes_.channel_block;
  Shape y_shape, stored_y;
  std::vector<Dimension> dimensions;
  try {
    y_shape = broadcast(x.shape, residual.shape, block);
    stored_y = stored_shape(y_shape, block);
    const Shape& normalized = epilogue_.residual_first ? y_shape : x.shape;
    dimensions = dimensions_of(kind_, attributes_, {normalized, scale.shape, bias.shape}, stored_y);
    for (Tensor* tensor : {&x, &residual}) tensor->shape = stored_shape(tensor->shape, block);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(node_ + error.what());
  }
  OrtValue* output = nullptr;
  check(api_, api_.KernelContext_GetOutput(&context, 0, y_shape.data(), y_shape.size(), &output));
  Normalization normalization{};
  normalization.element = element_;
  normalization.dimensions = dimensions.data();
  normalization.rank = static_cast<int64_t>(dimensions.size());
  normalization.divisor = divisor_of(kind_);
  normalization.subtract_mean = subtracts_mean(kind_, attributes_);
  normalization.epsilon = static_cast<double>(attributes_.epsilon);
  normalization.scale = scale.data;
  normalization.bias = bias.data;
  check(api_, api_.GetTensorMutableData(output, &normalization.y));
  normalization.activation = epilogue_.activation;
  normalization.parameters[0] = epilogue_.parameters[0];
  normalization.parameters[1] = epilogue_.parameters[1];
  normalization.residual_first = epilogue_.residual_first;
  device_->normalize(context, x, residual, stored_y, normalization);
}

}  // namespace onnxnorm
