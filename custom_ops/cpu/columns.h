// Groups that are columns of a row-major matrix, as in channels-last layouts. Compiled once per instruction set: see
// kernels.cpp.
//
// Every column has its own accumulators, so that rows are read from left to right in full vectors whatever the group
// size. Several short rows are taken as one long row for the same reason: its columns belong to the same groups again.
#pragma once

#include "element.h"
#include "kernels.h"
#include "runs.h"

namespace onnxnorm::cpu {
namespace ONNXNORM_ISA_NAMESPACE {
namespace {

/// Rows summed in the compute type before a flush to double.
constexpr int64_t rows_per_flush = 1024;
/// Long rows made of short ones get at least this many columns, so that loop ends do not count.
constexpr int64_t wide_row = 128;
constexpr int64_t vector_columns = 16;

/// A rectangle as the loops see it: `rows` long rows of `repeat` short ones each, then one row of `rest` columns.
struct LongRows {
  int64_t repeat;
  int64_t rows;
  int64_t pitch;
  int64_t width;
  int64_t rest;
};

inline LongRows long_rows(const ColumnsTask& task, bool rows_are_alike) {
  const int64_t width = task.groups * task.depth;
  int64_t repeat = 1;
  // Only rows that touch can be joined.
  if (task.pitch == width && width < wide_row && rows_are_alike) {
    while (repeat * width % vector_columns != 0) repeat *= 2;
    if (repeat * width > max_columns) repeat = 1;
    const int64_t whole = repeat;
    while (repeat * width < wide_row) repeat += whole;
    repeat = smaller(repeat, task.rows);
  }
  return {repeat, task.rows / repeat, task.pitch * repeat, width * repeat, task.rows % repeat * width};
}

template <class T>
struct ColumnStatistics {
  using C = Compute<T>;
  C shift[max_columns];     // per group
  double offset[max_columns];
  double variance[max_columns];
};

/// group_sums[g] += sum of the columns of group g, over all short rows that a long row joins.
template <class C>
inline void fold_columns(const C* columns, int64_t repeat, int64_t groups, int64_t depth, double* group_sums) {
  const int64_t width = groups * depth;
  for (int64_t r = 0; r < repeat; ++r) {
    const C* row = columns + r * width;
    if (depth == 1) {
#pragma omp simd
      for (int64_t g = 0; g < groups; ++g) group_sums[g] += static_cast<double>(row[g]);
    } else {
      for (int64_t g = 0; g < groups; ++g) {
        double sum = 0;
        for (int64_t i = 0; i < depth; ++i) sum += static_cast<double>(row[g * depth + i]);
        group_sums[g] += sum;
      }
    }
  }
}

/// columns[c] = groups[group of c], for all short rows that a long row joins.
template <class C, class From>
inline void spread_groups(const From* groups, int64_t count, int64_t depth, int64_t repeat, C* columns) {
  for (int64_t g = 0; g < count; ++g) {
    for (int64_t i = 0; i < depth; ++i) columns[g * depth + i] = static_cast<C>(groups[g]);
  }
  const int64_t width = count * depth;
  for (int64_t c = width; c < repeat * width; ++c) columns[c] = columns[c - width];
}

template <class C>
inline void add_row(const C* x, int64_t width, const C* shift, C* first, C* second) {
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) {
    const C d = x[c] - shift[c];
    first[c] += d;
    second[c] += d * d;
  }
}

/// Four rows at once: the accumulators are read and written a quarter as often.
template <class C>
inline void add_four_rows(const C* x0, const C* x1, const C* x2, const C* x3, int64_t width, const C* shift, C* first,
                          C* second) {
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) {
    const C d0 = x0[c] - shift[c], d1 = x1[c] - shift[c], d2 = x2[c] - shift[c], d3 = x3[c] - shift[c];
    first[c] += (d0 + d1) + (d2 + d3);
    second[c] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3);
  }
}

template <class C>
inline void clear(C* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) values[i] = 0;
}

/// Group means of a sample of rows, taken relative to each group's first element.
template <class T>
inline void sample_columns(const ColumnsTask& task, const T* x, Compute<T>* means) {
  using C = Compute<T>;
  C buffer[max_columns], anchor[max_columns], sums[max_columns];
  const int64_t width = task.groups * task.depth;
  const int64_t samples = smaller<int64_t>(task.rows, task.rows * task.depth < 2048 ? 8 : 16);
  const int64_t step = samples > 1 ? (task.rows - 1) / (samples - 1) : 0;
  for (int64_t g = 0; g < task.groups; ++g) means[g] = static_cast<C>(to_float(x[g * task.depth]));
  spread_groups(means, task.groups, task.depth, 1, anchor);
  clear(sums, width);
  for (int64_t s = 0; s < samples; ++s) {
    const C* row = widened(x + s * step * task.pitch, width, buffer);
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) sums[c] += row[c] - anchor[c];
  }
  const C share = C(1) / static_cast<C>(samples * task.depth);
  for (int64_t g = 0; g < task.groups; ++g) {
    C sum = 0;
    for (int64_t i = 0; i < task.depth; ++i) sum += sums[g * task.depth + i];
    means[g] += sum * share;
  }
}

template <class T>
void columns_statistics(const ColumnsTask& task, ColumnStatistics<T>& result) {
  using C = Compute<T>;
  const T* x = static_cast<const T*>(task.x) + task.first_index;
  const LongRows shape = long_rows(task, true);
  const double count = static_cast<double>(task.rows) * static_cast<double>(task.depth);
  C shift[max_columns], first[max_columns], second[max_columns];
  C buffers[4][sizeof(T) == sizeof(C) ? 1 : max_columns];
  double group_first[max_columns], group_second[max_columns];

  sample_columns(task, x, result.shift);
  for (bool repaired = false;; repaired = true) {
    spread_groups(result.shift, task.groups, task.depth, shape.repeat, shift);
    clear(group_first, task.groups);
    clear(group_second, task.groups);
    for (int64_t begin = 0; begin < shape.rows; begin += rows_per_flush) {
      const int64_t end = smaller(begin + rows_per_flush, shape.rows);
      clear(first, shape.width);
      clear(second, shape.width);
      int64_t r = begin;
      for (; r + 4 <= end; r += 4) {
        const T* row = x + r * shape.pitch;
        add_four_rows(widened(row, shape.width, buffers[0]), widened(row + shape.pitch, shape.width, buffers[1]),
                      widened(row + 2 * shape.pitch, shape.width, buffers[2]),
                      widened(row + 3 * shape.pitch, shape.width, buffers[3]), shape.width, shift, first, second);
      }
      for (; r < end; ++r) {
        add_row(widened(x + r * shape.pitch, shape.width, buffers[0]), shape.width, shift, first, second);
      }
      if (end == shape.rows && shape.rest > 0) {
        add_row(widened(x + end * shape.pitch, shape.rest, buffers[0]), shape.rest, shift, first, second);
      }
      fold_columns(first, shape.repeat, task.groups, task.depth, group_first);
      fold_columns(second, shape.repeat, task.groups, task.depth, group_second);
    }
    bool good = true;
    for (int64_t g = 0; g < task.groups; ++g) {
      const double offset = group_first[g] / count;
      const double variance = group_second[g] / count - offset * offset;
      result.offset[g] = offset;
      result.variance[g] = variance;
      if (sizeof(C) < sizeof(double) && !is_finite(group_second[g])) continue;
      if (bad_shift(offset, variance)) good = false;
    }
    if (repaired || good) break;
    // A group that was good gets a better shift too: the pass covers it anyway.
    for (int64_t g = 0; g < task.groups; ++g) {
      if (is_finite(result.offset[g])) result.shift[g] += static_cast<C>(result.offset[g]);
    }
  }
  if (sizeof(C) == sizeof(double)) return;
  for (int64_t g = 0; g < task.groups; ++g) {
    if (is_finite(group_second[g])) continue;
    const auto slow = statistics_in_double(x + g * task.depth, task.rows, task.pitch, task.depth);
    result.shift[g] = slow.shift;
    result.offset[g] = slow.offset;
    result.variance[g] = slow.variance;
  }
}

/// The table entries of `count` elements from flat index `index` on, one by one.
template <class C>
inline void spread_affine(const Affine& affine, int64_t index, int64_t count, C* scale, C* bias) {
  int64_t entry = index / affine.inner % affine.period;
  int64_t covered = affine.inner - index % affine.inner;
  for (int64_t i = 0; i < count; ++i) {
    scale[i] = static_cast<const C*>(affine.scale)[entry];
    bias[i] = static_cast<const C*>(affine.bias)[entry];
    if (--covered == 0) {
      covered = affine.inner;
      if (++entry == affine.period) entry = 0;
    }
  }
}

template <class C>
inline void apply_row(const C* x, int64_t width, const C* shift, const C* factor, const C* bias, C* y) {
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) y[c] = (x[c] - shift[c]) * factor[c] + bias[c];
}

template <class C>
inline void apply_four_rows(const C* x, int64_t pitch, int64_t width, const C* shift, const C* factor, const C* bias,
                            C* y) {
  const C *x1 = x + pitch, *x2 = x1 + pitch, *x3 = x2 + pitch;
  C *y1 = y + pitch, *y2 = y1 + pitch, *y3 = y2 + pitch;
#pragma omp simd
  for (int64_t c = 0; c < width; ++c) {
    const C k = shift[c], f = factor[c], b = bias[c];
    y[c] = (x[c] - k) * f + b;
    y1[c] = (x1[c] - k) * f + b;
    y2[c] = (x2[c] - k) * f + b;
    y3[c] = (x3[c] - k) * f + b;
  }
}

inline void apply_rows(const float* x, int64_t rows, int64_t pitch, int64_t width, const float* shift,
                       const float* factor, const float* bias, float* y) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) apply_four_rows(x + r * pitch, pitch, width, shift, factor, bias, y + r * pitch);
  for (; r < rows; ++r) apply_row(x + r * pitch, width, shift, factor, bias, y + r * pitch);
}
inline void apply_rows(const double* x, int64_t rows, int64_t pitch, int64_t width, const double* shift,
                       const double* factor, const double* bias, double* y) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) apply_four_rows(x + r * pitch, pitch, width, shift, factor, bias, y + r * pitch);
  for (; r < rows; ++r) apply_row(x + r * pitch, width, shift, factor, bias, y + r * pitch);
}
template <class T>
inline void apply_rows(const T* x, int64_t rows, int64_t pitch, int64_t width, const float* shift, const float* factor,
                       const float* bias, T* y) {
  float buffer[max_columns];
  for (int64_t r = 0; r < rows; ++r) {
    widen_run(x + r * pitch, width, buffer);
    apply_row(buffer, width, shift, factor, bias, buffer);
    narrow_run(buffer, width, y + r * pitch);
  }
}

template <class T>
void apply_to_columns(const ColumnsTask& task, const ColumnStatistics<T>& statistics) {
  using C = Compute<T>;
  const T* x = static_cast<const T*>(task.x) + task.first_index;
  T* y = static_cast<T*>(task.y) + task.first_index;
  const Affine& affine = *task.affine;
  // Table and row lengths divide one another, both being products of X's last dimensions.
  const bool rows_are_alike = affine.period == 1 || affine.period * affine.inner <= task.pitch;
  const LongRows shape = long_rows(task, rows_are_alike);
  const int64_t width = task.groups * task.depth;
  C shift[max_columns], factor[max_columns], bias[max_columns];
  C group_factor[max_columns], group_offset[max_columns];
  for (int64_t g = 0; g < task.groups; ++g) {
    const double reciprocal = reciprocal_deviation(statistics.variance[g], task.epsilon);
    group_factor[g] = static_cast<C>(reciprocal);
    group_offset[g] = static_cast<C>(-statistics.offset[g] * reciprocal);
  }
  spread_groups(statistics.shift, task.groups, task.depth, shape.repeat, shift);
  C offset[max_columns], scale[max_columns], row_bias[max_columns];
  C column_factor[max_columns];
  spread_groups(group_factor, task.groups, task.depth, 1, column_factor);
  spread_groups(group_offset, task.groups, task.depth, 1, offset);
  for (int64_t r = 0; r < (rows_are_alike ? 1 : task.rows); ++r) {
    const int64_t row = r * task.pitch;
    spread_affine(affine, task.first_index + row, width, scale, row_bias);
#pragma omp simd
    for (int64_t c = 0; c < width; ++c) {
      factor[c] = column_factor[c] * scale[c];
      bias[c] = offset[c] * scale[c] + row_bias[c];
    }
    if (!rows_are_alike) apply_rows(x + row, 1, task.pitch, width, shift, factor, bias, y + row);
  }
  if (!rows_are_alike) return;
  for (int64_t c = width; c < shape.width; ++c) {
    factor[c] = factor[c - width];
    bias[c] = bias[c - width];
  }
  apply_rows(x, shape.rows, shape.pitch, shape.width, shift, factor, bias, y);
  if (shape.rest > 0) {
    const int64_t row = shape.rows * shape.pitch;
    apply_rows(x + row, 1, shape.pitch, shape.rest, shift, factor, bias, y + row);
  }
}

template <class T>
void normalize_columns(const ColumnsTask& task) {
  ColumnStatistics<T> statistics;
  columns_statistics(task, statistics);
  apply_to_columns(task, statistics);
}

template <class T>
void column_moments(const ColumnsTask& task, Moments* per_group) {
  ColumnStatistics<T> statistics;
  columns_statistics(task, statistics);
  const double count = static_cast<double>(task.rows) * static_cast<double>(task.depth);
  for (int64_t g = 0; g < task.groups; ++g) {
    per_group[g] = {static_cast<double>(statistics.shift[g]) + statistics.offset[g], statistics.variance[g], count};
  }
}

template <class T>
void apply_columns(const ColumnsTask& task, const Moments* per_group) {
  ColumnStatistics<T> statistics;
  for (int64_t g = 0; g < task.groups; ++g) {
    const auto from = statistics_of<Compute<T>>(per_group[g]);
    statistics.shift[g] = from.shift;
    statistics.offset[g] = from.offset;
    statistics.variance[g] = from.variance;
  }
  apply_to_columns(task, statistics);
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
