// The C API of ONNX Runtime with errors as exceptions inside, and as statuses at the boundary.
#pragma once

#include <onnxruntime_c_api.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

namespace onnxnorm {

/// The lowest API that has all we use (in-place outputs are the latest), hence the one of the oldest runtime served.
constexpr uint32_t api_version = 18;

inline void check(const OrtApi& api, OrtStatus* status) {
  if (!status) return;
  const std::string message = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  throw std::runtime_error(message);
}

/// Runs what a callback does; no exception crosses the C boundary.
template <class Body>
OrtStatus* guarded(const OrtApi& api, const Body& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const std::invalid_argument& error) {
    return api.CreateStatus(ORT_INVALID_ARGUMENT, error.what());
  } catch (const std::exception& error) {
    return api.CreateStatus(ORT_FAIL, error.what());
  } catch (...) {
    return api.CreateStatus(ORT_FAIL, "onnxnorm: unknown error");
  }
}

struct ReleaseShapeInfo {
  const OrtApi* api;
  void operator()(OrtTensorTypeAndShapeInfo* info) const { api->ReleaseTensorTypeAndShapeInfo(info); }
};
using ShapeInfo = std::unique_ptr<OrtTensorTypeAndShapeInfo, ReleaseShapeInfo>;

struct ReleaseTypeInfo {
  const OrtApi* api;
  void operator()(OrtTypeInfo* info) const { api->ReleaseTypeInfo(info); }
};
using TypeInfo = std::unique_ptr<OrtTypeInfo, ReleaseTypeInfo>;

}  // namespace onnxnorm
