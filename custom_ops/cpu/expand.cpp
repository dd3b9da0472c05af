#include "expand.h"

#include <algorithm>
#include <cstring>

namespace onnxnorm::cpu {
namespace {

/// One axis of both tensors; steps in bytes.
struct Axis {
  int64_t from_extent;
  int64_t to_extent;
  int64_t from_step;
  int64_t to_step;
};

void expand_axes(const Axis* axis, const Axis* end, const char* from, char* to, int64_t element_size) {
  const bool same = std::all_of(axis, end, [](const Axis& a) { return a.from_extent == a.to_extent; });
  if (same) {
    const int64_t bytes = axis == end ? element_size : axis->to_extent * axis->to_step;
    std::memcpy(to, from, static_cast<size_t>(bytes));
    return;
  }
  for (int64_t i = 0; i < axis->from_extent; ++i) {
    expand_axes(axis + 1, end, from + i * axis->from_step, to + i * axis->to_step, element_size);
  }
  for (int64_t i = axis->from_extent; i < axis->to_extent; ++i) {
    std::memcpy(to + i * axis->to_step, to, static_cast<size_t>(axis->to_step));
  }
}

}  // namespace

void expand(const void* from, const std::vector<int64_t>& from_shape, const std::vector<int64_t>& to_shape,
            int64_t element_size, void* to) {
  // The other extents of an empty tensor can have any product.
  if (std::find(to_shape.begin(), to_shape.end(), 0) != to_shape.end()) return;
  std::vector<Axis> axes(to_shape.size());
  int64_t from_step = element_size, to_step = element_size;
  for (size_t back = 1; back <= axes.size(); ++back) {
    const int64_t from_extent = back <= from_shape.size() ? from_shape[from_shape.size() - back] : 1;
    const int64_t to_extent = to_shape[axes.size() - back];
    axes[axes.size() - back] = {from_extent, to_extent, from_step, to_step};
    from_step *= from_extent;
    to_step *= to_extent;
  }
  expand_axes(axes.data(), axes.data() + axes.size(), static_cast<const char*>(from), static_cast<char*>(to),
              element_size);
}

}  // namespace onnxnorm::cpu
