#include "ops/operators.h"

#include <atomic>
#include <limits>
#include <string>

#include "normalization.h"
#include "ops/kernel.h"

namespace onnxnorm {
namespace {

const Operator& operator_of(const OrtCustomOp* op) { return *static_cast<const Operator*>(op); }

ONNXTensorElementDataType ORT_API_CALL element_type(const OrtCustomOp* op, size_t) {
  switch (operator_of(op).element) {
    case Element::float16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case Element::bfloat16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
    case Element::float64:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
    default:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  }
}

OrtStatus* ORT_API_CALL create_kernel(const OrtCustomOp* op, const OrtApi*, const OrtKernelInfo* info, void** kernel) {
  const Operator& self = operator_of(op);
  return guarded(self.api, [&] {
    *kernel = new Kernel(self.api, self.name, self.kind, self.element, *info, self.provider.device(self.api, *info));
  });
}

OrtStatus* ORT_API_CALL compute(void* kernel, OrtKernelContext* context) {
  const Kernel& self = *static_cast<const Kernel*>(kernel);
  return guarded(self.api(), [&] { self.compute(*context); });
}

void ORT_API_CALL destroy_kernel(void* kernel) { delete static_cast<Kernel*>(kernel); }

/// A name that no other dimension has. The API cannot leave an extent open: -1 is stored as a value, which ONNX Runtime
/// takes for a known extent, equal to every other -1, and reuses buffers by it.
std::string new_dimension_name() {
  static std::atomic<uint64_t> count{0};
  return "onnxnorm_unknown_" + std::to_string(count++);
}

/// An axis as shape inference knows it: an extent, or -1 and a name or none.
struct Extent {
  int64_t value;
  std::string name;
};

std::vector<Extent> extents_of(const OrtApi& api, const OrtTensorTypeAndShapeInfo* info) {
  size_t rank = 0;
  check(api, api.GetDimensionsCount(info, &rank));
  Shape shape(rank);
  std::vector<const char*> names(rank);
  check(api, api.GetDimensions(info, shape.data(), rank));
  check(api, api.GetSymbolicDimensions(info, names.data(), rank));
  std::vector<Extent> extents(rank);
  for (size_t d = 0; d < rank; ++d) {
    extents[d] = shape[d] >= 0 ? Extent{shape[d], {}} : Extent{-1, names[d] ? names[d] : ""};
  }
  return extents;
}

/// Extents that differ are left for the kernel to find, which knows the node's name.
Extent broadcast(const Extent& a, const Extent& b) {
  if (a.value == 1) return b;
  if (b.value == 1 || a.value >= 0) return a;
  if (b.value >= 0 || a.name == b.name) return b;
  return {-1, {}};
}

std::vector<Extent> broadcast(std::vector<Extent> longer, std::vector<Extent> shorter) {
  if (longer.size() < shorter.size()) longer.swap(shorter);
  const size_t leading = longer.size() - shorter.size();
  for (size_t d = 0; d < shorter.size(); ++d) longer[leading + d] = broadcast(longer[leading + d], shorter[d]);
  return longer;
}

/// Y is like X, or like X + residual.
OrtStatus* ORT_API_CALL infer_shape(const OrtCustomOp* op, OrtShapeInferContext* context) {
  const OrtApi& api = operator_of(op).api;
  return guarded(api, [&] {
    OrtTensorTypeAndShapeInfo* x = nullptr;  // the context's, as is the residual's
    check(api, api.ShapeInferContext_GetInputTypeShape(context, input_x, &x));
    ONNXTensorElementDataType element;
    check(api, api.GetTensorElementType(x, &element));
    std::vector<Extent> extents = extents_of(api, x);
    // A scalar and an unknown rank look the same: claiming a scalar would be wrong for the other.
    if (extents.empty()) return;
    size_t inputs = 0;
    check(api, api.ShapeInferContext_GetInputCount(context, &inputs));
    if (inputs > input_residual) {
      OrtTensorTypeAndShapeInfo* residual = nullptr;
      // An omitted one, with an empty name, has no type: releases of ONNX Runtime say so in different ways.
      OrtStatus* const status = api.ShapeInferContext_GetInputTypeShape(context, input_residual, &residual);
      if (status) api.ReleaseStatus(status);
      if (!status && residual) {
        const std::vector<Extent> others = extents_of(api, residual);
        if (others.empty()) return;
        extents = broadcast(extents, others);
      }
    }
    Shape shape;
    std::vector<const char*> names;
    for (Extent& extent : extents) {
      if (extent.value < 0 && extent.name.empty()) extent.name = new_dimension_name();
      shape.push_back(extent.value);
      names.push_back(extent.name.c_str());
    }
    OrtTensorTypeAndShapeInfo* created = nullptr;
    check(api, api.CreateTensorTypeAndShapeInfo(&created));
    const ShapeInfo y(created, {&api});
    check(api, api.SetTensorElementType(created, element));
    check(api, api.SetDimensions(created, shape.data(), shape.size()));
    check(api, api.SetSymbolicDimensions(created, names.data(), names.size()));
    check(api, api.ShapeInferContext_SetOutputTypeShape(context, 0, created));
  });
}

/// ONNX Runtime does so only where the shapes are the same, and the input has no other reader.
size_t ORT_API_CALL may_inplace(int** input_index, int** output_index) {
  static int inputs[] = {input_x, input_residual};
  static int outputs[] = {0, 0};
  *input_index = inputs;
  *output_index = outputs;
  return 2;
}

}  // namespace

Operator::Operator(const OrtApi& api, const Provider& provider, Kind kind, Element element, bool needs_residual)
    : OrtCustomOp{},
      api(api),
      provider(provider),
      kind(kind),
      element(element),
      needs_residual(needs_residual),
      name(std::string(needs_residual ? "Residual" : "") + name_of(kind)) {
  version = api_version;
  GetName = [](const OrtCustomOp* op) { return operator_of(op).name.c_str(); };
  GetExecutionProviderType = [](const OrtCustomOp* op) { return operator_of(op).provider.name; };
  GetInputType = element_type;
  GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return input_count; };
  GetOutputType = element_type;
  GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  GetInputCharacteristic = [](const OrtCustomOp* op, size_t index) {
    // Older files have a residual under the operator's plain name.
    const bool is_optional = index == input_residual && !operator_of(op).needs_residual;
    return is_optional ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
  };
  GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
  GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
  GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  CreateKernelV2 = create_kernel;
  KernelComputeV2 = compute;
  KernelDestroy = destroy_kernel;
  InferOutputShapeFn = infer_shape;
  GetStartVersion = [](const OrtCustomOp*) { return 1; };
  GetEndVersion = [](const OrtCustomOp*) { return std::numeric_limits<int>::max(); };
  GetMayInplace = may_inplace;
  ReleaseMayInplace = [](int*, int*) {};
}

std::vector<std::unique_ptr<Operator>> all_operators(const OrtApi& api) {
  std::vector<std::unique_ptr<Operator>> operators;
  for (const Provider& provider : providers()) {
    for (const Kind kind : all_kinds) {
      for (const Element element : {Element::float32, Element::float16, Element::bfloat16, Element::float64}) {
        for (const bool needs_residual : {false, true}) {
          operators.push_back(std::make_unique<Operator>(api, provider, kind, element, needs_residual));
        }
      }
    }
  }
  return operators;
}

}  // namespace onnxnorm
