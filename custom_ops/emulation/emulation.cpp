#include "emulation.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulation {
namespace {

// ---- Fibers: a stack, and a switch from one stack to another.

constexpr size_t stack_bytes = 128 << 10;

class Stack {
 public:
  Stack() : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    memory_ =
        mmap(nullptr, stack_bytes + page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) throw std::runtime_error("no memory for the stack of an emulated thread");
    mprotect(memory_, page_, PROT_NONE);  // an overflow ends the process instead of another stack's data
  }
  ~Stack() { munmap(memory_, stack_bytes + page_); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  void* bottom() const { return static_cast<char*>(memory_) + page_; }

 private:
  size_t page_;
  void* memory_;
};

#if defined(__x86_64__)
/// What a switch leaves on the stack that it goes away from; the registers that a call preserves.
using Context = void*;

extern "C" void onnxnorm_emulation_switch(Context* from, Context to);
asm(R"(
.text
.globl onnxnorm_emulation_switch
.hidden onnxnorm_emulation_switch
.type onnxnorm_emulation_switch, @function
onnxnorm_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size onnxnorm_emulation_switch, .-onnxnorm_emulation_switch
)");

inline void switch_context(Context& from, Context& to) { onnxnorm_emulation_switch(&from, to); }

inline void prepare(Context& context, const Stack& stack, void (*entry)()) {
  void** top = reinterpret_cast<void**>(static_cast<char*>(stack.bottom()) + stack_bytes);
  *--top = nullptr;  // the return address of entry, which never returns: keeps the stack aligned as after a call
  *--top = reinterpret_cast<void*>(entry);
  top -= 6;
  std::fill(top, top + 6, nullptr);
  context = top;
}
#else
using Context = ucontext_t;

inline void switch_context(Context& from, Context& to) { swapcontext(&from, &to); }

inline void prepare(Context& context, const Stack& stack, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack.bottom();
  context.uc_stack.ss_size = stack_bytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}
#endif

// ---- A block: its fibers and where each of them waits.

enum class Waiting { nothing, for_block, for_warp, finished };

struct Fiber {
  Context context{};
  Place place{};
  Waiting waiting = Waiting::nothing;
  const char* site = nullptr;
  unsigned mask = 0;
  uint64_t value = 0;
  unsigned source = 0;
  uint64_t result = 0;
};

std::string text(const uint3& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

class Block {
 public:
  Block(std::vector<Stack>& stacks, dim3 grid, dim3 size, uint3 index, size_t dynamic_shared, size_t static_room,
        const std::function<void()>& kernel, uint64_t seed)
      : kernel_(kernel),
        fibers_(size.x * size.y * size.z),
        order_(fibers_.size()),
        random_(seed),
        static_room_(static_room) {
    dynamic_ = allocate(dynamic_shared);
    for (size_t i = 0; i < fibers_.size(); ++i) {
      const auto n = static_cast<unsigned>(i);
#if defined(__SANITIZE_ADDRESS__)
      ASAN_UNPOISON_MEMORY_REGION(stacks[i].bottom(), stack_bytes);  // frames that a fault left behind
#endif
      fibers_[i].place = {{n % size.x, n / size.x % size.y, n / (size.x * size.y)}, index, size, grid};
      prepare(fibers_[i].context, stacks[i], &Block::enter);
      order_[i] = i;
    }
    stacks_ = &stacks;
    if (settings().order == Order::reversed) std::reverse(order_.begin(), order_.end());
  }

  /// Empty, or what went wrong.
  std::string run() {
    Block* const outer = current;
    current = this;
    while (fault_.empty()) {
      if (settings().order == Order::shuffled) std::shuffle(order_.begin(), order_.end(), random_);
      bool ran = false;
      for (const size_t i : order_) {
        if (fibers_[i].waiting != Waiting::nothing) continue;
        ran = true;
        resume(i);
        if (!fault_.empty()) break;
      }
      if (!fault_.empty()) break;
      const bool released = release_warps() | release_block();
      if (!ran && !released) {
        if (std::all_of(fibers_.begin(), fibers_.end(),
                        [](const Fiber& f) { return f.waiting == Waiting::finished; })) {
          break;
        }
        describe_deadlock();
      }
    }
    current = outer;
    return fault_;
  }

  Fiber& running() { return fibers_[running_]; }

  void wait(Waiting what, const char* site) {
    running().waiting = what;
    running().site = site;
    leave();
  }

  [[noreturn]] void fail(const char* what, const char* site) {
    describe_fault(what, site);  // by a call of its own: what this frame holds is never destroyed
    for (;;) leave();
  }

  void* shared_at(const char* site, size_t bytes) {
    auto& memory = shared_[site];
    if (memory) return memory.get();
    if (bytes > static_room_) fail("more shared memory than the launch is permitted", site);
    static_room_ -= bytes;
    memory = allocate(bytes);
    return memory.get();
  }
  void* dynamic() { return dynamic_.get(); }

  static thread_local Block* current;

 private:
  static std::shared_ptr<void> allocate(size_t bytes) {
    // A piece of its own, so that the address sanitizer knows its ends.
    void* memory = std::aligned_alloc(128, (bytes + 127) / 128 * 128);
    std::memset(memory, 0xff, (bytes + 127) / 128 * 128);
    return {memory, std::free};
  }

  static void enter() {
    Block& block = *current;
    block.arrived();
    block.kernel_();
    block.running().waiting = Waiting::finished;
    for (;;) block.leave();
  }

  void resume(size_t index) {
    running_ = index;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&own_stack_, (*stacks_)[index].bottom(), stack_bytes);
    switch_context(scheduler_, fibers_[index].context);
    __sanitizer_finish_switch_fiber(own_stack_, nullptr, nullptr);
#else
    switch_context(scheduler_, fibers_[index].context);
#endif
  }

  void leave() {
#if defined(__SANITIZE_ADDRESS__)
    void* stack = nullptr;
    __sanitizer_start_switch_fiber(&stack, scheduler_bottom_, scheduler_bytes_);
    switch_context(running().context, scheduler_);
    __sanitizer_finish_switch_fiber(stack, &scheduler_bottom_, &scheduler_bytes_);
#else
    switch_context(running().context, scheduler_);
#endif
  }

  void arrived() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom_, &scheduler_bytes_);
#endif
  }

  bool release_block() {
    for (const Fiber& fiber : fibers_) {
      if (fiber.waiting != Waiting::for_block) return false;
      if (fiber.site != fibers_[0].site) {
        fault_ =
            std::string("threads of a block meet at different barriers: ") + fibers_[0].site + " and " + fiber.site;
        return false;
      }
    }
    for (Fiber& fiber : fibers_) fiber.waiting = Waiting::nothing;
    return true;
  }

  bool release_warps() {
    bool released = false;
    for (size_t first = 0; first < fibers_.size(); first += warp_size) {
      const size_t size = std::min<size_t>(warp_size, fibers_.size() - first);
      for (size_t i = 0; i < size; ++i) {
        if (fibers_[first + i].waiting == Waiting::for_warp) released |= release_lanes(&fibers_[first], size, i);
      }
    }
    return released;
  }

  /// Lets the lanes go on that wait together with lane `leader`, if all of its mask do.
  bool release_lanes(Fiber* warp, size_t size, size_t leader) {
    const unsigned mask = warp[leader].mask;
    for (size_t i = 0; i < warp_size; ++i) {
      if (!(mask >> i & 1u)) continue;
      if (i >= size) {
        // Lanes that a launch does not have take no part, as on the device.
        continue;
      }
      const Fiber& lane = warp[i];
      if (lane.waiting == Waiting::finished) {
        fault_ = std::string("a lane of the mask has left the kernel: ") + warp[leader].site;
        return false;
      }
      if (lane.waiting != Waiting::for_warp) return false;
      if (lane.site != warp[leader].site || lane.mask != mask) {
        fault_ =
            std::string("lanes of one mask meet in different exchanges: ") + warp[leader].site + " and " + lane.site;
        return false;
      }
    }
    for (size_t i = 0; i < size; ++i) {
      if (!(mask >> i & 1u)) continue;
      if (warp[i].source >= size || !(mask >> warp[i].source & 1u)) {
        fault_ = std::string("a shuffle reads a lane outside its mask: ") + warp[i].site;
        return false;
      } else {
        warp[i].result = warp[warp[i].source].value;
      }
    }
    for (size_t i = 0; i < size; ++i) {
      if (mask >> i & 1u) warp[i].waiting = Waiting::nothing;
    }
    return true;
  }

  void describe_fault(const char* what, const char* site) {
    const Place& at = running().place;
    fault_ = std::string(what) + " at " + site + ", thread " + text(at.thread) + " of block " + text(at.block);
  }

  void describe_deadlock() {
    if (!fault_.empty()) return;
    std::map<std::string, size_t> places;
    for (const Fiber& fiber : fibers_) {
      const char* what = fiber.waiting == Waiting::for_block  ? "at the barrier "
                         : fiber.waiting == Waiting::for_warp ? "in the exchange "
                                                              : "out of the kernel";
      places[what + std::string(fiber.waiting == Waiting::finished ? "" : fiber.site)] += 1;
    }
    fault_ = "threads wait for one another for ever:";
    for (const auto& [where, count] : places) fault_ += " " + std::to_string(count) + " " + where + ";";
  }

  const std::function<void()>& kernel_;
  std::vector<Fiber> fibers_;
  std::vector<size_t> order_;
  std::mt19937_64 random_;
  std::vector<Stack>* stacks_ = nullptr;
  size_t static_room_;
  std::map<std::string, std::shared_ptr<void>> shared_;
  std::shared_ptr<void> dynamic_;
  std::string fault_;
  Context scheduler_{};
  size_t running_ = 0;
#if defined(__SANITIZE_ADDRESS__)
  void* own_stack_ = nullptr;
  const void* scheduler_bottom_ = nullptr;
  size_t scheduler_bytes_ = 0;
#endif
};

thread_local Block* Block::current = nullptr;

constexpr size_t common_shared = 48 << 10;
thread_local size_t permitted_shared = 0;

}  // namespace

void allow_dynamic_shared(size_t bytes) { permitted_shared = bytes; }

Settings& settings() {
  static Settings value;
  return value;
}

const Place& place() { return Block::current->running().place; }

void launch(dim3 grid, dim3 block, size_t dynamic_shared, const std::function<void()>& kernel) {
  const size_t threads = size_t{block.x} * block.y * block.z;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  if (threads == 0 || threads > 1024 || blocks == 0 || grid.y > 65535 || grid.z > 65535) {
    throw std::runtime_error("invalid launch configuration: " + std::to_string(blocks) + " blocks of " +
                             std::to_string(threads) + " threads");
  }
  const size_t permitted = std::exchange(permitted_shared, 0);
  if (dynamic_shared > std::max(permitted, common_shared)) {
    throw std::runtime_error("more dynamic shared memory than is permitted: " + std::to_string(dynamic_shared));
  }
  const size_t static_room = permitted > 0 ? common_shared : common_shared - dynamic_shared;
  std::atomic<uint64_t> next{0};
  std::mutex mutex;
  std::string fault;
  const auto work = [&] {
    std::vector<Stack> stacks(threads);
    for (uint64_t b; (b = next++) < blocks;) {
      const uint64_t number = settings().order == Order::reversed ? blocks - 1 - b : b;
      const uint3 index{static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                        static_cast<unsigned>(number / grid.x / grid.y)};
      std::string found =
          Block(stacks, grid, block, index, dynamic_shared, static_room, kernel, settings().seed ^ number).run();
      if (found.empty()) continue;
      const std::lock_guard<std::mutex> lock(mutex);
      fault = std::move(found);
      next = blocks;
    }
  };
  std::vector<std::thread> workers;
  const uint64_t wanted = std::min<uint64_t>(std::max(1u, settings().workers), blocks);
  for (uint64_t w = 0; w < wanted; ++w) workers.emplace_back(work);
  for (std::thread& worker : workers) worker.join();
  if (!fault.empty()) throw std::runtime_error("emulated kernel: " + fault);
}

void block_barrier(const char* site) { Block::current->wait(Waiting::for_block, site); }

uint64_t warp_exchange(unsigned mask, uint64_t value, unsigned source, const char* site) {
  Block& block = *Block::current;
  Fiber& fiber = block.running();
  if (!(mask >> lane() & 1u)) block.fail("a lane outside the mask calls the exchange", site);
  fiber.mask = mask;
  fiber.value = value;
  fiber.source = source;
  block.wait(Waiting::for_warp, site);
  return fiber.result;
}

void* shared(const char* site, size_t bytes) { return Block::current->shared_at(site, bytes); }

void* dynamic_shared() { return Block::current->dynamic(); }

void fault(const char* what, const char* site) { Block::current->fail(what, site); }

}  // namespace emulation
