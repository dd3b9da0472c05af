// One node of a session: its attributes, and what it does with its inputs.
#pragma once

#include <string>

#include "ops/api.h"
#include "ops/device.h"
#include "ops/epilogue.h"
#include "ops/geometry.h"

namespace onnxnorm {

class Kernel {
 public:
  /// Reads and checks what is known of the node before it runs; throws with the node's name.
  Kernel(const OrtApi& api, const std::string& name, Kind kind, Element element, const OrtKernelInfo& info,
         std::unique_ptr<Device> device);

  void compute(OrtKernelContext& context) const;

  const OrtApi& api() const { return api_; }

 private:
  const OrtApi& api_;
  const Kind kind_;
  const Element element_;
  std::string node_;
  std::unique_ptr<Device> device_;
  Attributes attributes_;
  Epilogue epilogue_;
  bool has_residual_ = false;
};

}  // namespace onnxnorm
