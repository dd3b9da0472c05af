// How a normalization is launched: a pure function of its shape and of what the device has.
#pragma once

#include <cstdint>

#include "problem.h"

namespace onnxnorm::cuda {

constexpr int row_threads = 512;      // most threads of a block that holds rows
constexpr int most_held = 16;         // elements of a row that a thread of such a block holds
constexpr int split_threads = 256;    // of a block that takes a chunk of a row
constexpr int split_elements = 4096;  // that such a block holds in its registers at once
constexpr int column_threads = 256;
constexpr int strided_threads = 256;
constexpr int most_strided = 1 << 20;   // blocks of such a kernel
constexpr int64_t static_shared = 512;  // bytes of shared memory that no kernel's own arrays exceed

struct DeviceLimits {
  int multiprocessors;
  int64_t shared_per_block;  // that a kernel may ask for

  /// Bytes of dynamic shared memory that every kernel can be launched with.
  int64_t dynamic_shared() const { return shared_per_block - static_shared; }
};

/// Columns of a matrix, cut into tiles: `width` columns of whole groups, or a part of a group.
struct Tiling {
  int width;
  int tiles_per_group;  // 1 where a tile holds whole groups
};

enum class Method { rows_in_registers, rows_in_shared, rows_in_chunks, columns_in_shared, columns_in_chunks };

struct Plan {
  Method method;
  int vector;  // elements of a load or store
  int items;   // vectors that a thread holds (rows_in_registers)
  unsigned grid[3];
  unsigned block[2];
  int64_t shared;        // bytes of dynamic shared memory
  int64_t shared_apply;  // of the second kernel, where there is one
  int64_t chunk;         // elements of a row, or rows of a matrix, to a chunk
  int64_t partials;      // moments in scratch memory
  Tiling tiling;
};

/// What of the pointers matters: whether each is at a multiple of 16 bytes.
Plan plan(const Problem& problem, int element_bytes, bool aligned, const DeviceLimits& device);

}  // namespace onnxnorm::cuda
