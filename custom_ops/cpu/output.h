// Where normalized values go: into Y as they are or after what finishes them. Compiled once per instruction set: see
// kernels.cpp.
#pragma once

#include "element.h"
#include "kernels.h"
#include "vector.h"

namespace onnxnorm::cpu {
namespace ONNXNORM_ISA_NAMESPACE {
namespace {

/// Stores values as they are. `Y` is the storage type, or the compute type for values that wait to be finished.
template <class Y>
struct Plain {
  Y* y;

  /// The same from value i on.
  Plain from(int64_t i) const { return {y + i}; }
  template <class Extent>
  void put(Vector<Compute<Y>> value, int64_t i, Extent extent) const {
    store(value, y + i, extent);
  }
};

/// Finishes values by straight lines before it stores them.
template <class T, bool has_residual>
struct Lines {
  using C = Compute<T>;

  Lines(const Finish& finish, void* y, int64_t index)
      : y_(static_cast<T*>(y) + index),
        residual_(has_residual ? static_cast<const T*>(finish.residual) + index : nullptr),
        slope_(static_cast<C>(finish.slope)),
        low_(static_cast<C>(finish.low)),
        high_(static_cast<C>(finish.high)) {}

  /// The same from value i on.
  Lines from(int64_t i) const {
    Lines later = *this;
    later.y_ += i;
    if (has_residual) later.residual_ += i;
    return later;
  }
  template <class Extent>
  void put(Vector<C> value, int64_t i, Extent extent) const {
    if (has_residual) value += load(residual_ + i, extent, Vector<C>{});
    store(clamp(value < 0 ? value * slope_ : value, low_, high_), y_ + i, extent);
  }

 private:
  T* y_;
  const T* residual_;
  C slope_;
  C low_;
  C high_;
};

/// Calls body(sink) with what puts values straight into Y from flat index `index` on. False where they have to wait for
/// `finish.run`.
template <class T, class Body>
inline bool straight(const Finish* finish, void* y, int64_t index, const Body& body) {
  if (!finish) {
    body(Plain<T>{static_cast<T*>(y) + index});
  } else if (finish->run) {
    return false;
  } else if (finish->residual) {
    body(Lines<T, true>(*finish, y, index));
  } else {
    body(Lines<T, false>(*finish, y, index));
  }
  return true;
}

/// What a block of values that wait to be finished takes of the first-level cache.
constexpr int64_t waiting_bytes = 8 << 10;
template <class C>
constexpr int64_t most_waiting = waiting_bytes / static_cast<int64_t>(sizeof(C));

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
