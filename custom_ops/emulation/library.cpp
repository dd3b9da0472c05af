// The CUDA kernels in the emulation, as a library that Python calls: from a node's attributes and shapes to its output.
#include <exception>
#include <string>
#include <vector>

#include "cuda/normalize.h"
#include "emulation/emulation.h"
#include "ops/geometry.h"

using namespace onnxnorm;

namespace {

struct Node {
  int32_t kind;
  int32_t element;
  int64_t axis;
  int64_t num_groups;
  const int64_t* axes;
  int64_t axes_count;
  int64_t subtract_mean;
  float epsilon;
  int32_t activation;
  double parameters[2];
  int32_t residual_first;
};

struct Tensors {
  const int64_t* shapes[3];  // of X, scale and bias; the residual has that of X
  int64_t ranks[3];
  const void* x;
  const void* scale;
  const void* bias;
  const void* residual;
  void* y;
};

struct Machine {
  int32_t order;
  uint64_t seed;
  int32_t multiprocessors;
  int64_t shared_per_block;
};

/// How the launches were chosen.
struct Chosen {
  int32_t method;  // a Method, or -1 for the strided kernel
  int32_t vector;
  int32_t items;
  uint32_t grid[3];
  uint32_t block[2];
  int64_t shared;
  int64_t scratch_bytes;
};

thread_local std::string message;

Shape shape(const Tensors& tensors, int index) {
  return Shape(tensors.shapes[index], tensors.shapes[index] + tensors.ranks[index]);
}

struct Prepared {
  std::vector<Dimension> dimensions;
  cuda::Launches launches;
};

Prepared prepare(const Node& node, const Tensors& tensors, const Machine& machine) {
  Attributes attributes;
  attributes.axis = node.axis;
  attributes.num_groups = node.num_groups;
  attributes.axes.assign(node.axes, node.axes + node.axes_count);
  attributes.subtract_mean = node.subtract_mean;
  attributes.epsilon = node.epsilon;
  const Kind kind = all_kinds[node.kind];
  const Shape x = shape(tensors, 0);
  Prepared prepared{dimensions_of(kind, attributes, {x, shape(tensors, 1), shape(tensors, 2)}, x), {}};
  Normalization normalization{};
  normalization.element = static_cast<Element>(node.element);
  normalization.dimensions = prepared.dimensions.data();
  normalization.rank = static_cast<int64_t>(prepared.dimensions.size());
  normalization.divisor = divisor_of(kind);
  normalization.subtract_mean = subtracts_mean(kind, attributes);
  normalization.epsilon = static_cast<double>(attributes.epsilon);
  normalization.x = tensors.x;
  normalization.scale = tensors.scale;
  normalization.bias = tensors.bias;
  normalization.y = tensors.y;
  normalization.activation = static_cast<Activation>(node.activation);
  normalization.parameters[0] = node.parameters[0];
  normalization.parameters[1] = node.parameters[1];
  normalization.residual = tensors.residual;
  normalization.residual_first = node.residual_first != 0;
  prepared.launches = cuda::launches_of(normalization, {machine.multiprocessors, machine.shared_per_block});
  return prepared;
}

}  // namespace

/// Chooses the launches for a node and, where Y is not null, runs them. Returns null, or what went wrong.
extern "C" __attribute__((visibility("default"))) const char* emulated(const Node* node, const Tensors* tensors,
                                                                       const Machine* machine, Chosen* chosen) try {
  const cuda::Launches launches = prepare(*node, *tensors, *machine).launches;
  const cuda::Plan& plan = launches.plan;
  *chosen = {launches.posed.axes.rank > 0 ? -1 : static_cast<int32_t>(plan.method),
             plan.vector,
             plan.items,
             {plan.grid[0], plan.grid[1], plan.grid[2]},
             {plan.block[0], plan.block[1]},
             plan.shared,
             launches.scratch_bytes};
  if (!tensors->y) return nullptr;
  emulation::settings().order = static_cast<emulation::Order>(machine->order);
  emulation::settings().seed = machine->seed;
  // Poisoned, and a piece of its own for the address sanitizer.
  std::vector<unsigned char> scratch(static_cast<size_t>(launches.scratch_bytes), 0xff);
  cuda::enqueue(launches, scratch.data(), nullptr);
  return nullptr;
} catch (const std::exception& error) {
  message = error.what();
  return message.c_str();
}
