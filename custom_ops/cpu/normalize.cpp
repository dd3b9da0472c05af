// The plan: which kernel covers a set of axes, and how a tensor is cut into tasks.
#include "normalize.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "isa.h"
#include "kernels.h"

namespace onnxnorm::cpu {
namespace {

// All sizes in bytes. They depend on nothing but the code, so that results depend on neither the number of threads nor
// the caches of a machine.
/// A task of this size outweighs the cost of handing it to a thread.
constexpr int64_t task_size = 64 << 10;
/// What is read a second time from the second-level cache.
constexpr int64_t cached_size = 512 << 10;
/// Parts of groups that do not fit in the cache.
constexpr int64_t segment_size = 128 << 10;
/// Columns of fewer rows cost as much to prepare as to sum. A segment has half of these at least.
constexpr int64_t many_rows = 128;
/// Tensors up to here are done before another thread would have woken up.
constexpr int64_t serial_size = 32 << 10;
/// Samples that are summed, then normalized, before the next ones: what a shared cache still holds the second time.
constexpr int64_t wave_size = 4 << 20;
/// Rectangles of columns that are narrower use too few of the sets of a cache, where rows are a power of two apart.
constexpr int64_t wide_columns = 4096;
/// Still better than to read everything twice.
constexpr int64_t narrow_columns = 1024;
/// So many tasks are enough for all threads.
constexpr int64_t many_tasks = 8;

int64_t ceiling(int64_t count, int64_t step) { return (count + step - 1) / step; }

/// How many of `count` pieces a task takes, `most` at most: in an even number of tasks of one size, so that threads are
/// done together.
int64_t even_share(int64_t count, int64_t most) { return ceiling(count, 2 * ceiling(count, 2 * most)); }
/// The same, but all of them where one task may take them.
int64_t share(int64_t count, int64_t most) { return count <= most ? count : even_share(count, most); }

/// Whether tasks that read `size` bytes twice, `count` of them, find them in this CPU's second-level cache the second
/// time. What they compute is the same as in segments that all threads share.
bool stay_cached(int64_t size, int64_t count) {
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const int64_t second_level = sysconf(_SC_LEVEL2_CACHE_SIZE);
  // A virtual machine may report more than there is.
  return count >= many_tasks && size <= std::min<int64_t>(second_level, 2 << 20) / 8 * 7;
#else
  return false;
#endif
}

/// Whether groups are short runs that lie apart, which the column kernels take.
bool are_columns(const View& view) { return view.outer > 1 && view.depth <= max_columns; }

Rule rule_of(const Normalization& normalization) {
  double count = 1;
  for (int64_t d = 0; d < normalization.rank; ++d) {
    if (normalization.dimensions[d].reduced) count *= static_cast<double>(normalization.dimensions[d].extent);
  }
  const bool subtract_mean = normalization.subtract_mean;
  switch (normalization.divisor) {
    case Divisor::root_mean_square:
      return {1, 1, normalization.epsilon, 0, subtract_mean};
    case Divisor::length:
      return {count, std::sqrt(count), 0, normalization.epsilon, subtract_mean};
    default:
      return {1, 0, normalization.epsilon, 0, subtract_mean};
  }
}

Finish finish_of(const Normalization& normalization, const ElementKernels& kernels, const void* x,
                 const void* residual) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const double* const parameters = normalization.parameters;
  const auto run = kernels.finish[static_cast<size_t>(normalization.activation)];
  Finish finish{run, x, residual, {parameters[0], parameters[1]}, 1, -infinity, infinity};
  if (normalization.activation == Activation::relu) finish.low = 0;
  if (normalization.activation == Activation::leaky_relu) finish.slope = parameters[0];
  if (normalization.activation == Activation::clip) {
    finish.low = parameters[0];
    finish.high = parameters[1];
  }
  return finish;
}

/// scale and bias in the compute type, as one pair of tables.
class AffineTables {
 public:
  AffineTables(const Normalization& normalization, const View& view, const ElementKernels& kernels) {
    std::vector<Dimension> dimensions;
    for (int64_t d = 0; d < normalization.rank; ++d) {
      if (normalization.dimensions[d].extent != 1) dimensions.push_back(normalization.dimensions[d]);
    }
    const auto varies = [](const Dimension& d) { return d.scale_stride != 0 || d.bias_stride != 0; };
    const auto first = std::find_if(dimensions.begin(), dimensions.end(), varies);
    const auto last = std::find_if(dimensions.rbegin(), dimensions.rend(), varies).base();
    affine_.rows = 1;
    affine_.inner = 1;
    for (auto d = last; d < dimensions.end(); ++d) affine_.inner *= d->extent;
    if (affine_.inner == 1 && has_rows(normalization, view, dimensions)) return;
    affine_.period = 1;
    bool dense = true;
    for (auto d = last; d > first; --d) {
      const int64_t stride = affine_.period;
      dense = dense && d[-1].scale_stride == stride && d[-1].bias_stride == stride;
      affine_.period *= d[-1].extent;
    }
    const bool is_double = normalization.element == Element::float64;
    const bool as_stored = is_double || normalization.element == Element::float32;
    int64_t copies = 1;
    // Long runs that go through a short table many times get it repeated, and one with short inner runs spread out, so
    // that loops over it are long.
    const int64_t covered = affine_.period * affine_.inner;
    if (!are_columns(view) && affine_.inner == 1 && affine_.period > 1 && affine_.period < view.depth) {
      copies = ceiling(short_table, affine_.period);
    }
    // Rows of the column kernels have one entry each, or each element has its own.
    const int64_t pitch = view.groups * view.depth;
    const bool differ = are_columns(view) && covered > pitch;
    const bool is_short = affine_.inner < short_run && covered <= spread_table &&
                          covered <= view.batch * view.outer * pitch / 4 && (differ || view.outer == 1);
    const bool spread = affine_.inner > 1 && affine_.period > 1 && (is_short || (differ && affine_.inner < pitch));
    const int64_t inner = spread ? affine_.inner : 1;
    if (dense && as_stored && copies == 1 && !spread) {
      affine_.scale = normalization.scale;
      affine_.bias = normalization.bias;
      return;
    }
    const int64_t length = affine_.period * inner * copies;
    const int64_t bytes = length * (is_double ? 8 : 4);
    storage_.reset(new double[static_cast<size_t>(2 * ceiling(bytes, 8))]);
    char* const scale = reinterpret_cast<char*>(storage_.get());
    char* const bias = scale + ceiling(bytes, 8) * 8;
    const int64_t width = is_double ? 8 : 4;
    const int64_t stored = element_size(normalization.element);
    const std::vector<Dimension> table(first < last ? first : last, last);
    fill(kernels, table, &Dimension::scale_stride, normalization.scale, stored, inner, width, scale);
    fill(kernels, table, &Dimension::bias_stride, normalization.bias, stored, inner, width, bias);
    for (char* values : {scale, bias}) {
      const int64_t once = affine_.period * inner * width;
      for (int64_t copy = 1; copy < copies; ++copy) std::copy(values, values + once, values + copy * once);
    }
    affine_ = {scale, bias, length, spread ? 1 : affine_.inner, 1, 0};
  }

  const Affine* get() const { return &affine_; }

 private:
  static constexpr int64_t short_table = 256;
  static constexpr int64_t short_run = 64;
  static constexpr int64_t spread_table = 16 << 10;

  /// Whether scale and bias, as they are stored, have a row of entries for each span of X: tensors whose channels are
  /// stored in blocks.
  bool has_rows(const Normalization& normalization, const View& view, const std::vector<Dimension>& dimensions) {
    if (normalization.element != Element::float32 && normalization.element != Element::float64) return false;
    auto d = dimensions.rbegin();
    // The elements of the next dimensions whose strides are these.
    const auto elements = [&](int64_t stride, bool dense) {
      int64_t count = 1;
      for (; d != dimensions.rend() && d->scale_stride == stride && d->bias_stride == stride; ++d) {
        count *= d->extent;
        if (dense) stride *= d->extent;
      }
      return count;
    };
    const int64_t period = elements(1, true);
    const int64_t span = period * elements(0, false);
    const int64_t rows = elements(period, true);
    elements(0, false);
    if (d != dimensions.rend() || rows == 1) return false;
    const bool by_columns = are_columns(view) && period == view.groups * view.depth && span == view.outer * period;
    const bool by_runs = view.outer == 1 && view.depth % span == 0 && period <= max_columns;
    if (!by_columns && !by_runs) return false;
    affine_ = {normalization.scale, normalization.bias, period, 1, rows, span};
    return true;
  }

  /// Row by row of the table's last dimension, each entry `inner` times.
  static void fill(const ElementKernels& kernels, const std::vector<Dimension>& table, int64_t Dimension::* stride,
                   const void* from, int64_t stored, int64_t inner, int64_t width, char* to) {
    int64_t rows = 1;
    for (size_t d = 0; d + 1 < table.size(); ++d) rows *= table[d].extent;
    const int64_t columns = table.empty() ? 1 : table.back().extent;
    const int64_t step = table.empty() ? 0 : table.back().*stride;
    for (int64_t row = 0; row < rows; ++row) {
      int64_t offset = 0;
      int64_t rest = row;
      for (size_t d = table.size(); d-- > 1;) {
        offset += rest % table[d - 1].extent * (table[d - 1].*stride);
        rest /= table[d - 1].extent;
      }
      const char* source = static_cast<const char*>(from) + offset * stored;
      if (inner == 1) {
        kernels.widen(source, step, columns, to);
      } else {
        for (int64_t c = 0; c < columns; ++c) {
          kernels.widen(source + c * step * stored, 0, inner, to + c * inner * width);
        }
      }
      to += columns * inner * width;
    }
  }

  Affine affine_{};
  std::unique_ptr<double[]> storage_;
};

/// Calls `body(index)` for all indices below `count`.
template <class Body>
void parallel(Executor& executor, bool serial, int64_t count, const Body& body) {
  if (serial || count == 1) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  executor.run(
      static_cast<size_t>(count),
      [](void* context, size_t index) { (*static_cast<const Body*>(context))(static_cast<int64_t>(index)); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

/// Rows of Y become the sums that are normalized. A task does this just before it reads them, so that they are in its
/// cache then.
struct Sum {
  const Normalization& normalization;
  const ElementKernels& kernels;

  bool needed() const { return normalization.residual && normalization.residual_first; }
  void operator()(int64_t first_index, int64_t rows, int64_t pitch, int64_t width) const {
    if (!needed()) return;
    for (int64_t r = 0; r < rows; ++r) {
      kernels.add(normalization.x, normalization.residual, first_index + r * pitch, width, normalization.y);
    }
  }
  /// What is normalized.
  const void* result() const { return needed() ? normalization.y : normalization.x; }
};

struct Job {
  const void* x;
  void* y;
  const Sum& sum;
  const ElementKernels& kernels;
  const View& view;
  const Rule* rule;
  const Affine* affine;
  const Finish* finish;
  Executor& executor;
  int64_t size;  // of an element
  bool serial;

  RunsTask runs(int64_t first_index, int64_t groups, int64_t runs, int64_t pitch, int64_t depth) const {
    return {x, y, first_index, groups, runs, pitch, depth, rule, affine, finish};
  }
  ColumnsTask columns(int64_t first_index, int64_t samples, int64_t rows, int64_t groups) const {
    const int64_t pitch = view.groups * view.depth;
    return {x, y, first_index, samples, view.outer * pitch, rows, pitch, groups, view.depth, rule, affine, finish};
  }
};

/// Part of a dense group whose moments are known.
void apply_dense(const Job& job, int64_t begin, int64_t length, double mean, double variance) {
  if (job.affine->rows == 1) {
    job.kernels.apply_run(job.runs(begin, 1, 1, length, length), mean, variance);
    return;
  }
  const int64_t pitch = job.affine->period;
  const int64_t end = begin + length;
  double map[5];
  const GroupMaps maps = {map, map + 1, map + 2, map + 3, map + 4};
  job.kernels.map_moments(&mean, &variance, 1, *job.rule, maps);
  for (int64_t i = begin, size = 0; i < end; i += size) {
    size = std::min(job.affine->span - i % job.affine->span, end - i);
    const ColumnsTask task = {job.x, job.y, i, 1, 0, size / pitch, pitch, 1, pitch, job.rule, job.affine, job.finish};
    job.kernels.apply_columns(task, maps);
  }
}

/// Groups that are dense: several to a task, or several tasks to a group.
void normalize_dense(const Job& job) {
  const int64_t groups = job.view.batch;
  const int64_t depth = job.view.depth;
  if (depth * job.size <= cached_size) {
    const int64_t groups_per_task = share(groups, std::max<int64_t>(1, task_size / (depth * job.size)));
    parallel(job.executor, job.serial, ceiling(groups, groups_per_task), [&](int64_t task) {
      const int64_t first = task * groups_per_task;
      const int64_t count = std::min(groups_per_task, groups - first);
      job.sum(first * depth, 1, 0, count * depth);
      if (job.affine->rows == 1) {
        job.kernels.normalize_runs(job.runs(first * depth, count, 1, depth, depth));
        return;
      }
      for (int64_t g = first; g < first + count; ++g) {
        double mean, variance;
        job.kernels.run_moments(job.x, g * depth, depth, *job.rule, &mean, &variance);
        apply_dense(job, g * depth, depth, mean, variance);
      }
    });
    return;
  }
  const int64_t step = job.affine->rows == 1 ? 1 : job.affine->period;
  const int64_t segment = segment_size / job.size / step * step;
  const int64_t segments = ceiling(depth, segment);
  const int64_t groups_per_wave = std::max<int64_t>(1, wave_size / (depth * job.size));
  const auto length = [&](int64_t task) { return std::min(segment, depth - task % segments * segment); };
  std::vector<double> counts;
  for (int64_t s = 0; s < segments; ++s) counts.push_back(static_cast<double>(length(s)));
  const auto normalize_part = [&](int64_t first, int64_t count, bool serial) {
    std::vector<double> means(static_cast<size_t>(segments * count));
    std::vector<double> variances(means.size());
    std::vector<double> mean(static_cast<size_t>(count));
    std::vector<double> variance(mean.size());
    const auto begin = [&](int64_t task) { return (first + task / segments) * depth + task % segments * segment; };
    parallel(job.executor, serial, count * segments, [&](int64_t task) {
      job.sum(begin(task), 1, 0, length(task));
      job.kernels.run_moments(job.x, begin(task), length(task), *job.rule, &means[task], &variances[task]);
    });
    for (int64_t g = 0; g < count; ++g) {
      const int64_t part = g * segments;
      job.kernels.merge_moments(&means[part], &variances[part], counts.data(), segments, 1, 1, &mean[g], &variance[g]);
    }
    parallel(job.executor, serial, count * segments, [&](int64_t task) {
      apply_dense(job, begin(task), length(task), mean[task / segments], variance[task / segments]);
    });
  };
  if (stay_cached(depth * job.size, groups)) {
    parallel(job.executor, job.serial, groups, [&](int64_t group) { normalize_part(group, 1, true); });
    return;
  }
  for (int64_t first = 0; first < groups; first += groups_per_wave) {
    normalize_part(first, std::min(groups_per_wave, groups - first), job.serial);
  }
}

/// Groups whose runs lie apart and are too long for the column kernels.
void normalize_long_runs(const Job& job) {
  const View& view = job.view;
  parallel(job.executor, job.serial, view.batch * view.groups, [&](int64_t task) {
    const int64_t pitch = view.groups * view.depth;
    const int64_t first_index = task / view.groups * view.outer * pitch + task % view.groups * view.depth;
    job.sum(first_index, view.outer, pitch, view.depth);
    job.kernels.normalize_runs(job.runs(first_index, 1, view.outer, pitch, view.depth));
  });
}

/// The maps of as many groups.
class MapTables {
 public:
  explicit MapTables(int64_t groups) : groups_(groups), values_(new double[static_cast<size_t>(5 * groups)]) {}

  /// Those from group `group` on, each table as if it was one of doubles: of a float, the rest stays unused.
  GroupMaps from(int64_t group) const {
    const auto table = [&](int64_t number) { return values_.get() + number * groups_ + group; };
    return {table(0), table(1), table(2), table(3), table(4)};
  }

 private:
  int64_t groups_;
  std::unique_ptr<double[]> values_;
};

/// Groups that are columns. A rectangle of all rows and some columns is one task where it fits in the cache.
void normalize_columns(const Job& job) {
  const View& view = job.view;
  const int64_t pitch = view.groups * view.depth;
  const int64_t sample = view.outer * pitch;
  const int64_t group_bytes = view.depth * job.size;
  const int64_t most_groups = max_columns / view.depth;
  const auto groups_of = [&](int64_t columns_size) {
    const int64_t affordable = std::max(ceiling(columns_size, group_bytes), task_size / (view.outer * group_bytes));
    return std::min({affordable, most_groups, view.groups});
  };
  const int64_t groups_per_task = groups_of(wide_columns);
  const int64_t rectangles = ceiling(view.groups, groups_per_task);
  // One task alone would leave all but one thread idle.
  const int64_t affordable_size = view.batch * rectangles > 1 ? cached_size : 2 * segment_size;
  if (view.outer * groups_per_task * group_bytes <= affordable_size) {
    // Evenly: a narrow last block would cost as much as a wide one.
    const int64_t even = ceiling(view.groups, rectangles);
    const int64_t most_samples = rectangles > 1 ? 1 : std::max<int64_t>(1, task_size / (sample * job.size));
    const int64_t samples_per_task = share(view.batch, most_samples);
    parallel(job.executor, job.serial, ceiling(view.batch, samples_per_task) * rectangles, [&](int64_t task) {
      const int64_t first_group = task % rectangles * even;
      const int64_t groups = std::min(even, view.groups - first_group);
      if (groups <= 0) return;
      const int64_t first = task / rectangles * samples_per_task;
      const int64_t samples = std::min(samples_per_task, view.batch - first);
      const int64_t first_index = first * sample + first_group * view.depth;
      job.sum(first_index, samples * view.outer, pitch, groups * view.depth);
      job.kernels.normalize_columns(job.columns(first_index, samples, view.outer, groups));
    });
    return;
  }
  const int64_t most_rows = std::max(many_rows, segment_size / (std::min(most_groups, view.groups) * group_bytes));
  const int64_t rows = even_share(view.outer, most_rows);
  const int64_t segments = ceiling(view.outer, rows);
  std::vector<double> counts;
  for (int64_t s = 0; s < segments; ++s) {
    counts.push_back(static_cast<double>(std::min(rows, view.outer - s * rows) * view.depth));
  }
  // Samples from `first` on, of which groups from `first_group` on, in blocks.
  const auto normalize_part = [&](int64_t first, int64_t count, int64_t first_group, int64_t groups, bool serial) {
    const int64_t groups_per_block = std::min(most_groups, groups);
    const int64_t blocks = ceiling(groups, groups_per_block);
    std::vector<double> means(static_cast<size_t>(count * segments * groups));
    std::vector<double> variances(means.size());
    MapTables maps(count * groups);
    const auto groups_in = [&](int64_t block) { return std::min(groups_per_block, groups - block * groups_per_block); };
    const auto rectangle = [&](int64_t task) {
      const int64_t group = first_group + task % blocks * groups_per_block;
      const int64_t first_row = task / blocks % segments * rows;
      const int64_t n = first + task / (blocks * segments);
      return job.columns(n * sample + first_row * pitch + group * view.depth, 1, std::min(rows, view.outer - first_row),
                         groups_in(task % blocks));
    };
    parallel(job.executor, serial, count * segments * blocks, [&](int64_t task) {
      const int64_t part = task / blocks * groups + task % blocks * groups_per_block;
      const ColumnsTask moments = rectangle(task);
      job.sum(moments.first_index, moments.rows, pitch, moments.groups * view.depth);
      job.kernels.column_moments(moments, &means[part], &variances[part]);
    });
    parallel(job.executor, serial || count * segments * groups < 16384, count * blocks, [&](int64_t task) {
      const int64_t group = task % blocks * groups_per_block;
      const int64_t part = task / blocks * segments * groups + group;
      const int64_t size = groups_in(task % blocks);
      double mean[max_columns], variance[max_columns];
      job.kernels.merge_moments(&means[part], &variances[part], counts.data(), segments, groups, size, mean, variance);
      job.kernels.map_moments(mean, variance, size, *job.rule, maps.from(task / blocks * groups + group));
    });
    const int64_t tasks = count * segments * blocks;
    parallel(job.executor, serial, tasks, [&](int64_t index) {
      // One thread has the last ones still in its cache.
      const int64_t task = serial ? tasks - 1 - index : index;
      const int64_t group = task / (blocks * segments) * groups + task % blocks * groups_per_block;
      job.kernels.apply_columns(rectangle(task), maps.from(group));
    });
  };
  for (const int64_t columns_size : {wide_columns, narrow_columns}) {
    const int64_t groups = groups_of(columns_size);
    const int64_t blocks = ceiling(view.groups, groups);
    if (!stay_cached(view.outer * groups * group_bytes, view.batch * blocks)) continue;
    parallel(job.executor, job.serial, view.batch * blocks, [&](int64_t task) {
      const int64_t first_group = task % blocks * groups;
      normalize_part(task / blocks, 1, first_group, std::min(groups, view.groups - first_group), true);
    });
    return;
  }
  const int64_t samples_per_wave = std::max<int64_t>(1, wave_size / (sample * job.size));
  for (int64_t first = 0; first < view.batch; first += samples_per_wave) {
    normalize_part(first, std::min(samples_per_wave, view.batch - first), 0, view.groups, job.serial);
  }
}

void normalize_strided(Normalization normalization, const Sum& sum, const Rule& rule, const Finish* finish,
                       const ElementKernels& kernels, Executor& executor) {
  int64_t groups = 1, depth = 1;
  for (int64_t d = 0; d < normalization.rank; ++d) {
    (normalization.dimensions[d].reduced ? depth : groups) *= normalization.dimensions[d].extent;
  }
  const int64_t total = groups * depth;
  if (sum.needed()) {
    const int64_t segment = segment_size / element_size(normalization.element);
    parallel(executor, total < 4096, ceiling(total, segment),
             [&](int64_t task) { sum(task * segment, 1, 0, std::min(segment, total - task * segment)); });
    normalization.x = sum.result();
  }
  const int64_t groups_per_task = std::max<int64_t>(1, 1024 / depth);
  parallel(executor, total < 4096, ceiling(groups, groups_per_task), [&](int64_t task) {
    const int64_t first = task * groups_per_task;
    kernels.normalize_strided({&normalization, &rule, finish, first, std::min(groups_per_task, groups - first)});
  });
}

}  // namespace

void normalize(const Normalization& normalization, Executor& executor) {
  int64_t total = 1;
  for (int64_t d = 0; d < normalization.rank; ++d) total *= normalization.dimensions[d].extent;
  if (total == 0) return;
  const ElementKernels& kernels = isa().kernels->elements[static_cast<size_t>(normalization.element)];
  const Rule rule = rule_of(normalization);
  const Sum sum{normalization, kernels};
  const void* const added_last = sum.needed() ? nullptr : normalization.residual;
  const Finish finishing = finish_of(normalization, kernels, sum.result(), added_last);
  const Finish* const finish = added_last || normalization.activation != Activation::none ? &finishing : nullptr;
  View view;
  if (!view_of(normalization, view)) {
    normalize_strided(normalization, sum, rule, finish, kernels, executor);
    return;
  }
  const AffineTables affine(normalization, view, kernels);
  const int64_t size = element_size(normalization.element);
  const Job job{sum.result(),
                normalization.y,
                sum,
                kernels,
                view,
                &rule,
                affine.get(),
                finish,
                executor,
                size,
                total * size <= serial_size};
  if (view.outer == 1) {
    normalize_dense(job);
  } else if (are_columns(view)) {
    normalize_columns(job);
  } else {
    normalize_long_runs(job);
  }
}

}  // namespace onnxnorm::cpu
