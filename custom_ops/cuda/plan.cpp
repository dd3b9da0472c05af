#include "plan.h"

#include <algorithm>
#include <numeric>

namespace onnxnorm::cuda {
namespace {

int64_t ceiling(int64_t count, int64_t step) { return (count + step - 1) / step; }

int64_t power_of_two(int64_t at_least) {
  int64_t result = 1;
  while (result < at_least) result *= 2;
  return result;
}

constexpr int64_t most_grid = 65535;        // in y and z
constexpr int64_t comfortable_bytes = 256;  // of a row of a tile
constexpr int64_t sector_bytes = 32;
constexpr int64_t most_blocks = 1u << 31;

int64_t bytes_of_moments(int element_bytes) { return element_bytes == 8 ? 32 : 16; }

/// Whether vectors of this many elements neither cross the end of a row nor that of an entry of scale and bias.
bool fits(const Problem& problem, int64_t vector) {
  const View& view = problem.view;
  const int64_t row = view.outer == 1 ? view.depth : view.groups * view.depth;
  const uint32_t entry = problem.inner > 1 ? problem.inner : problem.period;
  return row % vector == 0 && (problem.period == 1 || entry % vector == 0);
}

Plan plan_rows(const Problem& problem, int element_bytes, const DeviceLimits& device, Plan result) {
  const int64_t rows = problem.view.batch, depth = problem.view.depth;
  const int64_t vectors = depth / result.vector, most_items = std::min(4, most_held / result.vector);
  const bool one_block_a_row = rows < most_blocks;
  // Rows go to a block each while that fills the device; fewer and longer ones are cut.
  const bool few = rows < device.multiprocessors && depth >= 4 * split_elements;
  if (one_block_a_row && vectors <= row_threads * most_items && !few) {
    result.method = Method::rows_in_registers;
    // As few threads as the row needs, so that short rows share a block; whole warps beyond one.
    const int64_t wanted = std::max<int64_t>(1, ceiling(vectors, 2));
    const int64_t threads =
        wanted <= 32 ? power_of_two(wanted) : std::min<int64_t>(row_threads, ceiling(wanted, 32) * 32);
    const int64_t rows_per_block = threads <= 32 ? 128 / threads : 1;
    result.items = static_cast<int>(power_of_two(ceiling(vectors, threads)));
    result.block[0] = static_cast<unsigned>(threads);
    result.block[1] = static_cast<unsigned>(rows_per_block);
    result.grid[0] = static_cast<unsigned>(ceiling(rows, rows_per_block));
    return result;
  }
  if (one_block_a_row && depth * element_bytes <= device.dynamic_shared() && !few) {
    result.method = Method::rows_in_shared;
    result.shared = depth * element_bytes;
    result.block[0] = row_threads;
    result.grid[0] = static_cast<unsigned>(rows);
    return result;
  }
  result.method = Method::rows_in_chunks;
  // Enough chunks to fill the device several times, but no more than a warp merges in passing.
  const int64_t wanted = std::clamp<int64_t>(ceiling(8 * device.multiprocessors, rows), 1, 1024);
  const int64_t pieces = ceiling(depth, split_elements);
  const int64_t chunks = std::min(wanted, pieces);
  result.chunk = ceiling(pieces, chunks) * split_elements;
  result.grid[0] = static_cast<unsigned>(ceiling(depth, result.chunk));
  result.grid[1] = static_cast<unsigned>(std::min(rows, most_grid));
  result.block[0] = split_threads;
  result.partials = rows * result.grid[0];
  return result;
}

/// A tile of a matrix and the block that takes it, all rows or some.
struct Tile {
  Tiling tiling;
  int64_t count;   // of tiles in a sample
  int64_t across;  // threads
  int64_t down;
  int64_t columns;  // that the threads cover
  int64_t scratch;  // bytes of shared memory for moments
  int64_t kept;     // for all rows of the tile
};

/// Whole groups of `least_bytes` or more, or a part of a wide group, for threads that take `vector` columns each; none
/// (count 0) where tiles would not begin at whole vectors.
Tile tile_of(const View& view, int element_bytes, int vector, int64_t least_bytes) {
  const int64_t most_width = static_cast<int64_t>(column_threads) * vector;
  Tile tile{};
  int64_t width = most_width;
  if (view.depth > most_width) {
    if (view.depth % vector != 0) return tile;
    tile.tiling.tiles_per_group = static_cast<int>(ceiling(view.depth, most_width));
    tile.count = view.groups * tile.tiling.tiles_per_group;
  } else {
    const int64_t step = vector / std::gcd<int64_t>(view.depth, vector);
    const int64_t wanted = ceiling(ceiling(least_bytes / element_bytes, view.depth), step) * step;
    width = std::min(view.groups, wanted) * view.depth;
    if (width > most_width) return tile;
    tile.tiling.tiles_per_group = 1;
    tile.count = ceiling(view.groups * view.depth, width);
  }
  tile.tiling.width = static_cast<int>(width);
  tile.across = power_of_two(ceiling(width, vector));
  tile.down = column_threads / tile.across;
  tile.columns = tile.across * vector;
  tile.scratch = tile.columns * tile.down * bytes_of_moments(element_bytes);
  tile.kept = view.outer * tile.columns * element_bytes;
  return tile;
}

Plan plan_columns(const Problem& problem, int element_bytes, const DeviceLimits& device, Plan result) {
  const View& view = problem.view;
  if (tile_of(view, element_bytes, result.vector, comfortable_bytes).count == 0) result.vector = 1;
  // All rows are read once where a tile of them fits; from memory, a row of a tile comes in sectors.
  for (int64_t least = comfortable_bytes; least >= sector_bytes; least /= 2) {
    const Tile tile = tile_of(view, element_bytes, result.vector, least);
    const bool few = tile.count * view.batch < device.multiprocessors && view.outer >= 8 * tile.down;
    if (tile.tiling.tiles_per_group != 1 || few || tile.scratch + tile.kept > device.dynamic_shared()) continue;
    result.method = Method::columns_in_shared;
    result.tiling = tile.tiling;
    result.shared = tile.scratch + tile.kept;
    result.block[0] = static_cast<unsigned>(tile.across);
    result.block[1] = static_cast<unsigned>(tile.down);
    result.grid[0] = static_cast<unsigned>(tile.count);
    result.grid[1] = static_cast<unsigned>(std::min(view.batch, most_grid));
    return result;
  }
  const Tile tile = tile_of(view, element_bytes, result.vector, comfortable_bytes);
  result.method = Method::columns_in_chunks;
  result.tiling = tile.tiling;
  result.block[0] = static_cast<unsigned>(tile.across);
  result.block[1] = static_cast<unsigned>(tile.down);
  result.grid[0] = static_cast<unsigned>(tile.count);
  // Enough chunks to fill the device several times, but no more than a warp merges in passing.
  const int64_t wanted = std::clamp<int64_t>(ceiling(8 * device.multiprocessors, tile.count * view.batch), 1, 256);
  const int64_t chunks = std::min(wanted, ceiling(view.outer, 4 * tile.down));
  result.chunk = ceiling(view.outer, chunks);
  result.grid[1] = static_cast<unsigned>(ceiling(view.outer, result.chunk));
  result.grid[2] = static_cast<unsigned>(std::min(view.batch, most_grid));
  result.partials = view.batch * view.groups * result.grid[1] * result.tiling.tiles_per_group;
  result.shared = tile.scratch;
  result.shared_apply = tile.columns * bytes_of_moments(element_bytes);
  return result;
}

}  // namespace

Plan plan(const Problem& problem, int element_bytes, bool aligned, const DeviceLimits& device) {
  Plan result{};
  const int widest = 16 / element_bytes;
  result.vector = aligned && fits(problem, widest) ? widest : 1;
  result.items = 1;
  std::fill(result.grid, result.grid + 3, 1u);
  std::fill(result.block, result.block + 2, 1u);
  return problem.view.outer == 1 ? plan_rows(problem, element_bytes, device, result)
                                 : plan_columns(problem, element_bytes, device, result);
}

}  // namespace onnxnorm::cuda
