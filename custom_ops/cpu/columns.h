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
/// Short rows are joined to at least this many columns, so that loop ends do not count.
constexpr int64_t wide_row = 128;
/// Long rows that the shifts are sampled from.
constexpr int64_t sampled_rows = 8;

/// One value for each column of a long row, in whole vectors, of which the last one may begin at any column.
template <class C>
struct Columns {
  alignas(vector_bytes) C values[max_columns + lanes<C>];

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

/// Rows of up to so many whole vectors have their sums in registers.
constexpr int64_t most_narrow = 4;

/// Only where a row is taken whole: into which blocks wider ones are cut must not change a column's last bit.
inline bool are_narrow(const ColumnsTask& task, int64_t vector_columns) {
  const bool whole = task.groups * task.depth == task.pitch;
  return whole && task.pitch % vector_columns == 0 && task.pitch <= most_narrow * vector_columns;
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
template <class C, class S>
inline void fold_columns(Columns<C>& columns, const LongRows& shape, int64_t groups, int64_t depth, S* sums) {
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
    for (int64_t g = 0; g < groups; ++g) sums[g] += static_cast<S>(columns.values[g]);
    return;
  }
  for (int64_t g = 0; g < groups; ++g) {
    const C* const values = columns + g * depth;
    S sum = 0;
    if (depth < lanes<C>) {
      for (int64_t i = 0; i < depth; ++i) sum += static_cast<S>(values[i]);
    } else {
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < depth; ++i) sum += static_cast<S>(values[i]);
    }
    sums[g] += sum;
  }
}

/// The columns of the first short row become those of all `repeat` that a long row joins.
template <class C>
inline void repeat_columns(int64_t width, int64_t repeat, Columns<C>& columns) {
  // From the last vector on: what it writes too much, the first one of the next row overwrites.
  for (int64_t c = (width - 1) / lanes<C> * lanes<C>; c >= 0; c -= lanes<C>) {
    const Vector<C> value = load(columns + c);
    for (int64_t r = 1; r < repeat; ++r) store(value, columns + (r * width + c));
  }
}

/// columns[c] = groups[group of c], for all short rows that a long row joins.
template <class C>
inline void spread_groups(const Columns<C>& groups, int64_t count, int64_t depth, int64_t repeat, Columns<C>& columns) {
  if (depth == 1) {
    for (int64_t g = 0; g < count; g += lanes<C>) store(load(groups + g), columns + g);
  } else {
    // What a group's last vector writes too much, the next group overwrites.
    for (int64_t g = 0; g < count; ++g) {
      const Vector<C> value = broadcast(groups.values[g]);
      for (int64_t i = 0; i < depth; i += lanes<C>) store(value, columns + (g * depth + i));
    }
  }
  repeat_columns(count * depth, repeat, columns);
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

/// The sums of `rows` rows of so many whole vectors, the first of `left` that are summed from x on. Rows of few vectors
/// are taken several at once, each into sums of its own: that keeps enough additions in flight.
template <int64_t vectors, class T>
inline void add_narrow_rows(const T* x, int64_t rows, int64_t left, const Columns<Compute<T>>& shift,
                            Columns<Compute<T>>& first, Columns<Compute<T>>& second) {
  using C = Compute<T>;
  constexpr int64_t width = vectors * lanes<C>;
  constexpr int64_t once = most_narrow / vectors * vectors;
  Vector<C> k[vectors];
  for (int64_t v = 0; v < vectors; ++v) k[v] = load(shift + v * lanes<C>);
  Sums<C> sums[once];
  const int64_t count = rows * width;
  const int64_t last = left * width - summed_ahead<T> - once * lanes<C>;
  int64_t i = 0;
  for (; i + once * lanes<C> <= count; i += once * lanes<C>) {
    if (i <= last) prefetch(x, i + summed_ahead<T>, once * lanes<C>);
#pragma GCC unroll 4
    for (int64_t v = 0; v < once; ++v) sums[v].add(load(x + i + v * lanes<C>) - k[v % vectors]);
  }
  for (; i < count; i += width) {
    for (int64_t v = 0; v < vectors; ++v) sums[v].add(load(x + i + v * lanes<C>) - k[v]);
  }
  for (int64_t v = 0; v < vectors; ++v) {
    for (int64_t s = v + vectors; s < once; s += vectors) sums[v].add(sums[s]);
    store(sums[v].first, first + v * lanes<C>);
    store(sums[v].second, second + v * lanes<C>);
  }
}

/// Of each group: mean = shift + offset, as in Statistics. S is double, or the compute type where groups are small.
template <class C, class S>
struct ColumnStatistics {
  Columns<C> shift;
  Columns<S> offset;
  Columns<S> variance;
};

/// Group means of a sample of rows, taken relative to each group's first element.
template <class S, class T>
inline void sample_columns(const ColumnsTask& task, const T* x, const LongRows& shape, Columns<Compute<T>>& means) {
  using C = Compute<T>;
  Columns<C> anchor, sums;
  Columns<S> folded;
  const int64_t samples = smaller(shape.rows, sampled_rows);
  const int64_t step = samples > 1 ? (shape.rows - 1) / (samples - 1) : 0;
  if (task.depth == 1) {
    for_vectors<C>(task.groups, [&](int64_t g, auto extent) { store(load(x + g, extent, Vector<C>{}), means + g); });
  } else {
    for (int64_t g = 0; g < task.groups; ++g) means[g] = value_at(x + g * task.depth);
  }
  spread_groups(means, task.groups, task.depth, shape.repeat, anchor);
  for_vectors<C>(shape.width, [&](int64_t c, auto extent) {
    const Vector<C> k = load(anchor + c);
    Vector<C> sum{};
    for (int64_t s = 0; s < samples; ++s) sum += load(x + s * step * shape.pitch + c, extent, k) - k;
    store(sum, sums + c);
  });
  clear(folded.values, task.groups);
  fold_columns(sums, shape, task.groups, task.depth, folded.values);
  const S share = S(1) / static_cast<S>(samples * shape.repeat * task.depth);
#pragma omp simd
  for (int64_t g = 0; g < task.groups; ++g) means.values[g] += static_cast<C>(folded.values[g] * share);
}

template <class T>
Moments group_in_double(const ColumnsTask& task, const T* x, int64_t group) {
  return run_moments_in_double(x + group * task.depth, task.rows, task.pitch, task.depth);
}

template <class T, class S>
void columns_statistics(const ColumnsTask& task, const T* x, ColumnStatistics<Compute<T>, S>& result) {
  using C = Compute<T>;
  const LongRows shape = long_rows(task, lanes<C>);
  const bool narrow = are_narrow(task, lanes<C>);
  const int64_t vectors = shape.width / lanes<C>;
  // Rows of several vectors have one sum or two for each column instead of four: no more values to any of them.
  const int64_t most_rows = narrow && vectors > 1 ? rows_per_flush / most_narrow : rows_per_flush;
  const S share = static_cast<S>(1.0 / (static_cast<double>(task.rows) * static_cast<double>(task.depth)));
  Columns<C> shift, first, second;
  Columns<S> group_first, group_second;

  sample_columns<S>(task, x, shape, result.shift);
  for (bool repaired = false;; repaired = true) {
    spread_groups(result.shift, task.groups, task.depth, shape.repeat, shift);
    clear(group_first.values, task.groups);
    clear(group_second.values, task.groups);
    for (int64_t begin = 0; begin < shape.rows; begin += most_rows) {
      const int64_t end = smaller(begin + most_rows, shape.rows);
      if (narrow) {
        const T* const from = x + begin * shape.pitch;
        const int64_t left = shape.rows - begin;
        switch (vectors) {
          case 1:
            add_narrow_rows<1>(from, end - begin, left, shift, first, second);
            break;
          case 2:
            add_narrow_rows<2>(from, end - begin, left, shift, first, second);
            break;
          case 3:
            add_narrow_rows<3>(from, end - begin, left, shift, first, second);
            break;
          default:
            add_narrow_rows<most_narrow>(from, end - begin, left, shift, first, second);
        }
      } else {
        clear(first.values, shape.width + lanes<C>);
        clear(second.values, shape.width + lanes<C>);
        int64_t r = begin;
        for (; r + 4 <= end; r += 4) add_four_rows(x + r * shape.pitch, shape.pitch, shape.width, shift, first, second);
        for (; r < end; ++r) add_row(x + r * shape.pitch, shape.width, shift, first, second);
        if (end == shape.rows && shape.rest > 0) add_row(x + end * shape.pitch, shape.rest, shift, first, second);
      }
      fold_columns(first, shape, task.groups, task.depth, group_first.values);
      fold_columns(second, shape, task.groups, task.depth, group_second.values);
    }
    int bad = 0;
#pragma omp simd reduction(| : bad)
    for (int64_t g = 0; g < task.groups; ++g) {
      const S offset = group_first.values[g] * share;
      const S variance = group_second.values[g] * share - offset * offset;
      result.offset.values[g] = offset;
      result.variance.values[g] = variance;
      bad |= bad_shift(offset, variance);
    }
    if (repaired || !bad) return;
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
    for_vectors<C>(size, [&](int64_t j, auto extent) {
      store(varies ? load(scales + j, extent, Vector<C>{}) : broadcast(*scales), scale + (i + j), extent);
      store(varies ? load(biases + j, extent, Vector<C>{}) : broadcast(*biases), bias + (i + j), extent);
    });
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
  for (; width < wide_row && r + 4 <= rows; r += 4) {
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

/// The same for rows that go on through scale and bias from where the cursor stands, at the beginning of a row of X:
/// each has one entry, or each value from column `first` on its own.
template <class T, class Sink>
inline void apply_rows(const T* x, int64_t rows, int64_t pitch, int64_t first, int64_t width,
                       const ColumnMaps<Compute<T>>& maps, const Affine& affine, AffineCursor cursor, const Sink& sink,
                       int64_t y_pitch) {
  using C = Compute<T>;
  const bool varies = affine.inner == 1;
  for (int64_t r = 0; r < rows; ++r, cursor.advance(pitch)) {
    const T* const from = x + r * pitch;
    const Sink to = sink.from(r * y_pitch);
    const C* const scales = static_cast<const C*>(affine.scale) + cursor.entry();
    const C* const biases = static_cast<const C*>(affine.bias) + cursor.entry();
    const auto map = [&](int64_t c, auto extent) {
      return (load(from + c, extent, Vector<C>{}) - load(maps.shift + c)) * load(maps.factor + c) + load(maps.bias + c);
    };
    if (varies) {
      for_vectors<C>(width, [&](int64_t c, auto extent) {
        const Vector<C> scale = load(scales + first + c, extent, Vector<C>{});
        // Loaded before the product: compilers contract it with a sum only where no branch is in between.
        const Vector<C> bias = load(biases + first + c, extent, Vector<C>{});
        to.put(map(c, extent) * scale + bias, c, extent);
      });
    } else {
      const C scale = *scales, bias = *biases;
      for_vectors<C>(width, [&](int64_t c, auto extent) { to.put(map(c, extent) * scale + bias, c, extent); });
    }
  }
}

/// The flat index before which the task's last row ends, taken to its whole length.
inline int64_t end_of(const ColumnsTask& task) {
  return task.first_index + (task.samples - 1) * task.sample_pitch + task.rows * task.pitch;
}

/// Rows from flat index `index` of X to the same place of Y, finished. apply(x, first, rows, sink, y_pitch) computes
/// some of them: `rows` from row `first` on, which stands at x.
template <class T, class Apply>
inline void map_rows(const ColumnsTask& task, int64_t index, int64_t rows, int64_t pitch, int64_t width,
                     const Apply& apply) {
  using C = Compute<T>;
  const T* x = static_cast<const T*>(task.x) + index;
  const int64_t end = end_of(task);
  const Ahead ahead = pitch == width ? ahead_until<T>(end) : Ahead{pitch, pitch, end};
  const bool done = straight<T>(task.finish, task.y, index, ahead,
                                [&](const auto& sink) { apply(x, int64_t{0}, rows, sink, pitch); });
  if (done) return;
  static_assert(most_waiting<C> >= max_columns, "a block holds at least a row");
  alignas(vector_bytes) C values[most_waiting<C>];
  const int64_t block = most_waiting<C> / width;
  for (int64_t begin = 0; begin < rows; begin += block) {
    const int64_t size = smaller(block, rows - begin);
    apply(x + begin * pitch, begin, size, Waiting<C>{values}, width);
    const int64_t first = index + begin * pitch;
    if (pitch == width) {
      task.finish->run(*task.finish, values, first, size * width, ahead, 0, task.y);
    } else {
      for (int64_t r = 0; r < size; ++r) {
        task.finish->run(*task.finish, values + r * width, first + r * pitch, width, {pitch, size * pitch, end}, 0,
                         task.y);
      }
    }
  }
}

/// The map of each group, as in Map; in double for those whose factor C does not hold.
template <class C>
struct ColumnGroupMaps {
  Columns<C> shift;
  Columns<C> factor;
  Columns<C> offset;
  DoubleMap in_double[max_columns];
  bool is_in_double[max_columns];
  bool any_in_double = false;

  [[gnu::noinline, gnu::cold]] void set_in_double(int64_t group, const DoubleMap& map) {
    if (!any_in_double) {
      for (bool& is : is_in_double) is = false;
    }
    any_in_double = is_in_double[group] = true;
    in_double[group] = map;
  }
};

template <class C, class S>
inline void map_groups(const ColumnStatistics<C, S>& statistics, int64_t groups, const Rule& rule,
                       ColumnGroupMaps<C>& maps) {
#pragma omp simd
  for (int64_t g = 0; g < groups; ++g) {
    const S offset = statistics.offset.values[g];
    const S mean = static_cast<S>(statistics.shift.values[g]) + offset;
    const S factor = factor_of(rule, mean, statistics.variance.values[g]);
    maps.shift.values[g] = statistics.shift.values[g];
    maps.factor.values[g] = static_cast<C>(factor);
    maps.offset.values[g] = static_cast<C>(-offset * factor);
  }
  if (rule.subtract_mean) return;
  clear(maps.shift.values, groups);
  clear(maps.offset.values, groups);
}

/// The columns' maps for one short row, without scale and bias.
template <class C>
inline void spread_maps(const ColumnGroupMaps<C>& groups, int64_t count, int64_t depth, ColumnMaps<C>& maps) {
  spread_groups(groups.shift, count, depth, 1, maps.shift);
  spread_groups(groups.factor, count, depth, 1, maps.factor);
  spread_groups(groups.offset, count, depth, 1, maps.bias);
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

/// Rows of the whole rectangle, from flat index `index` on, of groups that are partly mapped in double.
template <class T, class Sink>
[[gnu::noinline, gnu::cold]] void apply_partly_in_double(const ColumnsTask& task, const T* x, int64_t index,
                                                         int64_t rows, const ColumnMaps<Compute<T>>& maps,
                                                         const ColumnGroupMaps<Compute<T>>& groups,
                                                         const ColumnAffine<Compute<T>>& affine, const Sink& sink,
                                                         int64_t y_pitch) {
  using C = Compute<T>;
  const int64_t width = task.groups * task.depth;
  for (int64_t r = 0; r < rows; ++r, x += task.pitch, index += task.pitch) {
    Columns<C> values, scale = affine.scale, bias = affine.bias;
    const Waiting<C> waiting{values.values};
    if (affine.fixed) {
      apply_rows(x, 1, task.pitch, width, maps, waiting, width);
    } else {
      const int64_t column = index % task.pitch;
      const AffineCursor cursor(*task.affine, index - column);
      apply_rows(x, 1, task.pitch, column, width, maps, *task.affine, cursor, waiting, width);
      spread_affine(*task.affine, index, width, scale, bias);
    }
    for (int64_t c = 0; c < width; ++c) {
      const int64_t group = c / task.depth;
      if (!groups.is_in_double[group]) continue;
      const double normalized = groups.in_double[group](static_cast<double>(value_at(x + c)));
      values[c] = static_cast<C>(normalized * static_cast<double>(scale[c]) + static_cast<double>(bias[c]));
    }
    const Sink to = sink.from(r * y_pitch);
    for_vectors<C>(width, [&](int64_t c, auto extent) { to.put(load(values + c, extent, Vector<C>{}), c, extent); });
  }
}

template <class T>
void apply_to_columns(const ColumnsTask& task, int64_t first_index, const ColumnGroupMaps<Compute<T>>& groups,
                      const ColumnAffine<Compute<T>>& affine) {
  using C = Compute<T>;
  const int64_t width = task.groups * task.depth;
  const Affine& table = *task.affine;
  LongRows shape = long_rows(task, lanes<C>);
  // Joined rows may not go past the table's end.
  const bool past_end =
      !affine.fixed && (table.inner > 1 || table.period % shape.pitch != 0 || first_index % shape.pitch != 0);
  if (past_end || groups.any_in_double) shape = {1, task.rows, task.pitch, width, 0};
  ColumnMaps<C> maps;
  spread_maps(groups, task.groups, task.depth, maps);
  if (affine.fixed) {
    for (int64_t c = 0; c < width; c += lanes<C>) {
      const Vector<C> scale = load(affine.scale + c);
      store(load(maps.bias + c) * scale + load(affine.bias + c), maps.bias + c);
      store(load(maps.factor + c) * scale, maps.factor + c);
    }
  }
  repeat_columns(width, shape.repeat, maps.shift);
  repeat_columns(width, shape.repeat, maps.factor);
  repeat_columns(width, shape.repeat, maps.bias);
  const auto map = [&](int64_t index, int64_t rows, int64_t columns) {
    map_rows<T>(task, index, rows, shape.pitch, columns,
                [&](const T* x, int64_t first, int64_t count, const auto& sink, int64_t y_pitch) {
                  if (groups.any_in_double) {
                    const int64_t begin = index + first * shape.pitch;
                    return apply_partly_in_double(task, x, begin, count, maps, groups, affine, sink, y_pitch);
                  }
                  if (affine.fixed) return apply_rows(x, count, shape.pitch, columns, maps, sink, y_pitch);
                  // Of the whole row: a table ends with a row.
                  const int64_t column = index % task.pitch;
                  const AffineCursor cursor(table, index - column + first * shape.pitch);
                  apply_rows(x, count, shape.pitch, column, columns, maps, table, cursor, sink, y_pitch);
                });
  };
  map(first_index, shape.rows, shape.width);
  if (shape.rest > 0) map(first_index + shape.rows * shape.pitch, 1, shape.rest);
}

/// Groups up to here have their statistics taken in the compute type.
constexpr int64_t small_group = 4096;

template <class S, class T>
void statistics_maps(const ColumnsTask& task, const T* x, ColumnGroupMaps<Compute<T>>& maps) {
  using C = Compute<T>;
  ColumnStatistics<C, S> statistics;
  columns_statistics(task, x, statistics);
  map_groups(statistics, task.groups, *task.rule, maps);
  maps.any_in_double = false;
  int lost = 0;
#pragma omp simd reduction(| : lost)
  for (int64_t g = 0; g < task.groups; ++g) lost |= !factor_in_range(maps.factor.values[g]);
  for (int64_t g = 0; lost && g < task.groups; ++g) {
    if (factor_in_range(maps.factor[g])) continue;
    const Moments moments = group_in_double(task, x, g);
    const Map<C> map = map_of(statistics_of<C>(moments), *task.rule);
    maps.shift[g] = map.shift;
    maps.factor[g] = map.factor;
    maps.offset[g] = map.offset;
    const DoubleMap in_double = double_map_of(moments, *task.rule);
    if (!fits<C>(in_double.factor)) maps.set_in_double(g, in_double);
  }
}

template <class T>
void sample_maps(const ColumnsTask& task, const T* x, ColumnGroupMaps<Compute<T>>& maps) {
  if (task.rows * task.depth > small_group) {
    statistics_maps<double>(task, x, maps);
  } else {
    statistics_maps<Compute<T>>(task, x, maps);
  }
}

/// Samples up to here are taken many at a time, side by side, so that what is done once a sample is done for a vector
/// of them at once.
constexpr int64_t tiny_sample = 256;

template <class T>
bool are_tiny(const ColumnsTask& task) {
  const int64_t size = task.rows * task.pitch;
  const int64_t covered = task.affine->period * task.affine->inner;
  return task.samples > 1 && size <= tiny_sample && task.sample_pitch == size &&
         task.groups * task.depth == task.pitch && (task.affine->period == 1 || size % covered == 0) &&
         task.affine->rows == 1;
}

template <class T>
void normalize_tiny_samples(const ColumnsTask& task) {
  using C = Compute<T>;
  const int64_t width = task.pitch;
  const int64_t size = task.rows * width;
  const int64_t most = smaller(smaller(max_columns / width, most_waiting<C> / size), task.samples);
  const int64_t pitch = most * width;
  alignas(vector_bytes) C values[most_waiting<C>], matrix[most_waiting<C>];
  Columns<C> scale, bias;
  spread_affine(*task.affine, task.first_index, size, scale, bias);
  ColumnGroupMaps<C> groups;
  ColumnMaps<C> maps;
  const Ahead ahead = ahead_until<T>(end_of(task));
  for (int64_t first = 0; first < task.samples; first += most) {
    const int64_t samples = smaller(most, task.samples - first);
    const int64_t index = task.first_index + first * size;
    const T* const x = static_cast<const T*>(task.x) + index;
    for (int64_t r = 0; r < task.rows; ++r) {
      for (int64_t s = 0; s < samples; ++s) {
        const T* const from = x + s * size + r * width;
        C* const to = matrix + r * pitch + s * width;
        for_vectors<C>(width,
                       [&](int64_t c, auto extent) { store(load(from + c, extent, Vector<C>{}), to + c, extent); });
      }
    }
    ColumnsTask together = task;
    together.pitch = pitch;
    together.groups = samples * task.groups;
    sample_maps(together, matrix, groups);
    spread_maps(groups, together.groups, task.depth, maps);
    apply_rows(matrix, task.rows, pitch, samples * width, maps, Waiting<C>{matrix}, pitch);
    for (int64_t c = 0; groups.any_in_double && c < samples * width; ++c) {
      if (!groups.is_in_double[c / task.depth]) continue;
      for (int64_t r = 0; r < task.rows; ++r) {
        const auto value = static_cast<double>(value_at(x + c / width * size + r * width + c % width));
        matrix[r * pitch + c] = static_cast<C>(groups.in_double[c / task.depth](value));
      }
    }
    const auto put = [&](const auto& sink) {
      for (int64_t r = 0; r < task.rows; ++r) {
        for (int64_t s = 0; s < samples; ++s) {
          for_vectors<C>(width, [&](int64_t c, auto extent) {
            const Vector<C> value = load(matrix + (r * pitch + s * width + c), extent, Vector<C>{});
            const Vector<C> scales = load(scale + r * width + c), biases = load(bias + r * width + c);
            sink.put(value * scales + biases, s * size + r * width + c, extent);
          });
        }
      }
    };
    if (straight<T>(task.finish, task.y, index, ahead, put)) continue;
    put(Waiting<C>{values});
    task.finish->run(*task.finish, values, index, samples * size, ahead, 0, task.y);
  }
}

template <class T>
void normalize_columns(const ColumnsTask& task) {
  using C = Compute<T>;
  if (are_tiny<T>(task)) return normalize_tiny_samples<T>(task);
  ColumnAffine<C> affine(task);
  ColumnGroupMaps<C> maps;
  for (int64_t s = 0; s < task.samples; ++s) {
    const int64_t first_index = task.first_index + s * task.sample_pitch;
    sample_maps(task, static_cast<const T*>(task.x) + first_index, maps);
    if (s > 0 && task.affine->rows > 1) affine.read(task, first_index);
    apply_to_columns<T>(task, first_index, maps, affine);
  }
}

template <class S, class T>
void statistics_moments(const ColumnsTask& task, const T* x, double* mean, double* variance) {
  using C = Compute<T>;
  ColumnStatistics<C, S> statistics;
  columns_statistics(task, x, statistics);
  const Rule rule = *task.rule;
  int lost = 0;
#pragma omp simd reduction(| : lost)
  for (int64_t g = 0; g < task.groups; ++g) {
    mean[g] = static_cast<double>(statistics.shift.values[g]) + static_cast<double>(statistics.offset.values[g]);
    variance[g] = static_cast<double>(statistics.variance.values[g]);
    lost |= !in_range<C>(square_of(rule, mean[g], variance[g]));
  }
  for (int64_t g = 0; lost && g < task.groups; ++g) {
    if (in_range<C>(square_of(rule, mean[g], variance[g]))) continue;
    const Moments moments = group_in_double(task, x, g);
    mean[g] = moments.mean;
    variance[g] = moments.variance;
  }
}

template <class T>
void column_moments(const ColumnsTask& task, double* mean, double* variance) {
  const T* const x = static_cast<const T*>(task.x) + task.first_index;
  if (task.rows * task.depth > small_group) {
    statistics_moments<double>(task, x, mean, variance);
  } else {
    statistics_moments<Compute<T>>(task, x, mean, variance);
  }
}

template <class T>
void map_moments(const double* mean, const double* variance, int64_t groups, const Rule& rule, const GroupMaps& maps) {
  using C = Compute<T>;
#pragma omp simd
  for (int64_t g = 0; g < groups; ++g) {
    const Moments moments{mean[g], variance[g]};
    const Map<C> map = map_of(statistics_of<C>(moments), rule);
    static_cast<C*>(maps.shift)[g] = map.shift;
    static_cast<C*>(maps.factor)[g] = map.factor;
    static_cast<C*>(maps.offset)[g] = map.offset;
    const DoubleMap in_double = double_map_of(moments, rule);
    maps.double_shift[g] = in_double.shift;
    maps.double_factor[g] = in_double.factor;
  }
}

template <class T>
void apply_columns(const ColumnsTask& task, const GroupMaps& maps) {
  using C = Compute<T>;
  const ColumnAffine<C> affine(task);
  ColumnGroupMaps<C> groups;
  for_vectors<C>(task.groups, [&](int64_t g, auto extent) {
    store(load(static_cast<const C*>(maps.shift) + g, extent, Vector<C>{}), groups.shift + g);
    store(load(static_cast<const C*>(maps.factor) + g, extent, Vector<C>{}), groups.factor + g);
    store(load(static_cast<const C*>(maps.offset) + g, extent, Vector<C>{}), groups.offset + g);
  });
  int any = 0;
#pragma omp simd reduction(| : any)
  for (int64_t g = 0; g < task.groups; ++g) any |= !fits<C>(maps.double_factor[g]);
  for (int64_t g = 0; any && g < task.groups; ++g) {
    if (!fits<C>(maps.double_factor[g])) groups.set_in_double(g, {maps.double_shift[g], maps.double_factor[g]});
  }
  apply_to_columns<T>(task, task.first_index, groups, affine);
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
