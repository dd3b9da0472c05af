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

/// How many channels form a block in ONNX Runtime's layout NCHWc on this CPU, whatever ONNXNORM_ISA says; 0 where that
/// is not known. As MlasNchwcGetBlockSize() of its source has it.
int64_t nchwc_block();

}  // namespace onnxnorm::cpu
