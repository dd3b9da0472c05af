// Groups that are dense runs of X. Compiled once per instruction set: see kernels.cpp.
//
// Statistics take one pass: sums of (x - K) and (x - K)^2 with K, the shift, close to the mean, so that nothing
// cancels whatever the mean is. K comes from a sample; the sums tell whether it was good, and if not the pass is
// repeated with the mean they found.
#pragma once

#include "element.h"
#include "kernels.h"

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

/// A shift is repaired when its distance from the mean exceeds two standard deviations: below that it costs less than
/// a bit or two of the variance.
inline bool bad_shift(double offset, double variance) { return offset * offset > 4 * variance; }

inline bool is_finite(double value) { return value - value == 0; }

template <class C>
struct Sums {
  C first;
  C second;
};

/// Four streams keep enough additions in flight; a quarter of a tile is short enough for sums in the compute type.
template <class C>
inline Sums<C> shifted_sums(const C* x, int64_t count, C shift) {
  C first = 0, second = 0;
  int64_t done = 0;
  if (count >= 512) {
    const int64_t quarter = count / 4;
    const C *x1 = x + quarter, *x2 = x1 + quarter, *x3 = x2 + quarter;
    C f0 = 0, f1 = 0, f2 = 0, f3 = 0, s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : f0, f1, f2, f3, s0, s1, s2, s3)
    for (int64_t i = 0; i < quarter; ++i) {
      const C d0 = x[i] - shift, d1 = x1[i] - shift, d2 = x2[i] - shift, d3 = x3[i] - shift;
      f0 += d0;
      f1 += d1;
      f2 += d2;
      f3 += d3;
      s0 += d0 * d0;
      s1 += d1 * d1;
      s2 += d2 * d2;
      s3 += d3 * d3;
    }
    first = (f0 + f1) + (f2 + f3);
    second = (s0 + s1) + (s2 + s3);
    done = 4 * quarter;
  }
#pragma omp simd reduction(+ : first, second)
  for (int64_t i = done; i < count; ++i) {
    const C d = x[i] - shift;
    first += d;
    second += d * d;
  }
  return {first, second};
}

/// The mean of elements spread over the run, taken relative to the first one: a constant run gives its constant.
template <class T>
inline Compute<T> sampled_mean(const T* x, int64_t count) {
  using C = Compute<T>;
  constexpr int64_t chunk = 16;
  // With s samples a lone outlier among n zeros puts the shift sqrt(n) / s deviations off.
  const int64_t chunks = count < 2048 ? 4 : 8;
  const C anchor = to_float(x[0]);
  C sum = 0;
  if (count < chunks * chunk) {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; ++i) sum += static_cast<C>(to_float(x[i])) - anchor;
    return anchor + sum / static_cast<C>(count);
  }
  const int64_t step = (count - chunk) / (chunks - 1);
  for (int64_t k = 0; k < chunks; ++k) {
    const T* from = x + k * step;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < chunk; ++i) sum += static_cast<C>(to_float(from[i])) - anchor;
  }
  return anchor + sum / static_cast<C>(chunks * chunk);
}

/// For values whose squares leave float's range: slow and rare. What is not finite itself ends as NaN here.
template <class T>
Statistics<Compute<T>> statistics_in_double(const T* x, int64_t runs, int64_t pitch, int64_t depth) {
  const double count = static_cast<double>(runs) * static_cast<double>(depth);
  const double anchor = static_cast<double>(to_float(x[0]));
  double sum = 0;
  for (int64_t r = 0; r < runs; ++r) {
    for (int64_t i = 0; i < depth; ++i) sum += static_cast<double>(to_float(x[r * pitch + i])) - anchor;
  }
  const double mean = anchor + sum / count;
  double squares = 0;
  for (int64_t r = 0; r < runs; ++r) {
    for (int64_t i = 0; i < depth; ++i) {
      const double d = static_cast<double>(to_float(x[r * pitch + i])) - mean;
      squares += d * d;
    }
  }
  const auto shift = static_cast<Compute<T>>(mean);
  return {shift, mean - static_cast<double>(shift), squares / count};
}

template <class T>
inline Statistics<Compute<T>> runs_statistics(const T* x, int64_t runs, int64_t pitch, int64_t depth) {
  using C = Compute<T>;
  C buffer[tile_size];
  const double count = static_cast<double>(runs) * static_cast<double>(depth);
  Statistics<C> result{sampled_mean(x, depth), 0, 0};
  for (bool repaired = false;; repaired = true) {
    double first = 0, second = 0;
    for (int64_t r = 0; r < runs; ++r) {
      const T* run = x + r * pitch;
      // Longer tiles where nothing is converted: fewer flushes to double.
      constexpr int64_t tile = sizeof(T) == sizeof(C) ? 4 * tile_size : tile_size;
      for (int64_t begin = 0; begin < depth; begin += tile) {
        const int64_t size = smaller(tile, depth - begin);
        const Sums<C> sums = shifted_sums(widened(run + begin, size, buffer), size, result.shift);
        first += static_cast<double>(sums.first);
        second += static_cast<double>(sums.second);
      }
    }
    if (sizeof(C) < sizeof(double) && !is_finite(second)) return statistics_in_double(x, runs, pitch, depth);
    result.offset = first / count;
    result.variance = second / count - result.offset * result.offset;
    if (repaired || !bad_shift(result.offset, result.variance)) return result;
    result.shift = static_cast<C>(static_cast<double>(result.shift) + result.offset);
  }
}

template <class C>
inline void apply_scalars(const C* x, int64_t count, C shift, C factor, C bias, C* y) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) y[i] = (x[i] - shift) * factor + bias;
}

template <class C>
inline void apply_vectors(const C* x, int64_t count, C shift, C factor, C offset, const C* scale, const C* bias, C* y) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) y[i] = ((x[i] - shift) * factor + offset) * scale[i] + bias[i];
}

/// Normalizes a run that begins at flat index `index` of X.
template <class T>
inline void apply_to_run(const T* x, T* y, int64_t index, int64_t count, const Statistics<Compute<T>>& statistics,
                         double epsilon, const Affine& affine) {
  using C = Compute<T>;
  const double reciprocal = reciprocal_deviation(statistics.variance, epsilon);
  const C shift = statistics.shift;
  const C factor = static_cast<C>(reciprocal);
  const C offset = static_cast<C>(-statistics.offset * reciprocal);
  const C* scale = static_cast<const C*>(affine.scale);
  const C* bias = static_cast<const C*>(affine.bias);
  C in_buffer[tile_size], out_buffer[tile_size];
  constexpr int64_t tile = sizeof(T) == sizeof(C) ? INT64_MAX : tile_size;

  int64_t entry = affine.period == 1 ? 0 : index / affine.inner % affine.period;
  // How much of the run the current table entry (inner > 1) or the rest of the table (inner == 1) still covers.
  int64_t covered = affine.inner == 1 ? affine.period - entry : affine.inner - index % affine.inner;
  if (affine.period == 1) covered = count;
  while (count > 0) {
    const int64_t size = smaller(tile, smaller(covered, count));
    const C* in = widened(x, size, in_buffer);
    C* out = landing(y, out_buffer);
    if (affine.inner == 1 && affine.period > 1) {
      apply_vectors(in, size, shift, factor, offset, scale + entry, bias + entry, out);
      entry += size;
    } else {
      apply_scalars(in, size, shift, factor * scale[entry], offset * scale[entry] + bias[entry], out);
    }
    land(out, size, y);
    x += size;
    y += size;
    count -= size;
    covered -= size;
    if (covered == 0) {
      if (affine.inner > 1) ++entry;
      if (entry == affine.period) entry = 0;
      covered = affine.inner == 1 ? affine.period : affine.inner;
    }
  }
}

template <class T>
void normalize_runs(const RunsTask& task) {
  const T* x = static_cast<const T*>(task.x) + task.first_index;
  T* y = static_cast<T*>(task.y) + task.first_index;
  for (int64_t g = 0; g < task.groups; ++g) {
    const int64_t group = g * task.depth;
    const auto statistics = runs_statistics(x + group, task.runs, task.pitch, task.depth);
    for (int64_t r = 0; r < task.runs; ++r) {
      const int64_t run = group + r * task.pitch;
      apply_to_run(x + run, y + run, task.first_index + run, task.depth, statistics, task.epsilon, *task.affine);
    }
  }
}

template <class T>
void run_moments(const void* x, int64_t first_index, int64_t count, Moments* moments) {
  const auto statistics = runs_statistics(static_cast<const T*>(x) + first_index, 1, count, count);
  *moments = {static_cast<double>(statistics.shift) + statistics.offset, statistics.variance,
              static_cast<double>(count)};
}

template <class C>
inline Statistics<C> statistics_of(const Moments& moments) {
  const C shift = static_cast<C>(moments.mean);
  return {shift, moments.mean - static_cast<double>(shift), moments.variance};
}

template <class T>
void apply_run(const RunsTask& task, const Moments& moments) {
  apply_to_run(static_cast<const T*>(task.x) + task.first_index, static_cast<T*>(task.y) + task.first_index,
               task.first_index, task.depth, statistics_of<Compute<T>>(moments), task.epsilon, *task.affine);
}

}  // namespace
}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
