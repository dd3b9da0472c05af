// Keeping this library in the process.
#pragma once

namespace onnxnorm {

/// Keeps this library loaded until the process ends. ONNX Runtime closes a library with the last session options that
/// registered it; loaded anew, the library would make its domain and operators once more, and those of before, which
/// sessions may still refer to, are never freed. False where the system refuses.
bool keep_loaded() noexcept;

}  // namespace onnxnorm
