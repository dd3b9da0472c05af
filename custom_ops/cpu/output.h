// Where normalized values go: into Y as they are or after what finishes them. Compiled once per instruction set: see
// kernels.cpp.
#pragma once

#include "element.h"
#include "kernels.h"
#include "vector.h"

namespace onnxnorm::cpu {
namespace ONNXNORM_ISA_NAMESPACE {
namespace {

/// What a block of values that wait to be finished takes of the first-level cache.
constexpr int64_t waiting_bytes = 8 << 10;
template <class C>
constexpr int64_t most_waiting = waiting_bytes / static_cast<int64_t>(sizeof(C));

/// What is fetched where values follow one another up to flat index `end`. A residual, of which nothing has been read
/// before, comes from farther away than Y.
template <class T>
inline Ahead ahead_until(int64_t end) {
  return {(1 << 10) / static_cast<int64_t>(sizeof(T)), most_waiting<Compute<T>>, end};
}

/// Values in the compute type that wait to be finished.
template <class C>
struct Waiting {
  C* values;

  /// The same from value i on.
  Waiting from(int64_t i) const { return {values + i}; }
  template <class Extent>
  void put(Vector<C> value, int64_t i, Extent extent) const {
    store(value, values + i, extent);
  }
};

/// Y from flat index `index` on. Stores values as they are.
template <class T>
class Target {
 public:
  Target(void* y, int64_t index, const Ahead& ahead)
      : y_(static_cast<T*>(y) + index),
        written_(ahead.written),
        last_(reinterpret_cast<uintptr_t>(y) + (ahead.end - ahead.written) * static_cast<int64_t>(sizeof(T))) {}

  /// The same from value i on.
  Target from(int64_t i) const { return {y_ + i, written_, last_}; }
  template <class Extent>
  void put(Vector<Compute<T>> value, int64_t i, Extent extent) const {
    if (reinterpret_cast<uintptr_t>(y_ + i) < last_) __builtin_prefetch(y_ + i + written_, 1, 3);
    store(value, y_ + i, extent);
  }

 private:
  Target(T* y, int64_t written, uintptr_t last) : y_(y), written_(written), last_(last) {}

  T* y_;
  int64_t written_;
  uintptr_t last_;
};

/// Value i of a residual, of which what is added `read` elements later is fetched.
template <class T, class Extent>
inline Vector<Compute<T>> added(const T* residual, int64_t i, int64_t read, Extent extent) {
  __builtin_prefetch(place<T>(residual, i + read), 0, 2);
  return load(residual + i, extent, Vector<Compute<T>>{});
}

/// Finishes values by straight lines before it stores them.
template <class T, bool has_residual>
struct Lines {
  using C = Compute<T>;

  Lines(const Finish& finish, void* y, int64_t index, const Ahead& ahead)
      : target_(y, index, ahead),
        residual_(has_residual ? static_cast<const T*>(finish.residual) + index : nullptr),
        read_(ahead.read),
        slope_(static_cast<C>(finish.slope)),
        low_(static_cast<C>(finish.low)),
        high_(static_cast<C>(finish.high)) {}

  /// The same from value i on.
  Lines from(int64_t i) const {
    Lines later = *this;
    later.target_ = target_.from(i);
    if (has_residual) later.residual_ += i;
    return later;
  }
  template <class Extent>
  void put(Vector<C> value, int64_t i, Extent extent) const {
    if (has_residual) value += added(residual_, i, read_, extent);
    target_.put(clamp(value < 0 ? value * slope_ : value, low_, high_), i, extent);
  }

 private:
  Target<T> target_;
  const T* residual_;
  int64_t read_;
  C slope_;
  C low_;
  C high_;
};

/// Calls body(sink) with what puts values straight into Y from flat index `index` on. False where they have to wait for
/// `finish.run`.
template <class T, class Body>
inline bool straight(const Finish* finish, void* y, int64_t index, const Ahead& ahead, const Body& body) {
  if (!finish) {
    body(Target<T>(y, index, ahead));
  } else if (finish->run) {
    return false;
  } else if (finish->residual) {
    body(Lines<T, true>(*finish, y, index, ahead));
  } else {
    body(Lines<T, false>(*finish, y, index, ahead));
  }
  return true;
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
