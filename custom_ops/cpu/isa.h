// Which of the compiled instruction sets this process uses.
#pragma once

#include <string>

#include "kernels.h"

namespace onnxnorm::cpu {

/// Decided once: the best level that the CPU has, or the one that ONNXNORM_ISA names.
struct Isa {
  const char* name;
  const KernelTable* kernels;  // null when `error` says why there is none
  std::string error;
};

const Isa& isa();

}  // namespace onnxnorm::cpu
