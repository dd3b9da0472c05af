// Groups that are dense runs of X: rows of `depth` elements.
//
// A row is read once where it fits in the registers or the shared memory of a block; else it is cut into chunks, which
// one kernel takes the moments of and a second one, knowing the whole row's, normalizes.
#pragma once

#include "epilogue.cuh"
#include "moments.cuh"
#include "plan.h"

namespace onnxnorm::cuda {

/// Moments of `count` elements that the threads of a row hold: `visit(f)` calls f for each of the thread's own.
template <class C, class Visit>
__device__ inline Moments<C> moments_of_row(const Problem& problem, C anchor, int64_t count, const Visit& visit) {
  const C elements = static_cast<C>(count);
  if (!about_mean(problem)) {
    C squares = 0;
    visit([&](C x) { squares += x * x; });
    return {C(0), C(0), sum_of_row(squares), elements};
  }
  C sum = 0;
  visit([&](C x) { sum += x - anchor; });
  const C offset = ratio(sum_of_row(sum), elements);
  C rest = 0, squares = 0;
  visit([&](C x) {
    const C distance = (x - anchor) - offset;
    rest += distance;
    squares += distance * distance;
  });
  // The first mean is itself rounded: the second pass takes out what it left.
  const C correction = ratio(sum_of_row(rest), elements);
  const C total = sum_of_row(squares), excess = correction * correction * elements;
  // Infinite squares stay so.
  return {anchor, offset + correction, excess < total ? total - excess : total, elements};
}

/// A thread's own elements of a piece of a row, in registers: ITEMS vectors of N, one for each stride of all threads.
template <class T, int N, int ITEMS>
struct Held {
  Compute<T> values[ITEMS * N];
  int vectors;

  __device__ Held(const Problem& problem, int64_t first, int64_t count) {
    const int64_t own = static_cast<int64_t>(threadIdx.x) * N, step = static_cast<int64_t>(blockDim.x) * N;
    vectors = own < count ? static_cast<int>((count - own + step - 1) / step) : 0;
#pragma unroll
    for (int item = 0; item < ITEMS; ++item) {
      if (item >= vectors) continue;
      const Pack<T, N> pack = input<T, N>(problem, first + own + item * step);
#pragma unroll
      for (int i = 0; i < N; ++i) values[item * N + i] = widen(pack.values[i]);
    }
  }

  template <class Use>
  __device__ void operator()(const Use& use) const {
#pragma unroll
    for (int item = 0; item < ITEMS; ++item) {
      if (item >= vectors) continue;
#pragma unroll
      for (int i = 0; i < N; ++i) use(values[item * N + i]);
    }
  }
};

template <class T>
__device__ inline Compute<T> first_of(const Problem& problem, int64_t index) {
  return widen(input<T, 1>(problem, index).values[0]);
}

/// Stores N elements of a row, from a column on.
template <class T, int N>
__device__ inline void normalize(const Problem& problem, int64_t row, int64_t column, const Map<Compute<T>>& map,
                                 const Compute<T>* values) {
  Compute<T> normalized[N];
#pragma unroll
  for (int i = 0; i < N; ++i) normalized[i] = map(values[i]);
  finish<T, N>(problem, row * problem.view.depth + column, normalized, Affine<T, N>(problem, row, column));
}

/// blockDim.x threads to a row, which is held in registers; blockDim.y rows to a block.
template <class T, int N, int ITEMS>
__global__ void __launch_bounds__(row_threads) rows_in_registers(Problem problem) {
  using C = Compute<T>;
  const int64_t depth = problem.view.depth;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  // Threads of rows beyond the last one take part in the exchanges of their warp, on the last row.
  const bool exists = row < problem.view.batch;
  const int64_t first = (exists ? row : problem.view.batch - 1) * depth;
  const C anchor = first_of<T>(problem, first);
  const Held<T, N, ITEMS> held(problem, first, depth);
  const Map<C> map = map_of(moments_of_row(problem, anchor, depth, held), problem);
  if (!exists) return;
#pragma unroll
  for (int item = 0; item < ITEMS; ++item) {
    if (item >= held.vectors) continue;
    const int64_t column = (static_cast<int64_t>(item) * blockDim.x + threadIdx.x) * N;
    normalize<T, N>(problem, row, column, map, held.values + item * N);
  }
}

/// A row to a block, kept in shared memory between its statistics and its results.
template <class T, int N>
__global__ void __launch_bounds__(row_threads) rows_in_shared(Problem problem) {
  using C = Compute<T>;
  DYNAMIC_SHARED(T, kept);
  const int64_t depth = problem.view.depth, first = static_cast<int64_t>(blockIdx.x) * depth;
  const int64_t own = static_cast<int64_t>(threadIdx.x) * N, step = static_cast<int64_t>(blockDim.x) * N;
  const C anchor = first_of<T>(problem, first);
  // Each thread reads back only what it wrote itself: no barrier is needed.
  for (int64_t c = own; c < depth; c += step) store<T, N>(input<T, N>(problem, first + c), kept + c);
  const auto visit = [&](const auto& use) {
    for (int64_t c = own; c < depth; c += step) {
      const Pack<T, N> pack = load<T, N>(kept + c);
#pragma unroll
      for (int i = 0; i < N; ++i) use(widen(pack.values[i]));
    }
  };
  const Map<C> map = map_of(moments_of_row(problem, anchor, depth, visit), problem);
  for (int64_t c = own; c < depth; c += step) {
    const Pack<T, N> pack = load<T, N>(kept + c);
    C values[N];
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = widen(pack.values[i]);
    normalize<T, N>(problem, blockIdx.x, c, map, values);
  }
}

/// Chunk blockIdx.x of a row, of which blockIdx.y is the first.
struct Chunk {
  int64_t begin;
  int64_t end;

  __device__ Chunk(const Problem& problem, int64_t size)
      : begin(blockIdx.x * size), end(begin + size < problem.view.depth ? begin + size : problem.view.depth) {}
};

/// Moments of each chunk of each row, into partials[row * chunks + chunk].
template <class T, int N>
__global__ void __launch_bounds__(split_threads)
    row_chunk_moments(Problem problem, int64_t chunk_size, Moments<Compute<T>>* partials) {
  using C = Compute<T>;
  constexpr int items = split_elements / (split_threads * N);
  const Chunk chunk(problem, chunk_size);
  for (int64_t row = blockIdx.y; row < problem.view.batch; row += gridDim.y) {
    Moments<C> total{C(0), C(0), C(0), C(0)};
    for (int64_t begin = chunk.begin; begin < chunk.end; begin += split_elements) {
      const int64_t first = row * problem.view.depth + begin;
      const int64_t count = chunk.end - begin < split_elements ? chunk.end - begin : split_elements;
      const Held<T, N, items> held(problem, first, count);
      total = merged(total, moments_of_row(problem, first_of<T>(problem, first), count, held));
    }
    if (threadIdx.x == 0) partials[row * gridDim.x + blockIdx.x] = total;
  }
}

template <class T, int N>
__global__ void __launch_bounds__(split_threads)
    normalize_row_chunk(Problem problem, int64_t chunk_size, const Moments<Compute<T>>* partials) {
  using C = Compute<T>;
  const Chunk chunk(problem, chunk_size);
  for (int64_t row = blockIdx.y; row < problem.view.batch; row += gridDim.y) {
    const Map<C> map = map_of(merged_parts(partials + row * gridDim.x, gridDim.x), problem);
    for (int64_t c = chunk.begin + static_cast<int64_t>(threadIdx.x) * N; c < chunk.end; c += split_threads * N) {
      const Pack<T, N> pack = input<T, N>(problem, row * problem.view.depth + c);
      C values[N];
#pragma unroll
      for (int i = 0; i < N; ++i) values[i] = widen(pack.values[i]);
      normalize<T, N>(problem, row, c, map, values);
    }
  }
}

}  // namespace onnxnorm::cuda
