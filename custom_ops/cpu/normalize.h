// The one computation behind every operator of the domain, on the CPU.
#pragma once

#include <cstddef>

#include "normalization.h"

namespace onnxnorm::cpu {

/// Whoever lends the threads. `task` may be called from several threads at once, for each index exactly once, and
/// `run` returns when all calls have.
class Executor {
 public:
  virtual void run(size_t count, void (*task)(void* context, size_t index), void* context) = 0;

 protected:
  ~Executor() = default;
};

/// Results are bitwise the same whatever the executor: work is split by shape alone.
void normalize(const Normalization& normalization, Executor& executor);

}  // namespace onnxnorm::cpu
