#include "ops/geometry.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace onnxnorm {
namespace {

std::string text(int64_t value) { return std::to_string(value); }

std::string list(const std::vector<int64_t>& values) {
  std::string result = "[";
  for (size_t i = 0; i < values.size(); ++i) result += (i ? ", " : "") + text(values[i]);
  return result + "]";
}

int64_t rank_of(const Shape& shape) { return static_cast<int64_t>(shape.size()); }

bool can_equal(int64_t extent, int64_t other) { return extent < 0 || other < 0 || extent == other; }

/// The channel axis, counted from the front.
int64_t channel_axis(int64_t axis, const Shape& x) {
  const int64_t rank = rank_of(x);
  if (rank < 2) throw std::invalid_argument("X has shape " + to_string(x) + "; accepted: rank 2 or more");
  const int64_t from_front = axis < 0 ? axis + rank : axis;
  if (from_front < 1 || from_front >= rank) {
    throw std::invalid_argument("axis is " + text(axis) + " for X of shape " + to_string(x) + "; accepted: 1 to " +
                                text(rank - 1) + " or " + text(1 - rank) + " to -1 (axis 0 is the batch)");
  }
  return from_front;
}

/// Channels per group; without channels there are no groups.
int64_t group_depth(Kind kind, const Attributes& attributes, int64_t channels) {
  const int64_t groups = kind == Kind::group ? attributes.num_groups : channels;
  return groups == 0 ? 0 : channels / groups;
}

void check_blocks(Kind kind, const Attributes& attributes, const Shape& x, int64_t channels) {
  const int64_t block = attributes.channel_block, depth = group_depth(kind, attributes, channels);
  if (channels % block == 0 && (block % depth == 0 || depth % block == 0)) return;
  throw std::invalid_argument("channel_block is " + text(block) + " for " + text(channels) + " channels in groups of " +
                              text(depth) + " (axis 1 of X of shape " + to_string(x) +
                              "); accepted: a divisor of the channels that divides the group or is a multiple of it");
}

void check_channels(Kind kind, const Attributes& attributes, const Shapes& shapes) {
  const int64_t axis = channel_axis(attributes.axis, shapes.x);
  const int64_t channels = shapes.x[static_cast<size_t>(axis)];
  if (kind == Kind::group && channels >= 0 && channels % attributes.num_groups != 0) {
    throw std::invalid_argument("num_groups is " + text(attributes.num_groups) + ", but X of shape " +
                                to_string(shapes.x) + " has " + text(channels) + " channels on axis " + text(axis) +
                                "; accepted: a divisor of " + text(channels));
  }
  if (attributes.channel_block > 0 && channels > 0) check_blocks(kind, attributes, shapes.x, channels);
  const auto check = [&](const char* name, const Shape& shape) {
    if (rank_of(shape) == 1 && can_equal(shape[0], channels)) return;
    const std::string wanted = channels < 0 ? "rank 1" : "[" + text(channels) + "]";
    throw std::invalid_argument(std::string(name) + " has shape " + to_string(shape) + "; accepted: " + wanted +
                                ", one value for each channel of X (axis " + text(axis) + " of shape " +
                                to_string(shapes.x) + ")");
  };
  check("scale", shapes.scale);
  check("bias", shapes.bias);
}

std::vector<bool> reduced_axes(const std::vector<int64_t>& axes, const Shape& x) {
  const int64_t rank = rank_of(x);
  if (rank < 1) throw std::invalid_argument("X is a scalar; accepted: rank 1 or more");
  std::vector<bool> reduced(x.size(), false);
  for (const int64_t axis : axes) {
    const int64_t from_front = axis < 0 ? axis + rank : axis;
    if (from_front < 0 || from_front >= rank) {
      throw std::invalid_argument("axes is " + list(axes) + " for X of shape " + to_string(x) +
                                  "; accepted: " + text(-rank) + " to " + text(rank - 1));
    }
    if (reduced[static_cast<size_t>(from_front)]) {
      throw std::invalid_argument("axes is " + list(axes) + " and names axis " + text(from_front) + " of X of shape " +
                                  to_string(x) + " twice; accepted: distinct axes");
    }
    reduced[static_cast<size_t>(from_front)] = true;
  }
  return reduced;
}

void check_broadcast(const char* name, const Shape& shape, const Shape& x) {
  bool fits = shape.size() <= x.size();
  for (size_t back = 1; fits && back <= shape.size(); ++back) {
    const int64_t extent = shape[shape.size() - back];
    fits = extent == 1 || can_equal(extent, x[x.size() - back]);
  }
  if (fits) return;
  throw std::invalid_argument(std::string(name) + " has shape " + to_string(shape) +
                              "; accepted: what broadcasts to the shape " + to_string(x) + " of X");
}

void check_shapes(Kind kind, const Attributes& attributes, const Shapes& shapes) {
  if (!has_channels(kind)) {
    reduced_axes(attributes.axes, shapes.x);
    check_broadcast("scale", shapes.scale, shapes.x);
    check_broadcast("bias", shapes.bias, shapes.x);
  } else {
    check_channels(kind, attributes, shapes);
  }
}

/// Element strides of a dense tensor along the axes of X, 0 where it broadcasts.
std::vector<int64_t> broadcast_strides(const Shape& shape, const Shape& x) {
  std::vector<int64_t> strides(x.size(), 0);
  int64_t stride = 1;
  for (size_t back = 1; back <= shape.size(); ++back) {
    const int64_t extent = shape[shape.size() - back];
    if (extent != 1) strides[x.size() - back] = stride;
    stride *= extent;
  }
  return strides;
}

/// Channels in blocks, of which each is several groups, or several are a group.
std::vector<Dimension> blocked_dimensions(Kind kind, const Attributes& attributes, const Shape& x,
                                          const Shape& stored_y) {
  const int64_t block = attributes.channel_block;
  const int64_t depth = std::max<int64_t>(1, group_depth(kind, attributes, x[1]));
  const int64_t shared = std::min(block, depth), larger = std::max(block, depth);
  std::vector<Dimension> dimensions = {
      {stored_y[0], false, 0, 0}, {x[1] / larger, false, larger, larger}, {depth / shared, true, block, block}};
  for (size_t d = 2; d < x.size(); ++d) dimensions.push_back({stored_y[d], x[d] == stored_y[d], 0, 0});
  dimensions.push_back({block / shared, false, depth, depth});
  dimensions.push_back({shared, true, 1, 1});
  return dimensions;
}

}  // namespace

std::string to_string(const Shape& shape) {
  std::string result = "[";
  for (size_t d = 0; d < shape.size(); ++d) {
    result += (d ? ", " : "") + (shape[d] < 0 ? std::string("?") : text(shape[d]));
  }
  return result + "]";
}

Shape stored_shape(const Shape& shape, int64_t channel_block) {
  if (channel_block == 0 || rank_of(shape) < 2) return shape;
  Shape stored = shape;
  stored[1] /= channel_block;
  stored.push_back(channel_block);
  return stored;
}

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::group:
      return "GroupNormalization";
    case Kind::instance:
      return "InstanceNormalization";
    case Kind::root_mean_square:
      return "RMSNormalization";
    case Kind::filter_response:
      return "FilterResponseNormalization";
    case Kind::unit:
      return "UnitNormalization";
    default:
      return "LayerNormalization";
  }
}

bool has_channels(Kind kind) { return kind == Kind::group || kind == Kind::instance; }

Attributes defaults_of(Kind kind) {
  Attributes attributes;
  if (kind == Kind::root_mean_square || kind == Kind::filter_response) attributes.epsilon = 1e-6f;
  if (kind == Kind::filter_response) attributes.axes = {1, 2};
  if (kind == Kind::unit) attributes.epsilon = 1e-12f;
  return attributes;
}

Divisor divisor_of(Kind kind) {
  switch (kind) {
    case Kind::root_mean_square:
    case Kind::filter_response:
      return Divisor::root_mean_square;
    case Kind::unit:
      return Divisor::length;
    default:
      return Divisor::deviation;
  }
}

bool subtracts_mean(Kind kind, const Attributes& attributes) {
  return divisor_of(kind) == Divisor::deviation && attributes.subtract_mean == 1;
}

void check_attributes(Kind kind, const Attributes& attributes) {
  if (kind == Kind::group && attributes.num_groups < 1) {
    throw std::invalid_argument("num_groups is " + text(attributes.num_groups) + "; accepted: 1 or more");
  }
  if (attributes.channel_block < 0 || (attributes.channel_block > 0 && attributes.axis != 1)) {
    throw std::invalid_argument("channel_block is " + text(attributes.channel_block) + " and axis " +
                                text(attributes.axis) + "; accepted: 1 or more, with axis 1");
  }
  if (!has_channels(kind) && attributes.axes.empty()) {
    throw std::invalid_argument("axes is empty; accepted: at least one axis");
  }
  if (attributes.subtract_mean != 0 && attributes.subtract_mean != 1) {
    throw std::invalid_argument("subtract_mean is " + text(attributes.subtract_mean) + "; accepted: 0 or 1");
  }
  if (attributes.stash_type != 1 && attributes.stash_type != 11) {
    throw std::invalid_argument("stash_type is " + text(attributes.stash_type) +
                                "; accepted: 1 (float32) or 11 (float64)");
  }
  if (!(attributes.epsilon >= 0) || std::isinf(attributes.epsilon)) {
    throw std::invalid_argument("epsilon is " + std::to_string(attributes.epsilon) +
                                "; accepted: a finite number, 0 or more");
  }
}

void check_known_shapes(Kind kind, const Attributes& attributes, const Shapes& shapes) {
  if (shapes.x.empty()) return;
  Shapes known = shapes;
  for (Shape* shape : {&known.scale, &known.bias}) {
    if (!shape->empty()) continue;
    // Whatever fits: the check must find no fault with what it does not know.
    if (has_channels(kind)) *shape = {-1};
  }
  check_shapes(kind, attributes, known);
}

Shape broadcast(const Shape& x, const Shape& residual, int64_t channel_block) {
  if (channel_block > 0 && rank_of(x) > 1 && (x.size() != residual.size() || !can_equal(x[1], residual[1]))) {
    throw std::invalid_argument("residual has shape " + to_string(residual) +
                                "; accepted with channel_block: the rank and the channels of X of shape " +
                                to_string(x));
  }
  Shape result = x.size() < residual.size() ? residual : x;
  for (size_t back = 1; back <= std::min(x.size(), residual.size()); ++back) {
    const int64_t extent = x[x.size() - back], other = residual[residual.size() - back];
    if (extent != 1 && other != 1 && !can_equal(extent, other)) {
      throw std::invalid_argument("residual has shape " + to_string(residual) +
                                  "; accepted: what broadcasts with the shape " + to_string(x) + " of X");
    }
    // An unknown extent beside a known one is that or 1.
    const bool take_other = extent == 1 || (extent < 0 && other != 1);
    result[result.size() - back] = take_other ? other : extent;
  }
  return result;
}

std::vector<Dimension> dimensions_of(Kind kind, const Attributes& attributes, const Shapes& shapes, const Shape& y) {
  check_shapes(kind, attributes, shapes);
  if (attributes.channel_block > 0) return blocked_dimensions(kind, attributes, shapes.x, y);
  const size_t rank = shapes.x.size(), leading = y.size() - rank;
  std::vector<Dimension> dimensions;
  for (size_t d = 0; d < leading; ++d) dimensions.push_back({y[d], false, 0, 0});
  // Along an axis that X is repeated on, its statistics are too.
  const auto repeated = [&](size_t d) {
    if (shapes.x[d] == y[leading + d]) return false;
    dimensions.push_back({y[leading + d], false, 0, 0});
    return true;
  };
  if (!has_channels(kind)) {
    const std::vector<bool> reduced = reduced_axes(attributes.axes, shapes.x);
    const std::vector<int64_t> scale = broadcast_strides(shapes.scale, shapes.x);
    const std::vector<int64_t> bias = broadcast_strides(shapes.bias, shapes.x);
    for (size_t d = 0; d < rank; ++d) {
      if (!repeated(d)) dimensions.push_back({shapes.x[d], reduced[d], scale[d], bias[d]});
    }
    return dimensions;
  }
  const auto axis = static_cast<size_t>(channel_axis(attributes.axis, shapes.x));
  for (size_t d = 0; d < rank; ++d) {
    if (repeated(d)) continue;
    if (d != axis) {
      dimensions.push_back({shapes.x[d], d != 0, 0, 0});
      continue;
    }
    const int64_t depth = group_depth(kind, attributes, shapes.x[d]);
    dimensions.push_back({depth == 0 ? 0 : shapes.x[d] / depth, false, depth, depth});
    dimensions.push_back({depth, true, 1, 1});
  }
  return dimensions;
}

}  // namespace onnxnorm
