// Groups that are columns of a row-major matrix, as in channels-last layouts: `outer` rows of groups * depth columns.
//
// A block takes a tile of columns. Where all rows of the tile fit in shared memory they are read once; else the rows
// are cut into chunks, which one kernel takes the moments of and a second one normalizes.
#pragma once

#include "epilogue.cuh"
#include "moments.cuh"
#include "plan.h"

namespace onnxnorm::cuda {

/// Where a block's tile lies, and which columns of it are the thread's own.
struct TileColumns {
  int64_t pitch;
  int64_t begin;  // first column of the tile
  int width;      // columns in it
  int span;       // neighbouring columns of the tile that share a group
  int own;        // first column of the thread, in the tile
  bool exists;

  __device__ TileColumns(const Problem& problem, const Tiling& tiling, int vector)
      : pitch(problem.view.groups * problem.view.depth) {
    const int64_t depth = problem.view.depth;
    if (tiling.tiles_per_group == 1) {
      begin = blockIdx.x * static_cast<int64_t>(tiling.width);
      width = static_cast<int>(pitch - begin < tiling.width ? pitch - begin : tiling.width);
      span = static_cast<int>(depth);
    } else {
      const int64_t group = blockIdx.x / tiling.tiles_per_group, part = blockIdx.x % tiling.tiles_per_group;
      begin = group * depth + part * tiling.width;
      const int64_t rest = depth - part * tiling.width;
      width = static_cast<int>(rest < tiling.width ? rest : tiling.width);
      span = width;
    }
    own = static_cast<int>(threadIdx.x) * vector;
    exists = own < width;
  }

  /// Number of the group of a tile's column, among those of the tile.
  __device__ int group(int column) const { return column / span; }
};

/// Moments of each group of the tile over some rows of a sample, which begins at flat index `first`: those of group g
/// end in scratch[g * span]. `keep(row, pack)` gets what is read.
template <class T, int N, class Keep>
__device__ inline void tile_moments(const Problem& problem, const TileColumns& tile, int64_t first, int64_t begin,
                                    int64_t end, Moments<Compute<T>>* scratch, const Keep& keep) {
  using C = Compute<T>;
  Moments<C> moments[N];
#pragma unroll
  for (int i = 0; i < N; ++i) moments[i] = {C(0), C(0), C(0), C(0)};
  C count = 0;
  const bool centered = about_mean(problem);
  if (tile.exists) {
    for (int64_t row = begin + threadIdx.y; row < end; row += blockDim.y) {
      const Pack<T, N> pack = input<T, N>(problem, first + row * tile.pitch + tile.begin + tile.own);
      keep(row, pack);
      if (count == 0 && centered) {
#pragma unroll
        for (int i = 0; i < N; ++i) moments[i].anchor = widen(pack.values[i]);
      }
      count += 1;
      const C reciprocal = ratio(C(1), count);
#pragma unroll
      for (int i = 0; i < N; ++i) add(moments[i], widen(pack.values[i]), reciprocal, centered);
    }
  }
  const int width = static_cast<int>(blockDim.x) * N;
  __syncthreads();  // what the scratch held before is read
#pragma unroll
  for (int i = 0; i < N; ++i) {
    moments[i].count = count;
    scratch[static_cast<int>(threadIdx.y) * width + tile.own + i] = moments[i];
  }
  __syncthreads();
  // First the rows of threads, then the columns of a group, each in halving steps.
  for (int half = static_cast<int>(blockDim.y) / 2; half > 0; half /= 2) {
    if (static_cast<int>(threadIdx.y) < half) {
      Moments<C>* const own = scratch + static_cast<int>(threadIdx.y) * width + tile.own;
#pragma unroll
      for (int i = 0; i < N; ++i) own[i] = merged(own[i], own[half * width + i]);
    }
    __syncthreads();
  }
  for (int step = 1; step < tile.span; step *= 2) {
    if (threadIdx.y == 0) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const int column = tile.own + i, place = column % tile.span;
        if (column < tile.width && place % (2 * step) == 0 && place + step < tile.span) {
          scratch[column] = merged(scratch[column], scratch[column + step]);
        }
      }
    }
    __syncthreads();
  }
}

/// The maps of a thread's own columns.
template <class T, int N>
struct OwnColumns {
  Map<Compute<T>> maps[N];

  template <class MapOf>
  __device__ OwnColumns(const TileColumns& tile, const MapOf& map_of_group) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (tile.own + i < tile.width) maps[i] = map_of_group(tile.group(tile.own + i));
    }
  }

  __device__ void normalize(const Problem& problem, int64_t index, const Pack<T, N>& pack,
                            const Affine<T, N>& affine) const {
    Compute<T> normalized[N];
#pragma unroll
    for (int i = 0; i < N; ++i) normalized[i] = maps[i](widen(pack.values[i]));
    finish<T, N>(problem, index, normalized, affine);
  }
};

/// Normalizes the thread's columns in some rows of a sample; `value(row, index)` gives what is to be normalized.
template <class T, int N, class Value>
__device__ inline void normalize_columns(const Problem& problem, const TileColumns& tile, const OwnColumns<T, N>& own,
                                         int64_t sample, int64_t begin, int64_t end, const Value& value) {
  const int64_t column = tile.begin + tile.own, first_row = sample * problem.view.outer;
  Affine<T, N> affine(problem, 0, column);
  for (int64_t row = begin + threadIdx.y; row < end; row += blockDim.y) {
    if (problem.rows_per_cycle > 1) affine = Affine<T, N>(problem, first_row + row, column);
    const int64_t index = (first_row + row) * tile.pitch + column;
    own.normalize(problem, index, value(row, index), affine);
  }
}

/// Tile blockIdx.x of sample blockIdx.y, all its rows kept in shared memory behind the scratch.
template <class T, int N>
__global__ void __launch_bounds__(column_threads, 2) columns_in_shared(Problem problem, Tiling tiling) {
  using C = Compute<T>;
  DYNAMIC_SHARED(Moments<C>, scratch);
  const int64_t rows = problem.view.outer;
  const TileColumns tile(problem, tiling, N);
  T* const kept = reinterpret_cast<T*>(scratch + blockDim.x * blockDim.y * N);
  const auto place = [&](int64_t row) { return kept + row * blockDim.x * N + tile.own; };
  for (int64_t sample = blockIdx.y; sample < problem.view.batch; sample += gridDim.y) {
    const int64_t first = sample * rows * tile.pitch;
    tile_moments<T, N>(problem, tile, first, 0, rows, scratch,
                       [&](int64_t row, const Pack<T, N>& pack) { store<T, N>(pack, place(row)); });
    if (!tile.exists) continue;
    const OwnColumns<T, N> own(tile, [&](int group) { return map_of(scratch[group * tile.span], problem); });
    normalize_columns<T, N>(problem, tile, own, sample, 0, rows,
                            [&](int64_t row, int64_t) { return load<T, N>(place(row)); });
  }
}

/// Rows of chunk blockIdx.y.
struct RowChunk {
  int64_t begin;
  int64_t end;

  __device__ RowChunk(const Problem& problem, int64_t size)
      : begin(blockIdx.y * size), end(begin + size < problem.view.outer ? begin + size : problem.view.outer) {}
};

/// Moments of each group's part in tile blockIdx.x and chunk blockIdx.y, into partials[(sample * groups + group) *
/// parts + part].
template <class T, int N>
__global__ void __launch_bounds__(column_threads, 2)
    column_chunk_moments(Problem problem, Tiling tiling, int64_t chunk_rows, Moments<Compute<T>>* partials) {
  using C = Compute<T>;
  DYNAMIC_SHARED(Moments<C>, scratch);
  const TileColumns tile(problem, tiling, N);
  const RowChunk chunk(problem, chunk_rows);
  const int64_t parts = static_cast<int64_t>(gridDim.y) * tiling.tiles_per_group;
  const int64_t part = static_cast<int64_t>(blockIdx.y) * tiling.tiles_per_group + blockIdx.x % tiling.tiles_per_group;
  const int64_t first_group = tile.begin / problem.view.depth;
  for (int64_t sample = blockIdx.z; sample < problem.view.batch; sample += gridDim.z) {
    const int64_t first = sample * problem.view.outer * tile.pitch;
    tile_moments<T, N>(problem, tile, first, chunk.begin, chunk.end, scratch, [](int64_t, const Pack<T, N>&) {});
    const int groups = tile.width / tile.span;
    for (int g = static_cast<int>(threadIdx.x + threadIdx.y * blockDim.x); g < groups; g += column_threads) {
      partials[(sample * problem.view.groups + first_group + g) * parts + part] = scratch[g * tile.span];
    }
  }
}

template <class T, int N>
__global__ void __launch_bounds__(column_threads, 2)
    normalize_column_chunk(Problem problem, Tiling tiling, int64_t chunk_rows, const Moments<Compute<T>>* partials) {
  using C = Compute<T>;
  DYNAMIC_SHARED(Map<C>, maps);
  const TileColumns tile(problem, tiling, N);
  const RowChunk chunk(problem, chunk_rows);
  const int64_t parts = static_cast<int64_t>(gridDim.y) * tiling.tiles_per_group;
  const int64_t first_group = tile.begin / problem.view.depth;
  const int warp = static_cast<int>(threadIdx.x + threadIdx.y * blockDim.x) / 32;
  for (int64_t sample = blockIdx.z; sample < problem.view.batch; sample += gridDim.z) {
    __syncthreads();  // the maps of the sample before are read
    for (int g = warp; g < tile.width / tile.span; g += column_threads / 32) {
      const int64_t group = sample * problem.view.groups + first_group + g;
      const Map<C> map = map_of(merged_parts(partials + group * parts, parts), problem);
      if (lane() == 0) maps[g] = map;
    }
    __syncthreads();
    if (!tile.exists) continue;
    const OwnColumns<T, N> own(tile, [&](int group) { return maps[group]; });
    normalize_columns<T, N>(problem, tile, own, sample, chunk.begin, chunk.end,
                            [&](int64_t, int64_t index) { return input<T, N>(problem, index); });
  }
}

}  // namespace onnxnorm::cuda
