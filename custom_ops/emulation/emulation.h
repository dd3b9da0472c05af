// CUDA C++ on a CPU, for tests: the same .cu files compiled by a C++ compiler with ONNXNORM_EMULATION defined.
//
// A CUDA thread is a fiber, a block a set of fibers on one operating system thread. A fiber runs until it meets the
// others, at a barrier or in a warp's exchange, and which fiber runs next is the test's choice: forward, backward or
// shuffled. What the programming model leaves undefined is a fault that ends the launch with a message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulation {

enum class Order { forward, reversed, shuffled };

struct Settings {
  Order order = Order::forward;
  uint64_t seed = 0;     // of the shuffled order
  unsigned workers = 2;  // operating system threads that blocks are spread over
};

Settings& settings();

/// Runs a kernel for every thread of every block. Throws std::runtime_error on the first fault.
void launch(dim3 grid, dim3 block, size_t dynamic_shared, const std::function<void()>& kernel);

/// Permits the next launch of this thread as much dynamic shared memory. Without, a block's shared memory, static and
/// dynamic together, ends at 48 KB.
void allow_dynamic_shared(size_t bytes);

constexpr unsigned warp_size = 32;
constexpr unsigned full_mask = 0xffffffffu;

/// Where the running fiber stands.
struct Place {
  uint3 thread;
  uint3 block;
  dim3 block_dim;
  dim3 grid_dim;
};
const Place& place();

/// All threads of the block meet here, at this very line. `site` names the line.
void block_barrier(const char* site);

/// Lanes of the mask leave a value, and read the one of `source`, a lane's number; a lane outside the mask is a fault.
uint64_t warp_exchange(unsigned mask, uint64_t value, unsigned source, const char* site);
/// A shared array of the block, the same for all its threads, named by its site and filled with 0xff.
void* shared(const char* site, size_t bytes);
/// The dynamic shared memory of the launch, filled with 0xff.
void* dynamic_shared();

/// Ends the launch.
[[noreturn]] void fault(const char* what, const char* site);

/// A vector of `bytes` at an address of that alignment, or a fault.
inline void check_aligned(const void* address, size_t bytes, const char* site) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) fault("misaligned vector access", site);
}

template <class T>
inline uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "exchanges carry at most eight bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <class T>
inline T from_bits(uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

inline unsigned lane() {
  const Place& p = place();
  return (p.thread.x + p.block_dim.x * (p.thread.y + p.block_dim.y * p.thread.z)) % warp_size;
}

template <class T>
inline T shuffle(unsigned mask, T value, unsigned source, const char* site) {
  return from_bits<T>(warp_exchange(mask, to_bits(value), source, site));
}
/// Shuffles within sections of `width` lanes; a source outside the section is the lane itself.
template <class T>
inline T shuffle_xor(unsigned mask, T value, unsigned distance, unsigned width, const char* site) {
  const unsigned own = lane(), source = own ^ distance;
  return shuffle(mask, value, source / width == own / width ? source : own, site);
}
template <class T>
inline T shuffle_from(unsigned mask, T value, unsigned source, unsigned width, const char* site) {
  return shuffle(mask, value, lane() / width * width + source % width, site);
}

}  // namespace emulation

#define EMULATION_TEXT(x) #x
#define EMULATION_LINE(x) EMULATION_TEXT(x)
#define EMULATION_SITE __FILE__ ":" EMULATION_LINE(__LINE__)

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict

#define threadIdx (emulation::place().thread)
#define blockIdx (emulation::place().block)
#define blockDim (emulation::place().block_dim)
#define gridDim (emulation::place().grid_dim)

#define __syncthreads() emulation::block_barrier(EMULATION_SITE)
#define __shfl_sync(mask, value, source, width) \
  emulation::shuffle_from((mask), (value), (source), (width), EMULATION_SITE)
#define __shfl_xor_sync(mask, value, distance, width) \
  emulation::shuffle_xor((mask), (value), (distance), (width), EMULATION_SITE)
