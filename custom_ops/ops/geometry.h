// What the attributes and shapes of a node mean: the dimensions of its normalization, or why there are none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "normalization.h"

namespace onnxnorm {

enum class Kind { group, instance, layer, root_mean_square, filter_response, unit };

constexpr Kind all_kinds[] = {Kind::group,           Kind::instance, Kind::layer, Kind::root_mean_square,
                              Kind::filter_response, Kind::unit};

const char* name_of(Kind kind);

/// Whether statistics are taken over channels (`axis`), with scale and bias per channel; else over `axes`, with scale
/// and bias that broadcast.
bool has_channels(Kind kind);

struct Attributes {
  int64_t axis = 1;
  int64_t num_groups = 0;
  std::vector<int64_t> axes = {-1};
  int64_t subtract_mean = 1;
  int64_t stash_type = 1;  // of the function body alone
  float epsilon = 1e-5f;
  int64_t channel_block = 0;
};

/// What holds for attributes that a node does not have.
Attributes defaults_of(Kind kind);

/// Extents; -1 where unknown.
using Shape = std::vector<int64_t>;

struct Shapes {
  Shape x;
  Shape scale;
  Shape bias;
};

std::string to_string(const Shape& shape);

/// How a tensor of shape (N, C, ...) lies in memory: as it is, or with blocks of channels (N, C / block, ..., block).
Shape stored_shape(const Shape& shape, int64_t channel_block);

/// Throws std::invalid_argument when the attributes are wrong for any input.
void check_attributes(Kind kind, const Attributes& attributes);

/// Throws std::invalid_argument when the shapes cannot fit the attributes, as far as they are known. An empty shape is
/// taken for one of unknown rank.
void check_known_shapes(Kind kind, const Attributes& attributes, const Shapes& shapes);

Divisor divisor_of(Kind kind);

bool subtracts_mean(Kind kind, const Attributes& attributes);

/// The shape of X + residual, as far as it is known: -1 where it is not. Throws std::invalid_argument when there is
/// none, as between other numbers of channels where these are stored in blocks.
Shape broadcast(const Shape& x, const Shape& residual, int64_t channel_block = 0);

/// The dimensions of the normalization that a node asks for, along the axes of Y as it is stored: those of X and what X
/// broadcasts along. Throws std::invalid_argument when shapes and attributes do not fit.
std::vector<Dimension> dimensions_of(Kind kind, const Attributes& attributes, const Shapes& shapes,
                                     const Shape& stored_y);

}  // namespace onnxnorm
