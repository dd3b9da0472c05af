// Axes in any order, element by element in double: slow, for sets of axes that no other kernel covers. Compiled once
// per instruction set: see kernels.cpp.
#pragma once

#include "element.h"
#include "kernels.h"
#include "output.h"
#include "vector.h"

namespace onnxnorm::cpu {
namespace ONNXNORM_ISA_NAMESPACE {
namespace {

struct Position {
  int64_t x;
  int64_t scale;
  int64_t bias;
};

/// Where the element is that has number `index` among the reduced (or the kept) dimensions.
inline Position locate(const Dimension* dimensions, int64_t rank, bool reduced, int64_t index) {
  Position position{0, 0, 0};
  int64_t stride = 1;
  for (int64_t d = rank - 1; d >= 0; --d) {
    const Dimension& dimension = dimensions[d];
    if (dimension.reduced == reduced) {
      const int64_t coordinate = index % dimension.extent;
      index /= dimension.extent;
      position.x += coordinate * stride;
      position.scale += coordinate * dimension.scale_stride;
      position.bias += coordinate * dimension.bias_stride;
    }
    stride *= dimension.extent;
  }
  return position;
}

template <class T>
inline double value(const void* values, int64_t index) {
  return static_cast<double>(value_at(static_cast<const T*>(values) + index));
}

template <class T>
void normalize_strided(const StridedTask& task) {
  const Normalization& from = *task.normalization;
  const Dimension* dimensions = from.dimensions;
  const int64_t rank = from.rank;
  int64_t count = 1;
  for (int64_t d = 0; d < rank; ++d) {
    if (dimensions[d].reduced) count *= dimensions[d].extent;
  }
  for (int64_t g = task.first_group; g < task.first_group + task.groups; ++g) {
    const Position group = locate(dimensions, rank, false, g);
    const auto value_of = [&](int64_t i) { return value<T>(from.x, group.x + locate(dimensions, rank, true, i).x); };
    const DoubleMap map = double_map_of(moments_in_double(count, value_of), *task.rule);
    for (int64_t i = 0; i < count; ++i) {
      const Position at = locate(dimensions, rank, true, i);
      const double normalized = map(value<T>(from.x, group.x + at.x));
      const double result =
          normalized * value<T>(from.scale, group.scale + at.scale) + value<T>(from.bias, group.bias + at.bias);
      const Compute<T> narrowed = static_cast<Compute<T>>(result);
      const int64_t index = group.x + at.x;
      const bool done = straight<T>(task.finish, from.y, index, {},
                                    [&](const auto& sink) { sink.put(broadcast(narrowed), 0, Part{1}); });
      if (!done) task.finish->run(*task.finish, &narrowed, index, 1, {}, 0, from.y);
    }
  }
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
