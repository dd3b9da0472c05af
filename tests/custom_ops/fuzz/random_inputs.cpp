// Feeds a fuzz target with random bytes, where no clang brings libFuzzer: random_inputs SECONDS [NUMBER]. Each input is
// made of a number, and those that follow one another of numbers that do, from NUMBER on. A fault ends the program with
// the number of its input: `random_inputs 0 NUMBER` runs that alone.
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
// There with the address sanitizer.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace {

unsigned long long number = 0;

void tell_number() { std::fprintf(stderr, "\nat input %llu\n", number); }

void run() {
  std::mt19937_64 random(number);
  std::vector<uint8_t> input(random() % 256);
  for (uint8_t& byte : input) byte = static_cast<uint8_t>(random());
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "usage: %s SECONDS [NUMBER]\n", arguments[0]);
    return 2;
  }
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(tell_number);
  std::signal(SIGABRT, [](int) {
    tell_number();
    std::_Exit(1);
  });
  const double seconds = std::atof(arguments[1]);
  const unsigned long long first = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : std::random_device{}();
  const auto begin = std::chrono::steady_clock::now();
  number = first;
  do {
    run();
    ++number;
  } while (std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() < seconds);
  std::printf("%llu inputs from %llu on\n", number - first, first);
}
