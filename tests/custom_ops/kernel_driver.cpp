// Runs the kernels without ONNX Runtime or Python, for sanitizers and emulators: every path of the plan, every element
// type, in place and not, on threads of its own, against a plain computation in double. Buffers are exactly as long as
// the tensors, so that a read past an end is seen.
//
//     cmake -S custom_ops -B build/asan -DONNXNORM_KERNELS_ONLY=ON -DONNXNORM_SANITIZE=address,undefined
//     cmake --build build/asan --target check_kernels

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cpu/isa.h"
#include "cpu/kernels.h"
#include "cpu/normalize.h"

namespace {

using onnxnorm::Activation;
using onnxnorm::Dimension;
using onnxnorm::Divisor;
using onnxnorm::Element;

class Threads final : public onnxnorm::cpu::Executor {
 public:
  explicit Threads(int count) : count_(count) {}

  void run(size_t count, void (*task)(void*, size_t), void* context) override {
    std::atomic<size_t> next{0};
    const auto work = [&] {
      for (size_t i = next++; i < count; i = next++) task(context, i);
    };
    std::vector<std::thread> threads;
    for (int t = 1; t < count_; ++t) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
  }

 private:
  int count_;
};

enum class Residual { none, last, first };

/// Where Y lies.
enum class Place { apart, x, residual };

/// What groups are divided by, whether their mean goes first, and what follows.
struct Form {
  Divisor divisor;
  bool subtract_mean;
  Activation activation = Activation::none;
  Residual residual = Residual::none;
};

constexpr double parameters[] = {0.75, 1.25};

/// Forms for the case of this number: every activation comes with every residual in some case.
std::vector<Form> forms(int number) {
  std::vector<Form> result = {{Divisor::deviation, true},
                              {Divisor::deviation, false},
                              {Divisor::root_mean_square, false},
                              {Divisor::length, false}};
  for (const Residual residual : {Residual::none, Residual::last, Residual::first}) {
    const auto activation = static_cast<Activation>(number % onnxnorm::activation_count);
    result.push_back({Divisor::deviation, true, activation, residual});
  }
  return result;
}

double activated(Activation activation, double x) {
  const double a = parameters[0], b = parameters[1];
  switch (activation) {
    case Activation::relu:
      return std::fmax(x, 0);
    case Activation::clip:
      return std::fmin(std::fmax(x, a), b);
    case Activation::leaky_relu:
      return x < 0 ? a * x : x;
    case Activation::elu:
      return x < 0 ? a * std::expm1(x) : x;
    case Activation::selu:
      return b * (x < 0 ? a * std::expm1(x) : x);
    case Activation::gelu:
      return x * std::erfc(-x * std::sqrt(0.5)) / 2;
    case Activation::fast_gelu:
      return x / (1 + std::exp(-std::sqrt(8 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case Activation::swish:
      return x / (1 + std::exp(-a * x));
    case Activation::sigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::tanh:
      return std::tanh(x);
    case Activation::softplus:
      return std::log1p(std::exp(x));
    case Activation::hard_swish:
      return x * std::fmin(std::fmax(x + 3, 0), 6) / 6;
    default:
      return x;
  }
}

struct Case {
  const char* name;
  std::vector<Dimension> dimensions;
};

std::vector<Case> cases() {
  const auto group = [](int64_t n, int64_t outer, int64_t groups, int64_t depth, int64_t inner) {
    return std::vector<Dimension>{
        {n, false, 0, 0}, {outer, true, 0, 0}, {groups, false, depth, depth}, {depth, true, 1, 1}, {inner, true, 0, 0}};
  };
  // Channels in blocks of groups * depth; `shared` blocks to a group.
  const auto blocks = [](int64_t n, int64_t count, int64_t shared, int64_t inner, int64_t groups, int64_t depth) {
    const int64_t block = groups * depth;
    return std::vector<Dimension>{{n, false, 0, 0},
                                  {count, false, shared * block, shared * block},
                                  {shared, true, block, block},
                                  {inner, true, 0, 0},
                                  {groups, false, depth, depth},
                                  {depth, true, 1, 1}};
  };
  return {{"channels last, short rows", group(5, 67, 5, 2, 1)},
          {"channels last, one row", group(3, 1, 4, 3, 1)},
          {"channels last, few rows", group(2, 3, 7, 3, 1)},
          {"channels last, whole sample", group(2, 40, 16, 8, 1)},
          {"channels last, segments", group(2, 1200, 13, 5, 1)},
          {"channels last, many groups", group(1, 300, 700, 1, 1)},
          {"channels last, wide", group(2, 9, 300, 7, 1)},
          {"channels last, long runs", group(2, 3, 2, 1500, 1)},
          {"channels last, tiny samples", group(301, 4, 3, 2, 1)},
          {"channels last, tiny samples of whole vectors", group(77, 3, 16, 2, 1)},
          {"channels last, whole samples of many", group(9, 300, 30, 9, 1)},
          {"channels first", group(3, 1, 8, 4, 49)},
          {"channels first, large images", group(2, 1, 3, 2, 900)},
          {"channels first, segments", group(1, 1, 2, 3, 30011)},
          {"channels in the middle", group(2, 11, 5, 3, 13)},
          {"tiny groups", group(40, 1, 25, 1, 9)},
          {"rows", {{300, false, 0, 0}, {97, true, 1, 1}}},
          {"short rows", {{301, false, 0, 0}, {10, true, 1, 1}}},
          {"single elements", {{301, false, 0, 0}, {1, true, 1, 1}}},
          {"long rows", {{3, false, 0, 0}, {70001, true, 1, 1}}},
          {"columns", {{70, true, 0, 0}, {33, false, 1, 1}}},
          {"scale by row", {{7, false, 0, 0}, {30, true, 1, 0}, {33, false, 0, 1}}},
          {"scale by all", {{7, false, 990, 0}, {30, true, 33, 0}, {33, false, 1, 1}}},
          {"scale by row, short rows", {{301, false, 0, 0}, {40, true, 1, 1}, {7, false, 0, 0}}},
          {"scale by row, rows of two", {{70, false, 0, 0}, {300, true, 1, 1}, {2, false, 0, 0}}},
          {"scale by row, tiny samples", {{301, false, 0, 0}, {5, true, 1, 1}, {4, false, 0, 0}}},
          {"scale by row, few samples", {{2, false, 0, 0}, {700, true, 1, 1}, {3, false, 0, 0}}},
          {"scale by row, long rows", {{3, false, 0, 0}, {5, true, 1, 1}, {3001, false, 0, 0}}},
          {"scale by row and runs", {{5, false, 0, 0}, {30, true, 4, 4}, {4, false, 1, 1}, {9, false, 0, 0}}},
          {"scale by some rows", {{4, true, 0, 0}, {3, true, 1030, 0}, {1030, false, 1, 1}}},
          {"scale by some short rows", {{301, true, 0, 0}, {64, true, 3, 3}, {3, false, 0, 0}, {3, true, 1, 1}}},
          {"scale by samples of long runs",
           {{2, false, 3075, 3075}, {2, true, 0, 0}, {3, false, 1025, 1025}, {1025, true, 1, 1}}},
          {"scale by the last axis", {{64, true, 0, 0}, {4, false, 0, 0}, {6, true, 0, 0}, {7, true, 1, 1}}},
          {"scale by two rows", {{5, false, 0, 0}, {6, true, 1, 1}, {5, true, 0, 0}, {21, false, 0, 0}}},
          {"scalar scale", {{7, false, 0, 0}, {130, true, 0, 0}}},
          {"every other axis", {{4, true, 0, 0}, {5, false, 0, 0}, {6, true, 0, 0}, {7, false, 8, 0}, {8, true, 1, 1}}},
          {"blocks of groups", blocks(3, 4, 1, 50, 8, 2)},
          {"blocks of groups, segments", blocks(2, 2, 1, 5003, 4, 4)},
          {"groups of blocks", blocks(2, 3, 2, 50, 1, 16)},
          {"groups of blocks, segments", blocks(1, 2, 2, 3001, 1, 16)},
          {"empty", {{4, false, 0, 0}, {0, true, 1, 1}}}};
}

/// Conversions of their own, so that a wrong one in the kernels shows.
double stored_value(Element element, const unsigned char* from) {
  if (element == Element::float64) {
    double value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  if (element == Element::float32) {
    float value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, from, sizeof bits);
  if (element == Element::bfloat16) {
    const uint32_t wide = uint32_t{bits} << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
  }
  const int exponent = bits >> 10 & 31;
  const double fraction = bits & 1023;
  const double magnitude = exponent == 31 ? (fraction == 0 ? HUGE_VAL : std::nan(""))
                           : exponent     ? std::ldexp(1 + fraction / 1024, exponent - 15)
                                          : std::ldexp(fraction, -24);
  return bits & 0x8000 ? -magnitude : magnitude;
}

/// A value that every element type holds exactly: a multiple of 1/16 up to 8.
void put(Element element, int sixteenths, unsigned char* to) {
  const double value = sixteenths / 16.0;
  const float narrow = static_cast<float>(value);
  if (element == Element::float64) {
    std::memcpy(to, &value, sizeof value);
  } else if (element == Element::float32) {
    std::memcpy(to, &narrow, sizeof narrow);
  } else if (element == Element::bfloat16) {
    std::memcpy(to, reinterpret_cast<const unsigned char*>(&narrow) + 2, 2);
  } else {
    int exponent;
    const double fraction = std::frexp(std::fabs(value), &exponent);
    const auto bits = static_cast<uint16_t>((value < 0 ? 0x8000 : 0) +
                                            (value == 0 ? 0 : ((exponent + 14) << 10) + (fraction * 2 - 1) * 1024));
    std::memcpy(to, &bits, sizeof bits);
  }
}

/// To float16 or bfloat16.
double rounded(Element element, double value) {
  if (!std::isfinite(value)) return value;
  const bool half = element == Element::float16;
  const int digits = half ? 11 : 8, least = half ? -24 : -133, greatest = half ? 16 : 128;
  int exponent;
  std::frexp(value, &exponent);
  const int last = std::max(exponent - digits, least);
  const double result = std::ldexp(std::nearbyint(std::ldexp(value, -last)), last);
  return std::fabs(result) < std::ldexp(1, greatest) ? result : std::copysign(HUGE_VAL, value);
}

struct Tensor {
  /// Of NaN.
  Tensor(Element element, int64_t count)
      : element(element),
        size(element == Element::float64   ? 8
             : element == Element::float32 ? 4
                                           : 2),
        bytes(new unsigned char[static_cast<size_t>(count) * size]),
        length(static_cast<size_t>(count) * size) {
    std::memset(bytes.get(), 0xff, length);
  }
  Tensor(Element element, int64_t count, std::mt19937& random) : Tensor(element, count) {
    std::uniform_int_distribution<int> draw(-127, 127);
    for (int64_t i = 0; i < count; ++i) put(element, draw(random), bytes.get() + static_cast<size_t>(i) * size);
  }
  double operator[](int64_t i) const { return stored_value(element, bytes.get() + static_cast<size_t>(i) * size); }

  Element element;
  size_t size;
  std::unique_ptr<unsigned char[]> bytes;
  size_t length;
};

/// Visits all elements: body(flat index, group, scale index, bias index).
template <class Body>
void for_elements(const std::vector<Dimension>& dimensions, const Body& body) {
  int64_t total = 1;
  for (const Dimension& d : dimensions) total *= d.extent;
  for (int64_t i = 0; i < total; ++i) {
    int64_t rest = i, group = 0, groups = 1, scale = 0, bias = 0;
    for (size_t d = dimensions.size(); d-- > 0;) {
      const int64_t at = rest % dimensions[d].extent;
      rest /= dimensions[d].extent;
      scale += at * dimensions[d].scale_stride;
      bias += at * dimensions[d].bias_stride;
      if (dimensions[d].reduced) continue;
      group += at * groups;
      groups *= dimensions[d].extent;
    }
    body(i, static_cast<size_t>(group), scale, bias);
  }
}

double worst_error(const Case& test, const Form& form, const Tensor& x, const Tensor& scale, const Tensor& bias,
                   const Tensor& residual, const Tensor& y) {
  size_t groups = 1;
  for (const Dimension& d : test.dimensions) groups *= d.reduced ? 1 : static_cast<size_t>(d.extent);
  std::vector<double> mean(groups), variance(groups), count(groups);
  // The elements are multiples of 1/16 up to 8: their sums are exact in every type, but for bfloat16.
  const auto summed = [&](int64_t i) {
    if (form.residual != Residual::first) return x[i];
    return x.element == Element::bfloat16 ? rounded(Element::bfloat16, x[i] + residual[i]) : x[i] + residual[i];
  };
  for_elements(test.dimensions, [&](int64_t i, size_t g, int64_t, int64_t) { mean[g] += summed(i), count[g] += 1; });
  for (size_t g = 0; g < groups; ++g) mean[g] /= count[g];
  for_elements(test.dimensions, [&](int64_t i, size_t g, int64_t, int64_t) {
    variance[g] += (summed(i) - mean[g]) * (summed(i) - mean[g]) / count[g];
  });
  double worst = 0;
  for_elements(test.dimensions, [&](int64_t i, size_t g, int64_t s, int64_t b) {
    const double square = variance[g] + mean[g] * mean[g];
    const double divisor = form.divisor == Divisor::deviation          ? std::sqrt(variance[g] + 1e-3)
                           : form.divisor == Divisor::root_mean_square ? std::sqrt(square + 1e-3)
                                                                       : std::sqrt(std::fmax(count[g] * square, 1e-3));
    const double normalized = (summed(i) - (form.subtract_mean ? mean[g] : 0)) / divisor * scale[s] + bias[b];
    const double added = form.residual == Residual::last ? residual[i] : 0;
    const double error = std::fabs(y[i] - activated(form.activation, normalized + added));
    if (!(error <= worst)) worst = error;
  });
  return worst;
}

bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

/// Every value of float16 or bfloat16 read, and their sums with others written.
bool converts(Element element, std::mt19937& random) {
  const auto& kernels = onnxnorm::cpu::isa().kernels->elements[static_cast<size_t>(element)];
  constexpr size_t count = 1 << 16;
  std::vector<uint16_t> all(count), others(count), sums(count);
  std::vector<float> wide(count);
  const auto value = [&](const uint16_t& bits) {
    return stored_value(element, reinterpret_cast<const unsigned char*>(&bits));
  };
  for (size_t i = 0; i < count; ++i) all[i] = static_cast<uint16_t>(i);
  kernels.widen(all.data(), 1, count, wide.data());
  bool good = true;
  for (size_t i = 0; i < count; ++i) good &= same(wide[i], value(all[i]));
  for (int round = 0; round < 16; ++round) {
    // A few binades off, so that roundings are of all kinds; in the last round anything.
    const uint_fast32_t changed = round == 15 ? 0xffff : element == Element::float16 ? 0x8fff : 0x83ff;
    for (size_t i = 0; i < count; ++i) others[i] = static_cast<uint16_t>(all[i] ^ (random() & changed));
    kernels.add(all.data(), others.data(), 0, count, sums.data());
    for (size_t i = 0; i < count; ++i) {
      const float sum = static_cast<float>(value(all[i])) + static_cast<float>(value(others[i]));
      good &= same(value(sums[i]), rounded(element, sum));
    }
  }
  return good;
}

/// The exponent of those whose exponent is rounded: an error of it counts as often as it is large.
double rounded_exponent(Activation activation, double x) {
  return activation == Activation::fast_gelu ? 1.6 * x + 0.072 * x * x * x
         : activation == Activation::swish   ? parameters[0] * x
                                             : 0;
}

/// An activation over all of float, to four units in the last place.
bool activates_everywhere(Activation activation) {
  const auto& kernels = onnxnorm::cpu::isa().kernels->elements[static_cast<size_t>(Element::float32)];
  const auto run = kernels.finish[static_cast<size_t>(activation)];
  if (!run) return true;
  std::vector<float> x;
  for (float magnitude = 1e-45f; magnitude < 3e38f; magnitude = magnitude * 1.01f + 1e-45f) {
    x.push_back(magnitude);
    x.push_back(-magnitude);
  }
  x.push_back(-2.343492f);  // where Gelu is furthest off
  const size_t finite = x.size();
  x.insert(x.end(), {0, -0.0f, HUGE_VALF, -HUGE_VALF, std::nanf("")});
  std::vector<float> y(x.size());
  onnxnorm::cpu::Finish finish{};
  finish.run = run;
  finish.x = x.data();
  std::copy(std::begin(parameters), std::end(parameters), finish.parameters);
  run(finish, x.data(), 0, static_cast<int64_t>(x.size()), {}, 0, y.data());
  bool good = std::isnan(y.back());
  for (size_t i = 0; i + 1 < x.size(); ++i) {
    // At infinity its limit.
    const double at = i < finite ? x[i] : std::fmin(std::fmax(x[i], -1e30), 1e30);
    double expected = activated(activation, at);
    if (i >= finite && std::fabs(expected) > 1e29) expected = std::copysign(HUGE_VAL, expected);
    const double ulps = 4 * std::fmin(std::fmax(1, std::fabs(rounded_exponent(activation, at))), 1000);
    const double allowed = ulps * 0x1p-23 * std::fabs(expected) + 1000 * 0x1p-126;
    const bool close = y[i] == static_cast<float>(expected) || std::fabs(y[i] - expected) <= allowed;
    if (!close) {
      std::printf("activation %d of %g: %g, expected %g\n", static_cast<int>(activation), x[i], y[i], expected);
    }
    good &= close;
  }
  return good;
}

/// What one column holds is normalized the same whatever others are taken with it: the blocks that columns are cut into
/// depend on the machine's cache.
bool columns_stand_alone(int64_t rows, Activation activation, std::mt19937& random) {
  const auto& kernels = onnxnorm::cpu::isa().kernels->elements[static_cast<size_t>(Element::float32)];
  constexpr int64_t pitch = 160;
  std::normal_distribution<float> draw;
  std::vector<float> x(static_cast<size_t>(rows * pitch)), scale(x.size()), bias(x.size());
  std::vector<float> whole(x.size()), cut(x.size());
  for (auto* values : {&x, &scale, &bias}) {
    for (float& value : *values) value = draw(random);
  }
  onnxnorm::cpu::Finish finish{};
  finish.run = kernels.finish[static_cast<size_t>(activation)];
  finish.x = x.data();
  finish.parameters[0] = 1;
  const onnxnorm::cpu::Rule rule{1, 0, 1e-3, 0, true};
  bool good = true;
  // One entry for all, for each column, for each row and for each element.
  for (const auto& [period, inner] :
       {std::pair<int64_t, int64_t>{1, 1}, {pitch, 1}, {rows, pitch}, {rows * pitch, 1}}) {
    const onnxnorm::cpu::Affine affine{scale.data(), bias.data(), period, inner, 1, 0};
    const auto normalize = [&](int64_t column, int64_t width, std::vector<float>& y) {
      kernels.normalize_columns({x.data(), y.data(), column, 1, rows * pitch, rows, pitch, width, 1, &rule, &affine,
                                 finish.run ? &finish : nullptr});
    };
    normalize(0, pitch, whole);
    for (const int64_t width : {1, 4, 8, 16, 20, 32, 80}) {
      for (int64_t column = 0; column < pitch; column += width) normalize(column, width, cut);
      const bool same = std::memcmp(cut.data(), whole.data(), whole.size() * sizeof(float)) == 0;
      if (!same) {
        std::printf("%ld rows, activation %d, %ld entries: %ld columns alone differ\n", static_cast<long>(rows),
                    static_cast<int>(activation), static_cast<long>(period), static_cast<long>(width));
      }
      good &= same;
    }
  }
  return good;
}

/// The variance of columns that hold two values each, for which roundings add up: a sum in float may take so many rows
/// and no more.
bool columns_are_accurate(int64_t width, std::mt19937& random) {
  const auto& kernels = onnxnorm::cpu::isa().kernels->elements[static_cast<size_t>(Element::float32)];
  constexpr int64_t rows = 8000;
  std::uniform_real_distribution<float> draw(1, 2);
  std::vector<float> x(static_cast<size_t>(rows * width));
  std::vector<double> mean(static_cast<size_t>(width)), variance(mean.size());
  for (int64_t c = 0; c < width; ++c) {
    const float magnitude = draw(random);
    for (int64_t r = 0; r < rows; ++r) x[r * width + c] = random() % 2 ? magnitude : -magnitude;
  }
  const onnxnorm::cpu::Rule rule{1, 0, 1e-5, 0, true};
  kernels.column_moments({x.data(), nullptr, 0, 1, rows * width, rows, width, width, 1, &rule, nullptr, nullptr},
                         mean.data(), variance.data());
  double worst = 0;
  for (int64_t c = 0; c < width; ++c) {
    double sum = 0;
    for (int64_t r = 0; r < rows; ++r) sum += x[r * width + c];
    const double square = static_cast<double>(x[c]) * x[c];
    worst = std::fmax(worst, std::fabs(variance[c] / (square - sum / rows * sum / rows) - 1));
  }
  const bool good = worst < 1e-5;
  if (!good) std::printf("columns of two values, %ld of them: error %g\n", static_cast<long>(width), worst);
  return good;
}

}  // namespace

int main() {
  const onnxnorm::cpu::Isa& isa = onnxnorm::cpu::isa();
  if (!isa.kernels) {
    std::printf("%s\n", isa.error.c_str());
    return isa.error.find("does not have") == std::string::npos;
  }
  std::mt19937 random(1);
  int passed = 0, failed = 0, number = 0;
  for (const Element element : {Element::float16, Element::bfloat16}) {
    const bool good = converts(element, random);
    good ? ++passed : ++failed;
    if (!good) std::printf("type %d: a wrong conversion\n", static_cast<int>(element));
  }
  for (int a = 0; a < onnxnorm::activation_count; ++a) {
    activates_everywhere(static_cast<Activation>(a)) ? ++passed : ++failed;
  }
  for (const int64_t rows : {50, 5000}) {
    for (const Activation activation : {Activation::none, Activation::swish}) {
      columns_stand_alone(rows, activation, random) ? ++passed : ++failed;
    }
  }
  for (int64_t width = 4; width <= 64; width += 4) columns_are_accurate(width, random) ? ++passed : ++failed;
  for (const Case& test : cases()) {
    int64_t total = 1, scales = 1, biases = 1;
    for (const Dimension& d : test.dimensions) {
      total *= d.extent;
      scales += d.extent ? (d.extent - 1) * d.scale_stride : 0;
      biases += d.extent ? (d.extent - 1) * d.bias_stride : 0;
    }
    for (const Element element : {Element::float32, Element::float16, Element::bfloat16, Element::float64}) {
      const Tensor x(element, total, random), scale(element, scales, random), bias(element, biases, random);
      const Tensor residual(element, total, random);
      for (const Form& form : forms(++number)) {
        std::vector<Tensor> results;
        for (const int threads : {1, 2, 4}) {
          for (const Place place : {Place::apart, Place::x, Place::residual}) {
            if (place == Place::residual && form.residual == Residual::none) continue;
            Tensor y(element, total);
            if (place == Place::x) std::memcpy(y.bytes.get(), x.bytes.get(), x.length);
            if (place == Place::residual) std::memcpy(y.bytes.get(), residual.bytes.get(), residual.length);
            const void* const added = place == Place::residual ? y.bytes.get() : residual.bytes.get();
            Threads executor(threads);
            onnxnorm::cpu::normalize({element,
                                      test.dimensions.data(),
                                      static_cast<int64_t>(test.dimensions.size()),
                                      form.divisor,
                                      form.subtract_mean,
                                      1e-3,
                                      place == Place::x ? y.bytes.get() : x.bytes.get(),
                                      scale.bytes.get(),
                                      bias.bytes.get(),
                                      y.bytes.get(),
                                      form.activation,
                                      {parameters[0], parameters[1]},
                                      form.residual == Residual::none ? nullptr : added,
                                      form.residual == Residual::first},
                                     executor);
            results.push_back(std::move(y));
          }
        }
        bool same = true;
        for (const Tensor& y : results) same &= std::memcmp(y.bytes.get(), results[0].bytes.get(), y.length) == 0;
        const double error = worst_error(test, form, x, scale, bias, residual, results[0]);
        // A mean that stays is divided by no more than the root of epsilon where there is no deviation.
        const double terms = form.divisor == Divisor::deviation && !form.subtract_mean ? 2500 : 90;
        // For float64 the plain sums above are what is less exact.
        const double rounding[] = {0x1p-20, 0x1p-11, 0x1p-8, 0x1p-46};
        const double allowed = terms * rounding[static_cast<int>(element)];
        const bool good = same && error <= allowed;
        good ? ++passed : ++failed;
        if (!good) {
          std::printf("%s, type %d, divisor %d, activation %d, residual %d: error %g, allowed %g, %s\n", test.name,
                      static_cast<int>(element), static_cast<int>(form.divisor), static_cast<int>(form.activation),
                      static_cast<int>(form.residual), error, allowed,
                      same ? "same for all threads" : "differs between threads");
        }
      }
    }
  }
  std::printf("%s: %d passed, %d failed\n", isa.name, passed, failed);
  return failed != 0;
}
