// Groups that are columns of a row-major matrix, as in channels-last layouts. Compiled once per instruction set: see
// kernels.cpp.
//
// Every column has its own accumulators, so that rows are read from left to right in full vectors whatever the group
// size. Several short rows are taken as one long row for the same reason: its columns belong to the same groups again.
#pragma once

#include "kernels.h"
#include "output.h"
#include "runs.h"
#include "vector.h"

namespace onnxnorm::cpu {
namespace ONNXNORM_ISA_NAMESPACE {
namespace {

/// Rows summed in the compute type before a flush to double.
constexpr int64_t rows_per_flush = 1024;
/// Long rows made of short ones get at least this many columns, so that loop ends do not count.
constexpr int64_t wide_row = 128;
/// Long rows that the shifts are sampled from.
constexpr int64_t sampled_rows = 8;

/// One value for each column of a long row, in whole vectors.
template <class C>
struct Columns {
  alignas(vector_bytes) C values[max_columns];

  C* operator+(int64_t column) { return values + column; }
  const C* operator+(int64_t column) const { return values + column; }
  C& operator[](int64_t column) { return values[column]; }
  const C& operator[](int64_t column) const { return values[column]; }
};

/// A rectangle as the loops see it: `rows` long rows of `repeat` short ones each, then one row of `rest` columns.
struct LongRows {
  int64_t repeat;
  int64_t rows;
  int64_t pitch;
  int64_t width;
  int64_t rest;
};

/// Rows of one or two whole vectors, whose sums and maps stay in registers.
inline bool are_narrow(const ColumnsTask& task, int64_t vector_columns) {
  const int64_t width = task.groups * task.depth;
  return width == vector_columns || width == 2 * vector_columns;
}

inline LongRows long_rows(const ColumnsTask& task, int64_t vector_columns) {
  const int64_t width = task.groups * task.depth;
  int64_t repeat = 1;
  // Only rows that touch can be joined.
  if (task.pitch == width && width < wide_row && !are_narrow(task, vector_columns)) {
    while (repeat * width % vector_columns != 0) repeat *= 2;
    if (repeat * width > max_columns) repeat = 1;
    const int64_t whole = repeat;
    while (repeat * width < wide_row) repeat += whole;
    repeat = smaller(repeat, task.rows);
  }
  return {repeat, task.rows / repeat, task.pitch * repeat, width * repeat, task.rows % repeat * width};
}

/// sums[g] += the columns of group g, over all short rows that a long row joins. Destroys the columns.
template <class C>
inline void fold_columns(Columns<C>& columns, const LongRows& shape, int64_t groups, int64_t depth, double* sums) {
  const int64_t width = groups * depth;
  if (shape.repeat > 1) {
    for_vectors<C>(width, [&](int64_t c, auto extent) {
      Vector<C> sum = load(columns + c, extent, Vector<C>{});
      for (int64_t r = 1; r < shape.repeat; ++r) sum += load(columns + (r * width + c), extent, Vector<C>{});
      store(sum, columns + c, extent);
    });
  }
  if (depth == 1) {
#pragma omp simd
    for (int64_t g = 0; g < groups; ++g) sums[g] += static_cast<double>(columns.values[g]);
    return;
  }
  for (int64_t g = 0; g < groups; ++g) {
    double sum = 0;
    for (int64_t i = 0; i < depth; ++i) sum += static_cast<double>(columns.values[g * depth + i]);
    sums[g] += sum;
  }
}

/// columns[c] = groups[group of c], for all short rows that a long row joins.
template <class C>
inline void spread_groups(const C* groups, int64_t count, int64_t depth, int64_t repeat, Columns<C>& columns) {
  for (int64_t g = 0; g < count; ++g) {
    for (int64_t i = 0; i < depth; ++i) columns[g * depth + i] = groups[g];
  }
  const int64_t width = count * depth;
  for (int64_t r = 1; r < repeat; ++r) {
    for_vectors<C>(width, [&](int64_t c, auto extent) {
      store(load(columns + c, extent, Vector<C>{}), columns + (r * width + c), extent);
    });
  }
}

template <class T>
inline void add_row(const T* x, int64_t width, const Columns<Compute<T>>& shift, Columns<Compute<T>>& first,
                    Columns<Compute<T>>& second) {
  using C = Compute<T>;
  for_vectors<C>(width, [&](int64_t c, auto extent) {
    const Vector<C> k = load(shift + c);
    const Vector<C> d = load(x + c, extent, k) - k;
    store(load(first + c) + d, first + c);
    store(load(second + c) + d * d, second + c);
  });
}

/// Four rows at once: the accumulators are read and written a quarter as often.
template <class T>
inline void add_four_rows(const T* x, int64_t pitch, int64_t width, const Columns<Compute<T>>& shift,
                          Columns<Compute<T>>& first, Columns<Compute<T>>& second) {
  using C = Compute<T>;
  for_vectors<C>(width, [&](int64_t c, auto extent) {
    const Vector<C> k = load(shift + c);
    const Vector<C> d0 = load(x + c, extent, k) - k, d1 = load(x + pitch + c, extent, k) - k;
    const Vector<C> d2 = load(x + 2 * pitch + c, extent, k) - k, d3 = load(x + 3 * pitch + c, extent, k) - k;
    store(load(first + c) + ((d0 + d1) + (d2 + d3)), first + c);
    store(load(second + c) + d0 * d0 + d1 * d1 + (d2 * d2 + d3 * d3), second + c);
  });
}

/// Narrow rows, column of vectors by column of vectors. Several sums keep enough additions in flight.
template <class T>
inline void add_narrow_rows(const T* x, int64_t rows, int64_t pitch, int64_t width, const Columns<Compute<T>>& shift,
                            Columns<Compute<T>>& first, Columns<Compute<T>>& second) {
  using C = Compute<T>;
  for (int64_t c = 0; c < width; c += lanes<C>) {
    const Vector<C> k = load(shift + c);
    Sums<C> s0, s1, s2, s3;
    const T* from = x + c;
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4, from += 4 * pitch) {
      s0.add(load(from) - k);
      s1.add(load(from + pitch) - k);
      s2.add(load(from + 2 * pitch) - k);
      s3.add(load(from + 3 * pitch) - k);
    }
    for (; r < rows; ++r, from += pitch) s0.add(load(from) - k);
    s0.add(s1);
    s2.add(s3);
    s0.add(s2);
    store(s0.first, first + c);
    store(s0.second, second + c);
  }
}

template <class C>
struct ColumnStatistics {
  C shift[max_columns];
  double offset[max_columns];
  double variance[max_columns];
};

/// Group means of a sample of rows, taken relative to each group's first element.
template <class T>
inline void sample_columns(const ColumnsTask& task, const T* x, const LongRows& shape, Compute<T>* means) {
  using C = Compute<T>;
  Columns<C> anchor, sums;
  double folded[max_columns];
  const int64_t samples = smaller(shape.rows, sampled_rows);
  const int64_t step = samples > 1 ? (shape.rows - 1) / (samples - 1) : 0;
  for (int64_t g = 0; g < task.groups; ++g) means[g] = value_at(x + g * task.depth);
  spread_groups(means, task.groups, task.depth, shape.repeat, anchor);
  for_vectors<C>(shape.width, [&](int64_t c, auto extent) {
    const Vector<C> k = load(anchor + c);
    Vector<C> sum{};
    for (int64_t s = 0; s < samples; ++s) sum += load(x + s * step * shape.pitch + c, extent, k) - k;
    store(sum, sums + c);
  });
  clear(folded, task.groups);
  fold_columns(sums, shape, task.groups, task.depth, folded);
  const double share = 1.0 / static_cast<double>(samples * shape.repeat * task.depth);
  for (int64_t g = 0; g < task.groups; ++g) means[g] += static_cast<C>(folded[g] * share);
}

template <class T>
void columns_statistics(const ColumnsTask& task, const T* x, ColumnStatistics<Compute<T>>& result) {
  using C = Compute<T>;
  const LongRows shape = long_rows(task, lanes<C>);
  const bool narrow = are_narrow(task, lanes<C>);
  const double share = 1.0 / (static_cast<double>(task.rows) * static_cast<double>(task.depth));
  Columns<C> shift, first, second;
  double group_first[max_columns], group_second[max_columns];

  sample_columns(task, x, shape, result.shift);
  for (bool repaired = false;; repaired = true) {
    spread_groups(result.shift, task.groups, task.depth, shape.repeat, shift);
    clear(group_first, task.groups);
    clear(group_second, task.groups);
    for (int64_t begin = 0; begin < shape.rows; begin += rows_per_flush) {
      const int64_t end = smaller(begin + rows_per_flush, shape.rows);
      if (narrow) {
        add_narrow_rows(x + begin * shape.pitch, end - begin, shape.pitch, shape.width, shift, first, second);
      } else {
        clear(first.values, max_columns < shape.width + lanes<C> ? max_columns : shape.width + lanes<C>);
        clear(second.values, max_columns < shape.width + lanes<C> ? max_columns : shape.width + lanes<C>);
        int64_t r = begin;
        for (; r + 4 <= end; r += 4) add_four_rows(x + r * shape.pitch, shape.pitch, shape.width, shift, first, second);
        for (; r < end; ++r) add_row(x + r * shape.pitch, shape.width, shift, first, second);
        if (end == shape.rows && shape.rest > 0) add_row(x + end * shape.pitch, shape.rest, shift, first, second);
      }
      fold_columns(first, shape, task.groups, task.depth, group_first);
      fold_columns(second, shape, task.groups, task.depth, group_second);
    }
    bool good = true, finite = true;
    for (int64_t g = 0; g < task.groups; ++g) {
      const double offset = group_first[g] * share;
      const double variance = group_second[g] * share - offset * offset;
      result.offset[g] = offset;
      result.variance[g] = variance;
      good &= !bad_shift(offset, variance);
      finite &= is_finite(variance);
    }
    if (sizeof(C) < sizeof(double) && !finite) {
      for (int64_t g = 0; g < task.groups; ++g) {
        if (is_finite(result.variance[g])) continue;
        const Statistics<C> slow = statistics_in_double(x + g * task.depth, task.rows, task.pitch, task.depth);
        result.shift[g] = slow.shift;
        result.offset[g] = slow.offset;
        result.variance[g] = slow.variance;
      }
    }
    if (repaired || good) return;
    // Only the groups that need it: what one group holds must not change another's last bit.
    for (int64_t g = 0; g < task.groups; ++g) {
      if (bad_shift(result.offset[g], result.variance[g])) result.shift[g] += static_cast<C>(result.offset[g]);
    }
  }
}

/// The table entries of `count` elements from flat index `index` on, one by one.
template <class C>
inline void spread_affine(const Affine& affine, int64_t index, int64_t count, Columns<C>& scale, Columns<C>& bias) {
  AffineCursor cursor(affine, index);
  for (int64_t i = 0; i < count;) {
    const int64_t size = smaller(cursor.covered(), count - i);
    const bool varies = affine.inner == 1 && affine.period > 1;
    const C* scales = static_cast<const C*>(affine.scale) + cursor.entry();
    const C* biases = static_cast<const C*>(affine.bias) + cursor.entry();
    for (int64_t j = 0; j < size; ++j) {
      scale[i + j] = scales[varies ? j : 0];
      bias[i + j] = biases[varies ? j : 0];
    }
    cursor.advance(size);
    i += size;
  }
}

/// y = (x - shift) * factor + bias, column by column.
template <class C>
struct ColumnMaps {
  Columns<C> shift;
  Columns<C> factor;
  Columns<C> bias;
};

/// The sink's rows are `y_pitch` apart.
template <class T, class Sink>
inline void apply_rows(const T* x, int64_t rows, int64_t pitch, int64_t width, const ColumnMaps<Compute<T>>& maps,
                       const Sink& sink, int64_t y_pitch) {
  using C = Compute<T>;
  int64_t r = 0;
  for (; width < 128 && r + 4 <= rows; r += 4) {
    const T* from = x + r * pitch;
    const Sink to = sink.from(r * y_pitch);
    for_vectors<C>(width, [&](int64_t c, auto extent) {
      const Vector<C> k = load(maps.shift + c), factor = load(maps.factor + c), bias = load(maps.bias + c);
      const Vector<C> d0 = load(from + c, extent, k) - k, d1 = load(from + pitch + c, extent, k) - k;
      const Vector<C> d2 = load(from + 2 * pitch + c, extent, k) - k, d3 = load(from + 3 * pitch + c, extent, k) - k;
      to.put(d0 * factor + bias, c, extent);
      to.put(d1 * factor + bias, y_pitch + c, extent);
      to.put(d2 * factor + bias, 2 * y_pitch + c, extent);
      to.put(d3 * factor + bias, 3 * y_pitch + c, extent);
    });
  }
  for (; r < rows; ++r) {
    const T* from = x + r * pitch;
    const Sink to = sink.from(r * y_pitch);
    for_vectors<C>(width, [&](int64_t c, auto extent) {
      const Vector<C> d = load(from + c, extent, Vector<C>{}) - load(maps.shift + c);
      to.put(d * load(maps.factor + c) + load(maps.bias + c), c, extent);
    });
  }
}

/// As `sink`, of values that are scaled and shifted first: by entries of scale and bias that are those of a whole row.
template <class C, class Sink>
struct Scaled {
  Sink sink;
  C scale;
  C bias;

  Scaled from(int64_t i) const { return {sink.from(i), scale, bias}; }
  template <class Extent>
  void put(Vector<C> value, int64_t i, Extent extent) const {
    sink.put(value * scale + bias, i, extent);
  }
};

template <class C, class Sink>
inline Scaled<C, Sink> scaled(const Sink& sink, C scale, C bias) {
  return {sink, scale, bias};
}

/// Rows from flat index `index` of X to the same place of Y, finished. `wrap` makes one sink of another.
template <class T, class Wrap>
inline void map_rows(const ColumnsTask& task, int64_t index, int64_t rows, int64_t pitch, int64_t width,
                     const ColumnMaps<Compute<T>>& maps, const Wrap& wrap) {
  using C = Compute<T>;
  const T* x = static_cast<const T*>(task.x) + index;
  const bool done = straight<T>(task.finish, task.y, index,
                                [&](const auto& sink) { apply_rows(x, rows, pitch, width, maps, wrap(sink), pitch); });
  if (done) return;
  static_assert(most_waiting<C> >= max_columns, "a block holds at least a row");
  alignas(vector_bytes) C values[most_waiting<C>];
  const int64_t block = most_waiting<C> / width;
  for (int64_t begin = 0; begin < rows; begin += block) {
    const int64_t size = smaller(block, rows - begin);
    apply_rows(x + begin * pitch, size, pitch, width, maps, wrap(Plain<C>{values}), width);
    const int64_t first = index + begin * pitch;
    if (pitch == width) {
      task.finish->run(*task.finish, values, first, size * width, size * width, task.y);
    } else {
      for (int64_t r = 0; r < size; ++r) {
        task.finish->run(*task.finish, values + r * width, first + r * pitch, width, size * pitch, task.y);
      }
    }
  }
}

/// The map of each group, as arrays.
template <class C>
struct GroupMaps {
  C shift[max_columns];
  C factor[max_columns];
  C offset[max_columns];
};

/// offset[g] is that of the mean from shift[g], as in Statistics.
template <class C>
inline void map_groups(const C* shift, const double* offset, const double* variance, int64_t groups, const Rule& rule,
                       GroupMaps<C>& maps) {
#pragma omp simd
  for (int64_t g = 0; g < groups; ++g) {
    const double factor = factor_of(rule, static_cast<double>(shift[g]) + offset[g], variance[g]);
    maps.shift[g] = shift[g];
    maps.factor[g] = static_cast<C>(factor);
    maps.offset[g] = static_cast<C>(-offset[g] * factor);
  }
  if (rule.subtract_mean) return;
  clear(maps.shift, groups);
  clear(maps.offset, groups);
}

/// The columns' maps for one row of X, whose groups are mapped by `groups`.
template <class C>
inline void column_maps(const GroupMaps<C>& groups, int64_t count, int64_t depth, const Columns<C>& scale,
                        const Columns<C>& bias, ColumnMaps<C>& maps) {
  for (int64_t g = 0; g < count; ++g) {
    for (int64_t c = g * depth; c < (g + 1) * depth; ++c) {
      maps.shift[c] = groups.shift[g];
      maps.factor[c] = groups.factor[g] * scale[c];
      maps.bias[c] = groups.offset[g] * scale[c] + bias[c];
    }
  }
}

template <class C>
inline void repeat_columns(int64_t width, int64_t repeat, Columns<C>& columns) {
  for (int64_t r = 1; r < repeat; ++r) {
    for_vectors<C>(width, [&](int64_t c, auto extent) {
      store(load(columns + c, extent, Vector<C>{}), columns + (r * width + c), extent);
    });
  }
}

/// scale and bias of the rectangle's columns, where these are the same in all its rows.
template <class C>
struct ColumnAffine {
  ColumnAffine(const ColumnsTask& task)
      // Table and row lengths divide one another, both being products of X's last dimensions.
      : fixed(task.affine->period == 1 || task.affine->period * task.affine->inner <= task.pitch) {
    read(task, task.first_index);
  }

  /// Those of the sample that begins at flat index `first_index`.
  void read(const ColumnsTask& task, int64_t first_index) {
    if (!fixed) return;
    Affine affine = *task.affine;
    if (affine.rows > 1) {
      const int64_t skipped = first_index / affine.span % affine.rows * affine.period;
      affine.scale = static_cast<const C*>(affine.scale) + skipped;
      affine.bias = static_cast<const C*>(affine.bias) + skipped;
    }
    spread_affine(affine, first_index, task.groups * task.depth, scale, bias);
  }

  bool fixed;
  Columns<C> scale;
  Columns<C> bias;
};

template <class T>
void apply_to_columns(const ColumnsTask& task, int64_t first_index, const GroupMaps<Compute<T>>& groups,
                      ColumnAffine<Compute<T>>& affine) {
  using C = Compute<T>;
  const int64_t width = task.groups * task.depth;
  const auto as_it_is = [](const auto& sink) { return sink; };
  ColumnMaps<C> maps;
  if (!affine.fixed && task.affine->inner % task.pitch == 0) {
    spread_groups(groups.shift, task.groups, task.depth, 1, maps.shift);
    spread_groups(groups.factor, task.groups, task.depth, 1, maps.factor);
    spread_groups(groups.offset, task.groups, task.depth, 1, maps.bias);
    AffineCursor cursor(*task.affine, first_index - first_index % task.pitch);
    for (int64_t r = 0; r < task.rows; ++r, cursor.advance(task.pitch)) {
      const C scale = static_cast<const C*>(task.affine->scale)[cursor.entry()];
      const C bias = static_cast<const C*>(task.affine->bias)[cursor.entry()];
      map_rows<T>(task, first_index + r * task.pitch, 1, task.pitch, width, maps,
                  [=](const auto& sink) { return scaled(sink, scale, bias); });
    }
    return;
  }
  if (!affine.fixed) {
    for (int64_t r = 0; r < task.rows; ++r) {
      const int64_t row = r * task.pitch;
      spread_affine(*task.affine, first_index + row, width, affine.scale, affine.bias);
      column_maps(groups, task.groups, task.depth, affine.scale, affine.bias, maps);
      map_rows<T>(task, first_index + row, 1, task.pitch, width, maps, as_it_is);
    }
    return;
  }
  const LongRows shape = long_rows(task, lanes<C>);
  column_maps(groups, task.groups, task.depth, affine.scale, affine.bias, maps);
  repeat_columns(width, shape.repeat, maps.shift);
  repeat_columns(width, shape.repeat, maps.factor);
  repeat_columns(width, shape.repeat, maps.bias);
  map_rows<T>(task, first_index, shape.rows, shape.pitch, shape.width, maps, as_it_is);
  if (shape.rest > 0) {
    map_rows<T>(task, first_index + shape.rows * shape.pitch, 1, shape.pitch, shape.rest, maps, as_it_is);
  }
}

template <class T>
void normalize_columns(const ColumnsTask& task) {
  using C = Compute<T>;
  ColumnAffine<C> affine(task);
  ColumnStatistics<C> statistics;
  GroupMaps<C> maps;
  for (int64_t s = 0; s < task.samples; ++s) {
    const int64_t first_index = task.first_index + s * task.sample_pitch;
    columns_statistics(task, static_cast<const T*>(task.x) + first_index, statistics);
    map_groups(statistics.shift, statistics.offset, statistics.variance, task.groups, *task.rule, maps);
    if (s > 0 && task.affine->rows > 1) affine.read(task, first_index);
    apply_to_columns<T>(task, first_index, maps, affine);
  }
}

template <class T>
void column_moments(const ColumnsTask& task, double* mean, double* variance) {
  using C = Compute<T>;
  ColumnStatistics<C> statistics;
  columns_statistics(task, static_cast<const T*>(task.x) + task.first_index, statistics);
#pragma omp simd
  for (int64_t g = 0; g < task.groups; ++g) {
    mean[g] = static_cast<double>(statistics.shift[g]) + statistics.offset[g];
    variance[g] = statistics.variance[g];
  }
}

template <class T>
void apply_columns(const ColumnsTask& task, const double* mean, const double* variance) {
  using C = Compute<T>;
  ColumnAffine<C> affine(task);
  GroupMaps<C> maps;
  C shift[max_columns];
  double offset[max_columns];
#pragma omp simd
  for (int64_t g = 0; g < task.groups; ++g) {
    shift[g] = static_cast<C>(mean[g]);
    offset[g] = mean[g] - static_cast<double>(shift[g]);
  }
  map_groups(shift, offset, variance, task.groups, *task.rule, maps);
  apply_to_columns<T>(task, task.first_index, maps, affine);
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
