// Kernels with one planted fault each, run in the emulation: what it must find, and one kernel without a fault.
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "emulation.h"

namespace {

constexpr unsigned block_size = 256;

/// The sum of a block's values; `barrier` false leaves out the barrier between writing and reading.
void sum(const std::vector<float>& values, std::vector<float>& sums, bool barrier) {
  emulation::launch({static_cast<unsigned>(sums.size())}, {block_size}, 0, [&] {
    auto* const parts = static_cast<float*>(emulation::shared(EMULATION_SITE, block_size / 32 * sizeof(float)));
    float value = values[blockIdx.x * block_size + threadIdx.x];
    for (unsigned distance = 16; distance > 0; distance /= 2) {
      value += __shfl_xor_sync(emulation::full_mask, value, distance, 32);
    }
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
    if (barrier) __syncthreads();
    if (threadIdx.x != 0) return;
    float total = 0;
    for (unsigned w = 0; w < block_size / 32; ++w) total += parts[w];
    sums[blockIdx.x] = total;
  });
}

bool sums_are_right(bool barrier) {
  std::vector<float> values(8 * block_size), sums(8);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 97);
  sum(values, sums, barrier);
  for (size_t b = 0; b < sums.size(); ++b) {
    float expected = 0;
    for (size_t i = 0; i < block_size; ++i) expected += values[b * block_size + i];
    if (sums[b] != expected) return false;
  }
  return true;
}

void run(const std::string& name) {
  if (name == "none" || name == "missing_barrier") {
    if (!sums_are_right(name == "none")) throw std::runtime_error("wrong sums");
  } else if (name == "barrier_not_met_by_all") {
    emulation::launch({1}, {64}, 0, [] {
      if (threadIdx.x < 40) __syncthreads();
    });
  } else if (name == "different_barriers") {
    emulation::launch({1}, {64}, 0, [] {
      if (threadIdx.x < 32) {
        __syncthreads();
      } else {
        __syncthreads();
      }
    });
  } else if (name == "divergent_shuffle") {
    emulation::launch({1}, {32}, 0, [] {
      if (threadIdx.x % 2 == 0) return;
      __shfl_xor_sync(emulation::full_mask, 1.0f, 1, 32);
    });
  } else if (name == "shuffle_outside_mask") {
    emulation::launch({1}, {32}, 0, [] {
      if (threadIdx.x < 16) __shfl_sync(0xffffu, 1.0f, 20, 32);
    });
  } else if (name == "out_of_bounds") {
    std::vector<float> values(64);
    float* const data = values.data();
    emulation::launch({1}, {65}, 0, [=] { data[threadIdx.x] = 1; });
  } else if (name == "out_of_bounds_shared") {
    emulation::launch({1}, {65}, 64 * sizeof(float),
                      [] { static_cast<float*>(emulation::dynamic_shared())[threadIdx.x * 32] = 1; });
  } else if (name == "misaligned") {
    alignas(16) static float values[8];
    emulation::launch({1}, {1}, 0, [] { emulation::check_aligned(values + 1, 16, EMULATION_SITE); });
  } else if (name == "too_much_dynamic_shared") {
    emulation::launch({1}, {1}, (48 << 10) + 16, [] {});
  } else if (name == "too_much_shared") {
    emulation::launch({1}, {1}, 48 << 10, [] { emulation::shared(EMULATION_SITE, 16); });
  } else if (name == "permitted_shared") {
    emulation::allow_dynamic_shared(64 << 10);
    emulation::launch({1}, {1}, 64 << 10, [] { emulation::shared(EMULATION_SITE, 16); });
  } else if (name == "too_many_threads") {
    emulation::launch({1}, {1025}, 0, [] {});
  } else {
    throw std::runtime_error("no fault of this name");
  }
}

}  // namespace

/// Usage: faults NAME ORDER SEED
int main(int count, char** arguments) {
  if (count != 4) return 2;
  const std::string order = arguments[2];
  emulation::settings().order = order == "reversed"   ? emulation::Order::reversed
                                : order == "shuffled" ? emulation::Order::shuffled
                                                      : emulation::Order::forward;
  emulation::settings().seed = std::stoull(arguments[3]);
  try {
    run(arguments[1]);
  } catch (const std::runtime_error& error) {
    std::puts(error.what());
    return 1;
  }
  return 0;
}
