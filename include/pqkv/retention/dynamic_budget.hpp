// norm_budget: evict until a quality bound would be crossed, instead of down to a number. Layer 6.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "pqkv/base/rows.hpp"

namespace pqkv::inline PQKV_ABI {

/// The smallest budget at which the attention weights of the tokens that stay have a Frobenius norm of at least (1 −
/// tolerance) of that of all weights, when tokens go one by one, the lowest score first, and the first that would cross the
/// bound stops it (Ni et al.: DBudgetKV, 2025; tolerance 1 %, and there tokens go by position, the oldest behind the first few
/// first: scores that grow with the index, as SinksAndRecent has them). `weights` [queries × tokens], as token_weights gives
/// them; the first `front` and the last `back` tokens never go.
PQKV_WHEN_CALLED [[nodiscard]] std::size_t norm_budget(FloatRows weights, std::span<const float> scores, std::size_t front,
                                                       std::size_t back, double tolerance = 0.01) {
  PQKV_EXPECTS(scores.size() == weights.dim);
  const std::size_t tokens = weights.dim;
  std::vector<double> squares(tokens);
  for (std::size_t q = 0; q < weights.count; ++q) {
    for (std::size_t i = 0; i < tokens; ++i) {
      squares[i] += static_cast<double>(weights.row(q)[i]) * static_cast<double>(weights.row(q)[i]);
    }
  }
  const double all = std::accumulate(squares.begin(), squares.end(), 0.0);
  const double may_go = all * (1 - (1 - tolerance) * (1 - tolerance));
  std::vector<std::size_t> order;
  for (std::size_t i = front; i + back < tokens; ++i) order.push_back(i);
  // As choose_evicted: of equals the newer stays.
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return scores[a] != scores[b] ? scores[a] < scores[b] : a < b;
  });
  double gone = 0;
  std::size_t budget = tokens;
  for (const std::size_t i : order) {
    gone += squares[i];
    if (gone > may_go) break;
    --budget;
  }
  return budget;
}

}  // namespace pqkv::inline PQKV_ABI
