#include "columns.cuh"
#include "normalize.h"
#include "platform.h"
#include "rows.cuh"
#include "strided.cuh"

namespace onnxnorm::cuda {
namespace {

dim3 grid_of(const Plan& plan) { return {plan.grid[0], plan.grid[1], plan.grid[2]}; }
dim3 block_of(const Plan& plan) { return {plan.block[0], plan.block[1], 1}; }

/// Shared memory of a block, static and dynamic together, that needs no permission.
constexpr int64_t common_shared = 48 << 10;

/// Lets a kernel have more shared memory than every device has: as much as there is, since the permission is the
/// kernel's, and other threads may be launching it with more than this one needs.
template <class Kernel>
void allow_shared(Kernel* kernel, const Launches& launches) {
  if (launches.plan.shared <= common_shared - static_shared) return;
#ifndef ONNXNORM_EMULATION
  cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                       static_cast<int>(launches.most_shared));
#else
  emulation::allow_dynamic_shared(static_cast<size_t>(launches.most_shared));
  (void)kernel;
#endif
}

template <class T, int N>
void enqueue_vectors(const Launches& launches, void* scratch, Stream stream) {
  const Plan& plan = launches.plan;
  const Problem problem = launches.posed.problem;
  const Tiling tiling = plan.tiling;
  const dim3 grid = grid_of(plan), block = block_of(plan);
  const auto shared = static_cast<size_t>(plan.shared);
  const int64_t chunk = plan.chunk;
  auto* const partials = static_cast<Moments<Compute<T>>*>(scratch);
  switch (plan.method) {
    case Method::rows_in_registers:
      if (plan.items == 1) LAUNCH((rows_in_registers<T, N, 1>), grid, block, 0, stream, problem);
      if (plan.items == 2) LAUNCH((rows_in_registers<T, N, 2>), grid, block, 0, stream, problem);
      if constexpr (4 * N <= most_held) {
        if (plan.items == 4) LAUNCH((rows_in_registers<T, N, 4>), grid, block, 0, stream, problem);
      }
      return;
    case Method::rows_in_shared:
      allow_shared(rows_in_shared<T, N>, launches);
      LAUNCH((rows_in_shared<T, N>), grid, block, shared, stream, problem);
      return;
    case Method::rows_in_chunks:
      LAUNCH((row_chunk_moments<T, N>), grid, block, 0, stream, problem, chunk, partials);
      LAUNCH((normalize_row_chunk<T, N>), grid, block, 0, stream, problem, chunk, partials);
      return;
    case Method::columns_in_shared:
      allow_shared(columns_in_shared<T, N>, launches);
      LAUNCH((columns_in_shared<T, N>), grid, block, shared, stream, problem, tiling);
      return;
    case Method::columns_in_chunks:
      LAUNCH((column_chunk_moments<T, N>), grid, block, shared, stream, problem, tiling, chunk, partials);
      LAUNCH((normalize_column_chunk<T, N>), grid, block, static_cast<size_t>(plan.shared_apply), stream, problem,
             tiling, chunk, partials);
      return;
  }
}

/// Calls body with a value of the element's type.
template <class Body>
void with_type_of(Element element, const Body& body) {
  switch (element) {
    case Element::float32:
      return body(float{});
    case Element::float16:
      return body(Half{});
    case Element::bfloat16:
      return body(BFloat{});
    case Element::float64:
      return body(double{});
  }
}

dim3 grid_for(int64_t blocks) { return {static_cast<unsigned>(blocks < most_strided ? blocks : most_strided), 1, 1}; }

template <class T>
void enqueue_elements(const Launches& launches, void* scratch, Stream stream) {
  if (launches.posed.axes.rank > 0) {
    const Problem problem = launches.posed.problem;
    const Axes axes = launches.posed.axes;
    int64_t groups = 1, depth = 1;
    for (int d = 0; d < axes.rank; ++d) (axes.reduced[d] ? depth : groups) *= axes.extent[d];
    LAUNCH((normalize_strided<T>), grid_for(groups), dim3(strided_threads), 0, stream, problem, axes, groups, depth);
  } else if (launches.plan.vector == 1) {
    enqueue_vectors<T, 1>(launches, scratch, stream);
  } else {
    enqueue_vectors<T, widest<T>>(launches, scratch, stream);
  }
}

}  // namespace

Launches launches_of(const Normalization& normalization, const DeviceLimits& device) {
  Launches result{};
  result.element = normalization.element;
  for (int64_t d = 0; d < normalization.rank; ++d) result.nothing |= normalization.dimensions[d].extent == 0;
  if (result.nothing) return result;
  result.posed = pose(normalization);
  if (result.posed.axes.rank > 0) return result;
  const Problem& problem = result.posed.problem;
  bool aligned = true;
  for (const void* pointer :
       {problem.x, problem.scale, problem.bias, problem.residual, static_cast<const void*>(problem.y)}) {
    aligned = aligned && reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  }
  const int64_t bytes = element_size(normalization.element);
  result.plan = plan(problem, static_cast<int>(bytes), aligned, device);
  result.most_shared = device.dynamic_shared();
  result.scratch_bytes =
      result.plan.partials * static_cast<int64_t>(bytes == 8 ? sizeof(Moments<double>) : sizeof(Moments<float>));
  return result;
}

void enqueue(const Launches& launches, void* scratch, void* stream) {
  if (launches.nothing) return;
  const auto queue = static_cast<Stream>(stream);
  with_type_of(launches.element, [&](auto type) { enqueue_elements<decltype(type)>(launches, scratch, queue); });
}

void enqueue_expand(const void* from, const std::vector<int64_t>& from_shape, const std::vector<int64_t>& to_shape,
                    Element element, void* to, void* stream) {
  const Axes axes = expanded_axes(from_shape, to_shape);
  int64_t count = 1;
  for (int d = 0; d < axes.rank; ++d) count *= axes.extent[d];
  with_type_of(element, [&](auto type) {
    using T = decltype(type);
    const T* const source = static_cast<const T*>(from);
    T* const target = static_cast<T*>(to);
    LAUNCH((expand<T>), grid_for(count / strided_threads + 1), dim3(strided_threads), 0, static_cast<Stream>(stream),
           source, axes, count, target);
  });
}

}  // namespace onnxnorm::cuda
