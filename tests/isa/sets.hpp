// What the tests of kernels share: every set that runs here, and random inputs.
#pragma once

#include <cstdint>
#include <vector>

#include "catch.hpp"
#include "pqkv/isa/select.hpp"
#include "support/data.hpp"

namespace pqkv::test {

/// Relative to Σ|terms|: float sums of up to a few thousand terms in any order.
constexpr double float_sum_tolerance = 2e-6;

template <class F>
void for_each_set(F&& check) {
  for (const isa::Available& set : isa::compiled_in()) {
    if (!set.runs_here()) continue;
    INFO("instruction set " << set.kernels->name);
    check(*set.kernels);
  }
}

inline std::vector<std::uint8_t> random_bytes(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::uint8_t> bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random.next());
  return bytes;
}

inline std::vector<float> positive_floats(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> floats(count);
  for (float& x : floats) x = static_cast<float>(random.uniform());
  return floats;
}

}  // namespace pqkv::test
