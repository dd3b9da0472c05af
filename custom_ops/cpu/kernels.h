// What each instruction set level compiles: serial kernels on pieces of a tensor. The plan that cuts a tensor into
// pieces is normalize.cpp, compiled once.
//
// Nothing here may be a template or an inline function: it would be compiled at several levels, and the linker would
// keep any one of them for all.
#pragma once

#include <cstdint>

#include "normalize.h"

namespace onnxnorm::cpu {

/// How a group's moments become the map of its elements. The factor is
/// 1 / sqrt(max(variance * variance_weight + (mean * mean_weight)^2 + epsilon, least)).
struct Rule {
  double variance_weight;
  double mean_weight;
  double epsilon;
  double least;
  bool subtract_mean;
};

/// scale and bias as tables in the compute type (float, or double for float64): the element at flat index i of X uses
/// entry (i / inner) % period. Where there are several rows of `period` entries, those of row (i / span) % rows; only
/// the kernels for columns know of these, for rectangles within one span.
struct Affine {
  const void* scale;
  const void* bias;
  int64_t period;
  int64_t inner;
  int64_t rows;
  int64_t span;
};

/// What is fetched while a value is stored: where Y is written `written` elements further on, if that is before flat
/// index `end`, and what is read `read` elements further on. What follows the end may be another thread's, from which
/// it would take the lines that are written there.
struct Ahead {
  int64_t written;
  int64_t read;
  int64_t end;
};

/// What is done to normalized values before they are stored: the residual is added and the activation applied, which
/// for value v is min(max(v < 0 ? v * slope : v, low), high) or, where there is `run`, what that does.
struct Finish {
  /// To `count` values in the compute type that belong at flat index `index` of Y. What stands ahead is fetched
  /// meanwhile: the work of the processor and that of memory at once. Of X, where `further` is not 0, a part of what
  /// stands so much further behind: that is summed next.
  void (*run)(const Finish&, const void* values, int64_t index, int64_t count, const Ahead&, int64_t further, void* y);
  const void* x;
  const void* residual;  // null: none
  double parameters[2];
  double slope;
  double low;
  double high;
};

/// Groups that are dense runs of X, or `runs` runs of `depth` elements, `pitch` apart.
struct RunsTask {
  const void* x;
  void* y;
  int64_t first_index;  // flat index in X of the first element of the first group
  int64_t groups;       // that follow one another, `depth` apart
  int64_t runs;
  int64_t pitch;
  int64_t depth;
  const Rule* rule;
  const Affine* affine;
  const Finish* finish;  // null: nothing
};

/// A rectangle of a row-major matrix whose columns belong to groups of `depth` neighbours; statistics run down the
/// rows. At most max_columns wide.
struct ColumnsTask {
  const void* x;
  void* y;
  int64_t first_index;  // flat index in X of the rectangle's corner
  int64_t samples;      // of which the task takes the same rectangle
  int64_t sample_pitch;
  int64_t rows;
  int64_t pitch;
  int64_t groups;
  int64_t depth;
  const Rule* rule;
  const Affine* affine;
  const Finish* finish;  // null: nothing
};

constexpr int64_t max_columns = 1024;

/// What maps the elements of groups to normalized values, (x - shift) * factor + offset: in the compute type, one value
/// of each for each group. And the same in double, (x - double_shift) * double_factor, for groups whose factor the
/// compute type does not hold.
struct GroupMaps {
  void* shift;
  void* factor;
  void* offset;
  double* double_shift;
  double* double_factor;
};

/// Axes in any order, element by element: for sets of axes that no other kernel covers.
struct StridedTask {
  const Normalization* normalization;
  const Rule* rule;
  const Finish* finish;
  int64_t first_group;
  int64_t groups;
};

struct ElementKernels {
  void (*normalize_runs)(const RunsTask&);
  void (*run_moments)(const void* x, int64_t first_index, int64_t count, const Rule&, double* mean, double* variance);
  void (*apply_run)(const RunsTask&, double mean, double variance);

  void (*normalize_columns)(const ColumnsTask&);
  /// Of the task's first sample; one mean and variance per group.
  void (*column_moments)(const ColumnsTask&, double* mean, double* variance);
  void (*map_moments)(const double* mean, const double* variance, int64_t groups, const Rule&, const GroupMaps&);
  void (*apply_columns)(const ColumnsTask&, const GroupMaps&);

  void (*normalize_strided)(const StridedTask&);

  /// Mean and variance of groups whose parts are known: part p of group g at index p * pitch + g, of counts[p]
  /// elements.
  void (*merge_moments)(const double* means, const double* variances, const double* counts, int64_t parts,
                        int64_t pitch, int64_t groups, double* mean, double* variance);

  /// to[i] = from[i] + other[i] from flat index `index` on, rounded to the element type.
  void (*add)(const void* from, const void* other, int64_t index, int64_t count, void* to);

  /// By Activation; null for those that are straight lines.
  decltype(Finish::run) finish[activation_count];

  /// to[i] = from[i * stride] in the compute type.
  void (*widen)(const void* from, int64_t stride, int64_t count, void* to);
};

struct KernelTable {
  ElementKernels elements[4];  // by Element
};

}  // namespace onnxnorm::cpu
