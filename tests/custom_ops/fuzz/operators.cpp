// Fuzz target: a node with any attributes and shapes is refused by std::invalid_argument, or computed without a fault
// that a sanitizer sees, with the same bits wherever Y lies.
//
// With clang this is a libFuzzer target; random_inputs.cpp feeds it where there is none.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/expand.h"
#include "cpu/isa.h"
#include "cpu/normalize.h"
#include "ops/epilogue.h"
#include "ops/geometry.h"

namespace {

using namespace onnxnorm;

constexpr int64_t most_elements = 1 << 16;

/// The bytes of one input, and any others beyond its end.
class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint8_t next() {
    if (at_ < size_) return data_[at_++];
    beyond_ = beyond_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint8_t>(beyond_ >> 56);
  }
  int64_t below(int64_t count) { return next() % count; }

  /// Mostly small, sometimes one that arithmetic overflows at.
  int64_t integer() {
    constexpr int64_t extremes[] = {std::numeric_limits<int64_t>::min(),
                                    std::numeric_limits<int64_t>::max(),
                                    int64_t{1} << 32,
                                    -(int64_t{1} << 31),
                                    1000,
                                    -1000};
    const uint8_t byte = next();
    return byte < 250 ? byte % 12 - 4 : extremes[byte - 250];
  }

  double real() {
    constexpr double specials[] = {INFINITY, -INFINITY, NAN, 3e38, -3e38, 1e-40, 1e30, 65504, 0, -0.0};
    const uint8_t byte = next();
    return byte < 246 ? (byte - 123) / 32.0 : specials[byte - 246];
  }

  std::string text(std::initializer_list<const char*> known) {
    const int64_t choice = below(static_cast<int64_t>(known.size()) + 2);
    if (choice < static_cast<int64_t>(known.size())) return known.begin()[choice];
    return std::string(static_cast<size_t>(below(40)), static_cast<char>(next()));
  }

  Shape shape() {
    Shape shape(static_cast<size_t>(below(7)));
    for (int64_t& extent : shape) {
      constexpr int64_t extents[] = {0, 1, 2, 3, 4, 5, 8, 16, 17, 33, 64, 300};
      extent = extents[below(12)];
    }
    return shape;
  }

 private:
  const uint8_t* data_;
  size_t size_;
  size_t at_ = 0;
  uint64_t beyond_ = 0;
};

/// Those that the kind of node has: mostly such as fit X.
Attributes attributes_from(Bytes& bytes, Kind kind, const Shape& x) {
  Attributes attributes = defaults_of(kind);
  const auto rank = static_cast<int64_t>(x.size());
  const bool fits = rank > 1 && bytes.below(8) > 0;
  if (has_channels(kind)) {
    attributes.axis = fits ? 1 + bytes.below(rank - 1) : bytes.integer();
    const int64_t channels = fits ? x[static_cast<size_t>(attributes.axis)] : bytes.integer();
    if (kind == Kind::group) attributes.num_groups = bytes.below(2) ? int64_t{1} << bytes.below(4) : channels;
    if (bytes.below(8) == 0) attributes.channel_block = bytes.below(2) ? cpu::nchwc_block() : bytes.integer();
  } else if (fits) {
    const int64_t chosen = 1 + bytes.below((int64_t{1} << rank) - 1);
    attributes.axes.clear();
    for (int64_t axis = 0; axis < rank; ++axis) {
      if (chosen >> axis & 1) attributes.axes.push_back(bytes.below(2) ? axis : axis - rank);
    }
  } else {
    attributes.axes.resize(static_cast<size_t>(bytes.below(5)));
    for (int64_t& axis : attributes.axes) axis = bytes.integer();
  }
  if (kind == Kind::layer && bytes.below(2)) attributes.subtract_mean = fits ? bytes.below(2) : bytes.integer();
  if (!fits) attributes.stash_type = bytes.integer();
  if (bytes.below(4) == 0)
    attributes.epsilon = fits ? static_cast<float>(bytes.below(2)) : static_cast<float>(bytes.real());
  return attributes;
}

struct Named {
  const char* activation;
  int64_t parameters;
};

/// Mostly such as fit one another.
EpilogueAttributes epilogue_from(Bytes& bytes, bool has_residual) {
  constexpr Named known[] = {{"Relu", 0},    {"Clip", 2}, {"LeakyRelu", 1}, {"Elu", 1},
                             {"Selu", 2},    {"Gelu", 0}, {"Swish", 1},     {"FastGelu", 0},
                             {"Sigmoid", 0}, {"Tanh", 0}, {"Softplus", 0},  {"HardSwish", 0}};
  EpilogueAttributes attributes;
  const bool fits = bytes.below(8) > 0;
  if (bytes.below(2)) {
    const Named& named = known[bytes.below(12)];
    attributes.activation = fits ? named.activation : bytes.text({"", "Relu", "Clip", "Elu"});
    attributes.activation_params.resize(static_cast<size_t>(fits ? named.parameters : bytes.below(4)));
    for (float& value : attributes.activation_params) value = static_cast<float>(bytes.real());
  }
  if (has_residual || !fits) attributes.residual_stage = fits ? "input" : bytes.text({"", "input", "output"});
  if (fits && bytes.below(2)) attributes.residual_stage.clear();
  return attributes;
}

/// A shape that broadcasts with another, or any.
Shape shape_beside(Bytes& bytes, Shape shape) {
  const int64_t way = bytes.below(16);
  if (way == 0) return bytes.shape();
  if (way == 1 && !shape.empty()) return {shape[static_cast<size_t>(bytes.below(static_cast<int64_t>(shape.size())))]};
  if (way < 5) {
    shape.erase(shape.begin(), shape.begin() + bytes.below(static_cast<int64_t>(shape.size()) + 1));
    for (int64_t& extent : shape) extent = bytes.below(3) == 0 ? 1 : extent;
  }
  return shape;
}

Shape parameter_shape(Bytes& bytes, Kind kind, const Attributes& attributes, const Shape& x) {
  const auto rank = static_cast<int64_t>(x.size());
  if (!has_channels(kind) || attributes.axis < 0 || attributes.axis >= rank) return shape_beside(bytes, x);
  return bytes.below(8) == 0 ? shape_beside(bytes, x) : Shape{x[static_cast<size_t>(attributes.axis)]};
}

/// Some extents as a model that does not know them has them.
Shape partly_known(Bytes& bytes, Shape shape) {
  if (bytes.below(4) == 0) return {};
  for (int64_t& extent : shape) extent = bytes.below(3) == 0 ? -1 : extent;
  return shape;
}

int64_t count_of(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) {
    count *= extent;
    if (count > most_elements) return most_elements + 1;
  }
  return count;
}

/// Exactly as long as the tensor, so that an access past an end is seen.
using Buffer = std::unique_ptr<char[]>;

Buffer buffer_of(int64_t count, Element element) {
  return Buffer(new char[static_cast<size_t>(count * element_size(element))]);
}

void put(double value, Element element, char* to) {
  const float single = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &single, 4);
  switch (element) {
    case Element::float32:
      std::memcpy(to, &single, 4);
      return;
    case Element::float64:
      std::memcpy(to, &value, 8);
      return;
    default:  // of halves any bits are a value
      bits >>= 16;
      std::memcpy(to, &bits, 2);
  }
}

Buffer values_from(Bytes& bytes, const Shape& shape, Element element) {
  const int64_t count = count_of(shape);
  Buffer buffer = buffer_of(count, element);
  for (int64_t i = 0; i < count; ++i) put(bytes.real(), element, buffer.get() + i * element_size(element));
  return buffer;
}

Buffer expanded(const Buffer& from, const Shape& shape, const Shape& to_shape, Element element) {
  Buffer to = buffer_of(count_of(to_shape), element);
  cpu::expand(from.get(), shape, to_shape, element_size(element), to.get());
  return to;
}

/// Tasks in the reverse of their order: none may rely on another.
class Reversed final : public cpu::Executor {
 public:
  void run(size_t count, void (*task)(void*, size_t), void* context) override {
    while (count-- > 0) task(context, count);
  }
};

void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

void run(Bytes& bytes) {
  const Kind kind = all_kinds[bytes.below(6)];
  const auto element = static_cast<Element>(bytes.below(4));
  const Shape x = bytes.shape();
  const Attributes attributes = attributes_from(bytes, kind, x);
  const bool has_residual = bytes.below(2) == 1;
  const EpilogueAttributes fused = epilogue_from(bytes, has_residual);
  const Shape scale = parameter_shape(bytes, kind, attributes, x), bias = parameter_shape(bytes, kind, attributes, x);
  const Shape residual = has_residual ? shape_beside(bytes, x) : x;
  const Shapes known{partly_known(bytes, x), partly_known(bytes, scale), partly_known(bytes, bias)};

  check_attributes(kind, attributes);
  const Epilogue epilogue = epilogue_of(fused, has_residual);
  check_known_shapes(kind, attributes, known);
  const int64_t block = attributes.channel_block;
  const Shape y = broadcast(x, residual, block), stored_y = stored_shape(y, block);
  const Shape& normalized = epilogue.residual_first ? y : x;
  const std::vector<Dimension> dimensions = dimensions_of(kind, attributes, {normalized, scale, bias}, stored_y);
  if (count_of(y) > most_elements) return;

  const Shape stored_x = stored_shape(x, block), stored_residual = stored_shape(residual, block);
  const Buffer scales = values_from(bytes, scale, element), biases = values_from(bytes, bias, element);
  const Buffer full_x = expanded(values_from(bytes, stored_x, element), stored_x, stored_y, element);
  const Buffer full_residual =
      expanded(values_from(bytes, stored_residual, element), stored_residual, stored_y, element);
  const size_t size = static_cast<size_t>(count_of(y) * element_size(element));
  Buffer apart = buffer_of(count_of(y), element);
  Normalization normalization{};
  normalization.element = element;
  normalization.dimensions = dimensions.data();
  normalization.rank = static_cast<int64_t>(dimensions.size());
  normalization.divisor = divisor_of(kind);
  normalization.subtract_mean = subtracts_mean(kind, attributes);
  normalization.epsilon = static_cast<double>(attributes.epsilon);
  normalization.x = full_x.get();
  normalization.scale = scales.get();
  normalization.bias = biases.get();
  normalization.y = apart.get();
  normalization.activation = epilogue.activation;
  std::copy(epilogue.parameters, epilogue.parameters + 2, normalization.parameters);
  normalization.residual = has_residual ? full_residual.get() : nullptr;
  normalization.residual_first = epilogue.residual_first;
  Reversed executor;
  cpu::normalize(normalization, executor);
  normalization.y = has_residual && bytes.below(2) ? full_residual.get() : full_x.get();
  cpu::normalize(normalization, executor);
  if (std::memcmp(apart.get(), normalization.y, size) != 0) fail("Y in place of an input has other bits");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (!cpu::isa().kernels) fail(cpu::isa().error.c_str());
  Bytes bytes(data, size);
  try {
    run(bytes);
  } catch (const std::invalid_argument& refused) {
    if (std::strlen(refused.what()) > 2000) fail("a message without end");
  }
  return 0;
}
