// One normalization as the kernels see it: plain numbers and device pointers, passed by value.
#pragma once

#include <cstdint>
#include <vector>

#include "normalization.h"

namespace onnxnorm::cuda {

/// A number for kernels of either compute type: those of float32 are to have no instruction for double.
struct Number {
  float single = 0;
  double full = 0;

  Number() = default;
  Number(double value) : single(static_cast<float>(value)), full(value) {}
};

struct Problem {
  View view;
  Divisor divisor = Divisor::deviation;
  bool subtract_mean = true;
  Number epsilon;
  /// scale and bias of the element at flat index i of X are entry (i / inner) % period. Short numbers: a long division
  /// is a routine of a hundred instructions.
  uint32_t inner = 1;
  uint32_t period = 1;
  /// Rows of X, as wide as a row of the view, until the entries come again; 1 where each row has the same.
  uint32_t rows_per_cycle = 1;
  Activation activation = Activation::none;
  Number parameters[2];
  const void* x = nullptr;
  const void* scale = nullptr;
  const void* bias = nullptr;
  const void* residual = nullptr;  // of X's shape, or null
  bool residual_first = false;     // X + residual is normalized, else the residual is added to what is normalized
  void* y = nullptr;
};

constexpr int most_axes = 16;

/// What no View covers, or no period of the parameters: the axes themselves, outermost first.
struct Axes {
  int rank = 0;
  bool reduced[most_axes] = {};
  int64_t extent[most_axes] = {};
  int64_t x_stride[most_axes] = {};
  int64_t scale_stride[most_axes] = {};
  int64_t bias_stride[most_axes] = {};
};

/// The problem that a normalization poses, and its axes where the problem's view and period do not say it all.
struct Posed {
  Problem problem;
  Axes axes;  // rank 0: not needed
};

/// The axes of `to`, with the strides along them of `from`, which broadcasts to it, as x_stride.
Axes expanded_axes(const std::vector<int64_t>& from, const std::vector<int64_t>& to);

/// Throws std::invalid_argument for more axes than the kernels know.
Posed pose(const Normalization& normalization);

}  // namespace onnxnorm::cuda
