// Compiled once per instruction set, each time into a namespace of its own (ONNXNORM_ISA_NAMESPACE). All else here has
// internal linkage and no standard library header is used: an inline function of one level must not serve another.
#include "kernels.h"

#include "activations.h"
#include "columns.h"
#include "merge.h"
#include "runs.h"
#include "strided.h"
#include "vector.h"

namespace onnxnorm::cpu {
namespace ONNXNORM_ISA_NAMESPACE {
namespace {

template <class T>
void widen(const void* from, int64_t stride, int64_t count, void* to) {
  const T* values = static_cast<const T*>(from);
  Compute<T>* widened = static_cast<Compute<T>*>(to);
  if (stride == 1) {
    for_vectors<Compute<T>>(count, [&](int64_t i, auto extent) {
      store(load(values + i, extent, Vector<Compute<T>>{}), widened + i, extent);
    });
    return;
  }
  for (int64_t i = 0; i < count; ++i) widened[i] = value_at(values + i * stride);
}

template <class T>
constexpr ElementKernels kernels_for() {
  return {
      &normalize_runs<T>,
      &run_moments<T>,
      &apply_run<T>,
      &normalize_columns<T>,
      &column_moments<T>,
      &map_moments<T>,
      &apply_columns<T>,
      &normalize_strided<T>,
      &merge_moments,
      &add<T>,
      {nullptr, nullptr, nullptr, nullptr, &finish<T, Elu>, &finish<T, Selu>, &finish<T, Gelu>, &finish<T, FastGelu>,
       &finish<T, Swish>, &finish<T, Sigmoid>, &finish<T, Tanh>, &finish<T, Softplus>, &finish<T, HardSwish>},
      &widen<T>};
}

}  // namespace

extern const KernelTable kernels;
const KernelTable kernels = {{kernels_for<float>(), kernels_for<Half>(), kernels_for<BFloat>(), kernels_for<double>()}};

}  // namespace ONNXNORM_ISA_NAMESPACE
}  // namespace onnxnorm::cpu
