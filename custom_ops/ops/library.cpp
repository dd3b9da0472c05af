// The one symbol that the library exports: ONNX Runtime calls it to register the operators with a session.
#include <map>
#include <mutex>

#include "cpu/isa.h"
#include "ops/api.h"
#include "ops/operators.h"
#include "ops/pinned.h"

namespace onnxnorm {

std::vector<Provider> providers() {
#ifdef ONNXNORM_CUDA
  return {{nullptr, cpu_device}, {"CUDAExecutionProvider", cuda_device}};
#else
  return {{nullptr, cpu_device}};
#endif
}

namespace {

/// Sessions refer to the domain and its operators for as long as they live, so these are never destroyed, and made once
/// in a process.
struct Domain {
  explicit Domain(const OrtApi& api) : operators(all_operators(api)) {
    check(api, api.CreateCustomOpDomain("onnxnorm", &handle));
    for (const auto& op : operators) check(api, api.CustomOpDomain_Add(handle, op.get()));
  }

  std::vector<std::unique_ptr<Operator>> operators;
  OrtCustomOpDomain* handle = nullptr;
};

/// One domain for each ONNX Runtime in the process, whatever the number of sessions.
OrtCustomOpDomain* domain_for(const OrtApi& api) {
  static std::mutex& mutex = *new std::mutex;
  static auto& domains = *new std::map<const OrtApi*, Domain*>;
  const std::lock_guard<std::mutex> lock(mutex);
  Domain*& domain = domains[&api];
  if (!domain) {
    // Without it the library works as well; a process that unloads it again and again grows.
    keep_loaded();
    domain = new Domain(api);
  }
  return domain->handle;
}

}  // namespace
}  // namespace onnxnorm

#ifdef _WIN32
#define ONNXNORM_EXPORT __declspec(dllexport)
#else
#define ONNXNORM_EXPORT __attribute__((visibility("default")))
#endif

/// The instruction set that the kernels on the CPU use, or why there is none.
extern "C" ONNXNORM_EXPORT const char* OnnxnormInstructionSet() noexcept {
  const onnxnorm::cpu::Isa& isa = onnxnorm::cpu::isa();
  return isa.kernels ? isa.name : isa.error.c_str();
}

extern "C" ONNXNORM_EXPORT OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options,
                                                                     const OrtApiBase* base) noexcept {
  using namespace onnxnorm;
  const OrtApi* api = base->GetApi(api_version);
  if (!api) {
    const std::string message = std::string("onnxnorm needs ONNX Runtime 1.") + std::to_string(api_version) +
                                " or later, this is " + base->GetVersionString();
    return base->GetApi(1)->CreateStatus(ORT_FAIL, message.c_str());
  }
  return guarded(*api, [&] {
    if (!cpu::isa().kernels) throw std::runtime_error("onnxnorm: " + cpu::isa().error);
    // A second registration with the same options would make ONNX Runtime refuse the session.
    constexpr const char* mark = "onnxnorm.registered";
    int registered = 0;
    check(*api, api->HasSessionConfigEntry(options, mark, &registered));
    if (registered) return;
    check(*api, api->AddCustomOpDomain(options, domain_for(*api)));
    check(*api, api->AddSessionConfigEntry(options, mark, "1"));
  });
}
