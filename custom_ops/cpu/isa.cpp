#include "isa.h"

#include <cstdlib>
#include <cstring>

#ifdef ONNXNORM_X86_LEVELS
#include <cpuid.h>
#endif

namespace onnxnorm::cpu {

// Only those that the build compiles are there.
namespace baseline {
extern const KernelTable kernels;
}
namespace avx2 {
extern const KernelTable kernels;
}
namespace avx512 {
extern const KernelTable kernels;
}
namespace avx512_bf16 {
extern const KernelTable kernels;
}
namespace neon {
extern const KernelTable kernels;
}

namespace {

struct Level {
  const char* name;
  const KernelTable* kernels;
  bool available;
};

#ifdef ONNXNORM_X86_LEVELS
/// Half precision conversions, which clang's __builtin_cpu_supports does not know.
bool has_f16c() {
  unsigned eax, ebx, ecx = 0, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
#endif

Isa choose() {
#ifdef ONNXNORM_X86_LEVELS
  __builtin_cpu_init();
  // The features asked for here are those that the build enables for the level, no more and no fewer.
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool has_bf16 = has_avx512 && __builtin_cpu_supports("avx512bf16");
  const Level levels[] = {{"avx512_bf16", &avx512_bf16::kernels, has_bf16},
                          {"avx512", &avx512::kernels, has_avx512},
                          {"avx2", &avx2::kernels, has_avx2},
                          {"baseline", &baseline::kernels, true}};
#elif defined(ONNXNORM_NEON_LEVEL)
  // Every CPU of the architecture has it.
  const Level levels[] = {{"neon", &neon::kernels, true}};
#else
  const Level levels[] = {{"baseline", &baseline::kernels, true}};
#endif
  const char* wanted = std::getenv("ONNXNORM_ISA");
  std::string accepted;
  for (const Level& level : levels) {
    const bool named = wanted && *wanted && std::strcmp(wanted, level.name) == 0;
    if (level.available && (named || !wanted || !*wanted)) return {level.name, level.kernels, {}};
    if (named) {
      return {level.name, nullptr, "ONNXNORM_ISA=" + std::string(wanted) + ": this CPU does not have it"};
    }
    accepted += (accepted.empty() ? "" : ", ") + std::string(level.name);
  }
  return {"", nullptr, "ONNXNORM_ISA=" + std::string(wanted) + " is unknown; accepted: " + accepted};
}

}  // namespace

const Isa& isa() {
  static const Isa chosen = choose();
  return chosen;
}

int64_t nchwc_block() {
#ifdef ONNXNORM_X86_LEVELS
  __builtin_cpu_init();
  const bool has_avx512f =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx512f");
  return has_avx512f ? 16 : 8;
#else
  return 0;
#endif
}

}  // namespace onnxnorm::cpu
