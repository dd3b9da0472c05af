// Groups that are dense runs of X. Compiled once per instruction set: see kernels.cpp.
//
// Statistics take one pass: sums of (x - K) and (x - K)^2 with K, the shift, close to the mean, so that nothing
// cancels whatever the mean is. K comes from a sample; the sums tell whether it was good, and if not the pass is
// repeated with the mean they found.
#pragma once

#include "kernels.h"
#include "output.h"
#include "vector.h"

namespace onnxnorm::cpu {
namespace ONNXNORM_ISA_NAMESPACE {
namespace {

/// mean = shift + offset, offset small: x - shift loses nothing, and offset joins the bias.
template <class C>
struct Statistics {
  C shift;
  double offset;
  double variance;
};

template <class C>
inline Moments moments_of(const Statistics<C>& statistics) {
  return {static_cast<double>(statistics.shift) + statistics.offset, statistics.variance};
}

/// What maps an element to its normalized value, (x - shift) * factor + offset.
template <class C>
struct Map {
  C shift;
  C factor;
  C offset;
};

template <class C>
inline Map<C> map_of(const Statistics<C>& statistics, const Rule& rule) {
  const double factor = double_map_of(moments_of(statistics), rule).factor;
  if (!rule.subtract_mean) return {0, static_cast<C>(factor), 0};
  return {statistics.shift, static_cast<C>(factor), static_cast<C>(-statistics.offset * factor)};
}

template <class C>
inline Statistics<C> statistics_of(const Moments& moments) {
  const C shift = static_cast<C>(moments.mean);
  const double offset = is_finite(moments.mean) ? moments.mean - static_cast<double>(shift) : 0;
  return {shift, offset, moments.variance};
}

/// A shift is repaired when its distance from the mean exceeds two standard deviations: below that it costs less than
/// a bit or two of the variance.
template <class C>
inline bool bad_shift(C offset, C variance) {
  return offset * offset > 4 * variance;
}

template <class C>
struct Sums {
  Vector<C> first{};
  Vector<C> second{};

  void add(Vector<C> d) {
    first += d;
    second += d * d;
  }
  void add(const Sums& other) {
    first += other.first;
    second += other.second;
  }
};

/// Elements summed in the compute type before a flush to double.
constexpr int64_t run_per_flush = 4096;

/// How far ahead of the sums X is fetched: what a layer before wrote may have left all caches. Only within what is
/// summed: what follows may be another thread's, which is writing there where Y is in X's place.
template <class T>
constexpr int64_t summed_ahead = (4 << 10) / static_cast<int64_t>(sizeof(T));

/// Of `count` elements, of `left` that are summed from x on. Several sums keep enough additions in flight.
template <class T>
inline Sums<Compute<T>> shifted_sums(const T* x, int64_t count, int64_t left, Compute<T> shift) {
  using C = Compute<T>;
  Sums<C> s0, s1, s2, s3;
  const int64_t last = left - summed_ahead<T> - 4 * lanes<C>;
  int64_t i = 0;
  for (; i + 4 * lanes<C> <= count; i += 4 * lanes<C>) {
    if (i <= last) prefetch(x, i + summed_ahead<T>, 4 * lanes<C>);
    s0.add(load(x + i) - shift);
    s1.add(load(x + i + lanes<C>) - shift);
    s2.add(load(x + i + 2 * lanes<C>) - shift);
    s3.add(load(x + i + 3 * lanes<C>) - shift);
  }
  for_vectors<C>(count - i, [&](int64_t j, auto extent) { s0.add(load(x + i + j, extent, broadcast(shift)) - shift); });
  s0.add(s1);
  s2.add(s3);
  s0.add(s2);
  return s0;
}

/// Which vectors of a run of `count` elements its shift is sampled from: spread over the run. With s of n elements a
/// lone outlier among equals puts the shift sqrt(n) / s deviations off.
template <class C>
struct Sample {
  Sample(int64_t count, int64_t most_vectors)
      : vectors(smaller(count / lanes<C>, most_vectors)),
        step(vectors > 1 ? (count - lanes<C>) / (vectors - 1) : 0),
        elements(vectors > 0 ? vectors * lanes<C> : count) {}

  int64_t vectors;  // 0: the run is shorter than a vector, and taken whole
  int64_t step;
  int64_t elements;
};

/// Sum of (x - anchor) over a sample.
template <class T>
inline Vector<Compute<T>> sampled_sum(const T* x, const Sample<Compute<T>>& sample, Compute<T> anchor) {
  using C = Compute<T>;
  if (sample.vectors == 0) return load(x, Part{sample.elements}, broadcast(anchor)) - anchor;
  Vector<C> sum{};
  for (int64_t v = 0; v < sample.vectors; ++v) sum += load(x + v * sample.step) - anchor;
  return sum;
}

/// Rare, and kept out of the loops that call it.
template <class T>
[[gnu::noinline, gnu::cold]] Moments run_moments_in_double(const T* x, int64_t runs, int64_t pitch, int64_t depth) {
  return moments_in_double(runs * depth,
                           [&](int64_t i) { return static_cast<double>(value_at(x + i / depth * pitch + i % depth)); });
}

/// Statistics that the rule can use, whatever the values.
template <class T>
inline Statistics<Compute<T>> runs_statistics(const T* x, int64_t runs, int64_t pitch, int64_t depth,
                                              const Rule& rule) {
  using C = Compute<T>;
  const double count = static_cast<double>(runs) * static_cast<double>(depth);
  const C anchor = value_at(x);
  const Sample<C> sample(depth, 16);
  const C sum = sum_of_lanes<C>(sampled_sum(x, sample, anchor));
  Statistics<C> result{anchor + sum / static_cast<C>(sample.elements), 0, 0};
  for (bool repaired = false;; repaired = true) {
    double first = 0, second = 0;
    for (int64_t r = 0; r < runs; ++r) {
      for (int64_t begin = 0; begin < depth; begin += run_per_flush) {
        const T* from = x + r * pitch + begin;
        const int64_t left = depth - begin;
        const Sums<C> sums = shifted_sums(from, smaller(run_per_flush, left), left, result.shift);
        first += static_cast<double>(sum_of_lanes<C>(sums.first));
        second += static_cast<double>(sum_of_lanes<C>(sums.second));
      }
    }
    result.offset = first / count;
    result.variance = second / count - result.offset * result.offset;
    if (!repaired && bad_shift(result.offset, result.variance)) {
      result.shift = static_cast<C>(static_cast<double>(result.shift) + result.offset);
      continue;
    }
    if (in_range<C>(square_of(rule, moments_of(result).mean, result.variance))) return result;
    return statistics_of<C>(run_moments_in_double(x, runs, pitch, depth));
  }
}

/// For a vector of rows.
template <class C>
inline void factors_of(const Rule& rule, const C* means, const C* variances, C* factors) {
#pragma omp simd
  for (int64_t r = 0; r < lanes<C>; ++r) factors[r] = factor_of(rule, means[r], variances[r]);
}

/// Whether a vector of rows needs no second look.
template <class C>
inline bool all_in_range(const C* factors) {
  int lost = 0;
#pragma omp simd reduction(| : lost)
  for (int64_t r = 0; r < lanes<C>; ++r) lost |= !factor_in_range(factors[r]);
  return !lost;
}

/// Rows this short are taken several at a time, so that what is done once a row is done for a vector of rows at once.
constexpr int64_t short_row_bytes = 8 << 10;
/// What the rows of one such block may take of the first-level cache between their statistics and their results.
constexpr int64_t block_bytes = 16 << 10;
static_assert(block_bytes >= short_row_bytes, "a block holds at least a row");

/// The maps of up to a vector of rows.
template <class C>
struct RowMaps {
  alignas(vector_bytes) C shift[lanes<C>];
  alignas(vector_bytes) C factor[lanes<C>];
  alignas(vector_bytes) C offset[lanes<C>];
  /// Of those whose factor C does not hold, by their bits.
  DoubleMap in_double[lanes<C>];
  uint32_t is_in_double = 0;

  Map<C> operator[](int64_t row) const { return {shift[row], factor[row], offset[row]}; }
  [[gnu::noinline, gnu::cold]] void set(int64_t row, const Statistics<C>& statistics, const Rule& rule) {
    const Map<C> map = map_of(statistics, rule);
    shift[row] = map.shift;
    factor[row] = map.factor;
    offset[row] = map.offset;
    in_double[row] = double_map_of(moments_of(statistics), rule);
    if (!fits<C>(in_double[row].factor)) is_in_double |= 1u << row;
  }
};

template <class T>
inline void short_rows_maps(const T* x, int64_t rows, int64_t depth, const Rule& rule, RowMaps<Compute<T>>& maps) {
  using C = Compute<T>;
  using V = Vector<C>;
  alignas(vector_bytes) C anchors[lanes<C>] = {}, means[lanes<C>], offsets[lanes<C>], variances[lanes<C>];
  V first[lanes<C>] = {}, second[lanes<C>] = {};
  // Close enough: at most a deviation off, even where a lone outlier among equals is part of it.
  const Sample<C> sample(depth, 2);
  for (int64_t r = 0; r < rows; ++r) {
    anchors[r] = value_at(x + r * depth);
    first[r] = sampled_sum(x + r * depth, sample, anchors[r]);
  }
  const V shift = load(anchors) + sums_of_rows<C>(first) * (C(1) / static_cast<C>(sample.elements));
  store(shift, maps.shift);
  for (int64_t r = 0; r < rows; ++r) {
    const Sums<C> sums = shifted_sums(x + r * depth, depth, depth, maps.shift[r]);
    first[r] = sums.first;
    second[r] = sums.second;
  }
  const C share = C(1) / static_cast<C>(depth);
  const V offset = sums_of_rows<C>(first) * share;
  store(offset, offsets);
  store(shift + offset, means);
  store(sums_of_rows<C>(second) * share - offset * offset, variances);
  factors_of(rule, means, variances, maps.factor);
  maps.is_in_double = 0;
  bool good = all_in_range(maps.factor);
  for (int64_t r = 0; r < rows; ++r) good &= !bad_shift(offsets[r], variances[r]);
  if (rule.subtract_mean) {
    store(-offset * load(maps.factor), maps.offset);
  } else {
    clear(maps.shift, lanes<C>);
    clear(maps.offset, lanes<C>);
  }
  for (int64_t r = 0; !good && r < rows; ++r) {
    if (factor_in_range(maps.factor[r]) && !bad_shift(offsets[r], variances[r])) continue;
    maps.set(r, runs_statistics(x + r * depth, 1, depth, depth, rule), rule);
  }
}

/// Where in the tables of scale and bias a walk along X is.
class AffineCursor {
 public:
  AffineCursor(const Affine& affine, int64_t index)
      : inner_(affine.inner),
        period_(affine.period),
        entry_(affine.period == 1 ? 0 : index / affine.inner % affine.period),
        covered_(affine.period == 1  ? INT64_MAX
                 : affine.inner == 1 ? affine.period - entry_
                                     : affine.inner - index % affine.inner) {}

  int64_t entry() const { return entry_; }
  /// Elements to the end of this entry's reign, or of the table where every element has its own entry.
  int64_t covered() const { return covered_; }

  void advance(int64_t count) {
    if (period_ == 1) return;
    covered_ -= count;
    entry_ += inner_ == 1 ? count : covered_ == 0;
    if (entry_ == period_) entry_ = 0;
    if (covered_ == 0) covered_ = inner_ == 1 ? period_ : inner_;
  }

 private:
  int64_t inner_;
  int64_t period_;
  int64_t entry_;
  int64_t covered_;
};

/// Normalizes `count` elements from where the cursor stands.
template <class T, class Sink>
inline void apply_map(const T* x, const Sink& sink, int64_t count, const Map<Compute<T>>& map, const Affine& affine,
                      AffineCursor& cursor) {
  using C = Compute<T>;
  const C* scale = static_cast<const C*>(affine.scale);
  const C* bias = static_cast<const C*>(affine.bias);
  const bool varies = affine.inner == 1 && affine.period > 1;
  int64_t size = 0;
  for (int64_t begin = 0; begin < count; begin += size) {
    size = smaller(cursor.covered(), count - begin);
    const T* from = x + begin;
    // A copy: what is stored might else be the sink's own members, read again for each vector.
    const Sink to = sink.from(begin);
    const int64_t entry = cursor.entry();
    const C shift = map.shift;
    if (varies) {
      const C factor = map.factor, offset = map.offset;
      const C *scales = scale + entry, *biases = bias + entry;
      for_vectors<C>(size, [&](int64_t i, auto extent) {
        const Vector<C> normalized = (load(from + i, extent, Vector<C>{}) - shift) * factor + offset;
        to.put(normalized * load(scales + i, extent, Vector<C>{}) + load(biases + i, extent, Vector<C>{}), i, extent);
      });
    } else {
      const C factor = map.factor * scale[entry], offset = map.offset * scale[entry] + bias[entry];
      for_vectors<C>(size, [&](int64_t i, auto extent) {
        to.put((load(from + i, extent, Vector<C>{}) - shift) * factor + offset, i, extent);
      });
    }
    cursor.advance(size);
  }
}

/// Normalizes `rows` rows of a block, from row `first` on, that all go through the whole tables of scale and bias. The
/// values that stand `ahead` behind are fetched meanwhile, unless that is 0.
template <class T, class Sink>
inline void apply_maps(const T* x, const Sink& sink, int64_t first, int64_t rows, int64_t depth, int64_t ahead,
                       const RowMaps<Compute<T>>& maps, const Affine& affine) {
  using C = Compute<T>;
  const C* const scale = static_cast<const C*>(affine.scale);
  const C* const bias = static_cast<const C*>(affine.bias);
  for (int64_t r = 0; r < rows; ++r) {
    const T* const from = x + (first + r) * depth;
    const Sink to = sink.from(r * depth);
    const C shift = maps.shift[first + r], factor = maps.factor[first + r], offset = maps.offset[first + r];
    if (ahead > 0) prefetch(from, ahead, depth);
    for_vectors<C>(depth, [&](int64_t i, auto extent) {
      const Vector<C> normalized = (load(from + i, extent, Vector<C>{}) - shift) * factor + offset;
      to.put(normalized * load(scale + i, extent, Vector<C>{}) + load(bias + i, extent, Vector<C>{}), i, extent);
    });
  }
}

/// Where the normalized values of consecutive elements go: into Y, or block by block to what finishes them.
template <class T>
class Output {
 public:
  using C = Compute<T>;

  /// Of what is put from flat index `begin` to `end`. X is read next `further` elements behind what is put last.
  Output(const Finish* finish, void* y, int64_t begin, int64_t end, int64_t further)
      : finish_(finish), y_(y), index_(begin), end_(end), further_(further) {}
  ~Output() { flush(); }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  void apply(const T* x, int64_t count, const Map<C>& map, const Affine& affine, AffineCursor& cursor) {
    const bool done = straight<T>(finish_, y_, index_, ahead_until<T>(end_), [&](const auto& sink) {
      apply_map(x, sink, count, map, affine, cursor);
      index_ += count;
    });
    while (!done && count > 0) {
      const int64_t size = smaller(count, most_waiting<C>);
      apply_map(x, Waiting<C>{room_for(size)}, size, map, affine, cursor);
      x += size;
      count -= size;
    }
  }

  /// Element by element in double.
  [[gnu::noinline, gnu::cold]] void apply_in_double(const T* x, int64_t count, const DoubleMap& map,
                                                    const Affine& affine, AffineCursor& cursor) {
    for (int64_t i = 0; i < count; ++i) {
      const double scale = static_cast<double>(static_cast<const C*>(affine.scale)[cursor.entry()]);
      const double bias = static_cast<double>(static_cast<const C*>(affine.bias)[cursor.entry()]);
      put(broadcast(static_cast<C>(map(static_cast<double>(value_at(x + i))) * scale + bias)), Part{1});
      cursor.advance(1);
    }
  }

  /// A group, or a part of it.
  void apply(const T* x, int64_t count, const Statistics<C>& statistics, const Rule& rule, const Affine& affine,
             AffineCursor& cursor) {
    const DoubleMap map = double_map_of(moments_of(statistics), rule);
    if (fits<C>(map.factor)) {
      apply(x, count, map_of(statistics, rule), affine, cursor);
    } else {
      apply_in_double(x, count, map, affine, cursor);
    }
  }

  /// Up to a vector of rows.
  void apply(const T* x, int64_t rows, int64_t depth, const RowMaps<C>& maps, const Affine& affine,
             AffineCursor& cursor) {
    const bool whole = affine.inner == 1 && affine.period == depth && !maps.is_in_double;
    const bool done = whole && straight<T>(finish_, y_, index_, ahead_until<T>(end_), [&](const auto& sink) {
                        apply_maps(x, sink, 0, rows, depth, rows * depth, maps, affine);
                        index_ += rows * depth;
                      });
    for (int64_t r = 0, size = 0; !done && r < rows; r += size) {
      size = whole ? smaller(rows - r, most_waiting<C> / depth) : 0;
      if (size > 0) {
        apply_maps(x, Waiting<C>{room_for(size * depth)}, r, size, depth, 0, maps, affine);
      } else {
        size = 1;
        if (maps.is_in_double >> r & 1) {
          apply_in_double(x + r * depth, depth, maps.in_double[r], affine, cursor);
        } else {
          apply(x + r * depth, depth, maps[r], affine, cursor);
        }
      }
    }
  }

  void put(Vector<C> values, Part part) {
    const bool done = straight<T>(finish_, y_, index_, ahead_until<T>(end_), [&](const auto& sink) {
      sink.put(values, 0, part);
      index_ += part.count;
    });
    if (!done) store(values, room_for(part.count), part);
  }

 private:
  C* room_for(int64_t count) {
    if (waiting_ + count > most_waiting<C>) flush();
    waiting_ += count;
    return values_ + waiting_ - count;
  }

  void flush() {
    if (waiting_ > 0) finish_->run(*finish_, values_, index_, waiting_, ahead_until<T>(end_), further_, y_);
    index_ += waiting_;
    waiting_ = 0;
  }

  const Finish* finish_;
  void* y_;
  int64_t index_;  // of the first value that waits, or else of the next one
  int64_t end_;
  int64_t further_;
  int64_t waiting_ = 0;
  alignas(vector_bytes) C values_[most_waiting<C>];
};

/// Rows no longer than a vector, each held in one from first to last. scale and bias are those of every row.
template <class T>
inline void normalize_tiny_rows(const T* x, int64_t rows, int64_t depth, const Rule& rule, const Affine& affine,
                                Output<T>& output) {
  using C = Compute<T>;
  using V = Vector<C>;
  const Part part{depth};
  const C share = C(1) / static_cast<C>(depth);
  const V scale = load(static_cast<const C*>(affine.scale), part, V{});
  const V bias = load(static_cast<const C*>(affine.bias), part, V{});
  const V covered = load(&vector_of_ones<C>.values[0], part, V{});
  alignas(vector_bytes) C anchors[lanes<C>], means[lanes<C>], variances[lanes<C>], factors[lanes<C>];
  V centered[lanes<C>], sums[lanes<C>];
  for (int64_t begin = 0; begin < rows; begin += lanes<C>) {
    const int64_t size = smaller(lanes<C>, rows - begin);
    for (int64_t r = 0; r < lanes<C>; ++r) {
      // Relative to the row's first element: constant rows come out as zeros.
      const T* row = x + (begin + smaller(r, size - 1)) * depth;
      const C anchor = value_at(row);
      anchors[r] = anchor;
      centered[r] = load(row, part, broadcast(anchor)) - anchor;
      sums[r] = centered[r];
    }
    store(sums_of_rows<C>(sums) * share, means);
    for (int64_t r = 0; r < lanes<C>; ++r) {
      centered[r] -= covered * means[r];
      sums[r] = centered[r] * centered[r];
    }
    store(sums_of_rows<C>(sums) * share, variances);
    store(load(means) + load(anchors), means);
    factors_of(rule, means, variances, factors);
    const bool good = all_in_range(factors);
    for (int64_t r = 0; r < size; ++r) {
      const int64_t row = (begin + r) * depth;
      if (good || factor_in_range(factors[r])) {
        const V from = rule.subtract_mean ? centered[r] : load(x + row, part, V{});
        output.put(from * factors[r] * scale + bias, part);
      } else {
        AffineCursor cursor(affine, 0);
        const Moments moments = run_moments_in_double(x + row, 1, depth, depth);
        output.apply(x + row, depth, statistics_of<C>(moments), rule, affine, cursor);
      }
    }
  }
}

template <class T>
void normalize_runs(const RunsTask& task) {
  using C = Compute<T>;
  const T* x = static_cast<const T*>(task.x) + task.first_index;
  const int64_t depth = task.depth;
  const int64_t end = task.first_index + task.groups * depth;  // of groups of one run
  if (task.runs == 1 && depth <= lanes<C> && task.affine->inner == 1 && task.affine->period == depth) {
    Output<T> output(task.finish, task.y, task.first_index, end, 0);
    normalize_tiny_rows(x, task.groups, depth, *task.rule, *task.affine, output);
    return;
  }
  if (task.runs == 1 && depth * static_cast<int64_t>(sizeof(T)) <= short_row_bytes) {
    AffineCursor cursor(*task.affine, task.first_index);
    RowMaps<C> maps;
    const int64_t block = smaller(lanes<C>, block_bytes / (depth * static_cast<int64_t>(sizeof(T))));
    Output<T> output(task.finish, task.y, task.first_index, end, block * depth);
    for (int64_t g = 0; g < task.groups; g += block) {
      const int64_t rows = smaller(block, task.groups - g);
      short_rows_maps(x + g * depth, rows, depth, *task.rule, maps);
      output.apply(x + g * depth, rows, depth, maps, *task.affine, cursor);
    }
    return;
  }
  for (int64_t g = 0; g < task.groups; ++g) {
    const int64_t group = g * depth;
    const auto statistics = runs_statistics(x + group, task.runs, task.pitch, depth, *task.rule);
    for (int64_t r = 0; r < task.runs; ++r) {
      const int64_t run = group + r * task.pitch;
      AffineCursor cursor(*task.affine, task.first_index + run);
      const int64_t begin = task.first_index + run;
      Output<T> output(task.finish, task.y, begin, task.runs == 1 ? end : begin + depth, depth);
      output.apply(x + run, depth, statistics, *task.rule, *task.affine, cursor);
    }
  }
}

template <class T>
void run_moments(const void* x, int64_t first_index, int64_t count, const Rule& rule, double* mean, double* variance) {
  const Moments moments = moments_of(runs_statistics(static_cast<const T*>(x) + first_index, 1, count, count, rule));
  *mean = moments.mean;
  *variance = moments.variance;
}

template <class T>
void apply_run(const RunsTask& task, double mean, double variance) {
  AffineCursor cursor(*task.affine, task.first_index);
  Output<T> output(task.finish, task.y, task.first_index, task.first_index + task.depth, 0);
  output.apply(static_cast<const T*>(task.x) + task.first_index, task.depth,
               statistics_of<Compute<T>>(Moments{mean, variance}), *task.rule, *task.affine, cursor);
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
