#include "problem.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace onnxnorm::cuda {
namespace {

/// Of a row of X. Groups that are not dense runs lie side by side in it.
int64_t width_of(const View& view) { return view.outer == 1 ? view.depth : view.groups * view.depth; }

/// False when scale and bias are not each a dense table of the same axes, or too large to be told in short numbers.
bool find_period(const std::vector<Dimension>& dimensions, Problem& problem) {
  const auto varies = [](const Dimension& d) { return d.scale_stride != 0 || d.bias_stride != 0; };
  const auto first = std::find_if(dimensions.begin(), dimensions.end(), varies);
  const auto last = std::find_if(dimensions.rbegin(), dimensions.rend(), varies).base();
  int64_t inner = 1, period = 1;
  for (auto d = last; d < dimensions.end(); ++d) inner *= d->extent;
  for (auto d = last; d > first; --d) {
    if (d[-1].scale_stride != period || d[-1].bias_stride != period) return false;
    period *= d[-1].extent;
  }
  if (period == 1) inner = 1;
  // One of the two divides the other, both being products of X's last extents.
  const int64_t width = width_of(problem.view), cycle = inner * period;
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  if (width > most || cycle > most || problem.view.batch * problem.view.outer > most) return false;
  problem.inner = static_cast<uint32_t>(inner);
  problem.period = static_cast<uint32_t>(period);
  problem.rows_per_cycle = static_cast<uint32_t>(std::max<int64_t>(1, cycle / width));
  return true;
}

[[noreturn]] void throw_too_many_axes() {
  throw std::invalid_argument("more than " + std::to_string(most_axes) +
                              " axes of which no two neighbours can be joined");
}

/// All axes, neighbours that behave alike as one.
Axes axes_of(const std::vector<Dimension>& dimensions) {
  Axes axes;
  int64_t stride = 1;
  for (const Dimension& d : dimensions) stride *= d.extent;
  for (const Dimension& d : dimensions) {
    stride /= d.extent;
    int at = axes.rank - 1;
    const bool joins = at >= 0 && axes.reduced[at] == d.reduced && axes.scale_stride[at] == d.scale_stride * d.extent &&
                       axes.bias_stride[at] == d.bias_stride * d.extent;
    if (!joins) {
      if (axes.rank == most_axes) {
        throw_too_many_axes();
      }
      at = axes.rank++;
      axes.reduced[at] = d.reduced;
      axes.extent[at] = 1;
    }
    axes.extent[at] *= d.extent;
    axes.x_stride[at] = stride;
    axes.scale_stride[at] = d.scale_stride;
    axes.bias_stride[at] = d.bias_stride;
  }
  return axes;
}

}  // namespace

Axes expanded_axes(const std::vector<int64_t>& from, const std::vector<int64_t>& to) {
  if (to.size() > most_axes) throw_too_many_axes();
  Axes axes;
  axes.rank = static_cast<int>(to.size());
  int64_t stride = 1;
  for (size_t back = 1; back <= to.size(); ++back) {
    const size_t d = to.size() - back;
    const int64_t extent = back <= from.size() ? from[from.size() - back] : 1;
    axes.extent[d] = to[d];
    axes.x_stride[d] = extent == 1 ? 0 : stride;
    stride *= extent;
  }
  return axes;
}

Posed pose(const Normalization& from) {
  std::vector<Dimension> dimensions;
  for (int64_t d = 0; d < from.rank; ++d) {
    if (from.dimensions[d].extent != 1) dimensions.push_back(from.dimensions[d]);
  }
  Posed posed;
  Problem& problem = posed.problem;
  problem.divisor = from.divisor;
  problem.subtract_mean = from.subtract_mean;
  problem.epsilon = from.epsilon;
  problem.activation = from.activation;
  std::copy(from.parameters, from.parameters + 2, problem.parameters);
  problem.x = from.x;
  problem.scale = from.scale;
  problem.bias = from.bias;
  problem.residual = from.residual;
  problem.residual_first = from.residual_first;
  problem.y = from.y;
  if (!view_of(from, problem.view) || !find_period(dimensions, problem)) posed.axes = axes_of(dimensions);
  return posed;
}

}  // namespace onnxnorm::cuda
