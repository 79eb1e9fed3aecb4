// The next token from logits: the most likely one at temperature 0, else drawn from the nucleus (top-p) of the softmax.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "pqkv/base/random.hpp"

namespace tiny_llm {

[[nodiscard]] inline std::uint32_t sample(const float* logits, std::size_t count, double temperature, double top_p,
                                          pqkv::Random& random) {
  if (temperature <= 0) return static_cast<std::uint32_t>(std::max_element(logits, logits + count) - logits);
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return logits[a] > logits[b]; });
  const double most = static_cast<double>(logits[order[0]]);
  std::vector<double> weights(count);
  for (std::size_t i = 0; i < count; ++i) weights[i] = std::exp((static_cast<double>(logits[order[i]]) - most) / temperature);
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::size_t kept = 0;
  double mass = 0;
  while (kept < count && (kept == 0 || mass < top_p * all)) mass += weights[kept++];
  double left = random.uniform() * mass;
  for (std::size_t i = 0; i < kept; ++i) {
    left -= weights[i];
    if (left < 0) return order[i];
  }
  return order[kept - 1];
}

}  // namespace tiny_llm
