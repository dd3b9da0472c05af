#include "ops/pinned.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace onnxnorm {
namespace {

/// An address inside this library.
const char here = 0;

}  // namespace

#ifdef _WIN32
bool keep_loaded() noexcept {
  HMODULE library = nullptr;
  return GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, &here, &library) !=
         0;
}
#else
bool keep_loaded() noexcept {
  Dl_info library{};
  if (dladdr(&here, &library) == 0) return false;
  // RTLD_NOLOAD: the file of that name may be another one by now.
  return dlopen(library.dli_fname, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD | RTLD_NODELETE) != nullptr;
}
#endif

}  // namespace onnxnorm
