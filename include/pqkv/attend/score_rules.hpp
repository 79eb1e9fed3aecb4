// ScoreRules: what happens to scores between q · k and the softmax: soft-capping, linear biases, sliding windows, a caller's
// bias, erased tokens. Layer 5. Where no rule is asked for nothing here runs.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// The score of a token that a query does not see: its exponential is 0 beside any score that means something. Not an
/// infinity: callers may compile with -ffast-math.
inline constexpr float unseen_score = -1e30f;
/// Whether the largest score of a tile is that of a token that is seen.
[[nodiscard]] constexpr bool is_seen(float score) noexcept { return score > 0.5f * unseen_score; }

/// The rules of one group of queries.
struct ScoreRules {
  float soft_cap = 0;                            ///< 0: none
  std::size_t sliding_window = 0;                ///< 0: none
  std::span<const float> bias;                   ///< by token index; empty: none
  bool linear = false;                           ///< whether `slopes` counts
  float slopes[max_group] = {};                  ///< of each query
  std::int64_t query_positions[max_group] = {};  ///< of each query

  [[nodiscard]] bool any() const noexcept { return soft_cap != 0 || sliding_window != 0 || !bias.empty() || linear; }

  /// The rules of the queries from `first` on.
  [[nodiscard]] ScoreRules from(std::size_t first) const noexcept {
    ScoreRules rules = *this;
    std::copy(slopes + first, slopes + max_group, rules.slopes);
    std::copy(query_positions + first, query_positions + max_group, rules.query_positions);
    return rules;
  }

  /// Whether some query sees some token at positions first..last.
  [[nodiscard]] bool reach(std::size_t queries, std::int64_t last) const noexcept {
    if (sliding_window == 0) return true;
    for (std::size_t q = 0; q < queries; ++q) {
      if (query_positions[q] - last < static_cast<std::int64_t>(sliding_window)) return true;
    }
    return false;
  }

  /// scores[q·stride + t] for slots t < `slots`; position(t) of each, index(t) among the sequence's tokens.
  template <class Position, class Index>
  void apply(float* scores, std::size_t stride, std::size_t queries, std::size_t slots, const Position& position,
             const Index& index) const noexcept {
    for (std::size_t q = 0; q < queries; ++q) {
      float* line = scores + q * stride;
      if (soft_cap != 0) {
        for (std::size_t t = 0; t < slots; ++t) line[t] = soft_cap * std::tanh(line[t] / soft_cap);
      }
      if (linear) {
        for (std::size_t t = 0; t < slots; ++t) {
          line[t] += slopes[q] * static_cast<float>(position(t) - query_positions[q]);
        }
      }
      if (!bias.empty()) {
        for (std::size_t t = 0; t < slots; ++t) line[t] += bias[index(t)];
      }
      if (sliding_window != 0) {
        const auto window = static_cast<std::int64_t>(sliding_window);
        for (std::size_t t = 0; t < slots; ++t) {
          if (query_positions[q] - position(t) >= window) line[t] = unseen_score;
        }
      }
    }
  }
};

/// Erased tokens among `slots` slots of blocks are not seen; dead[b] as in BlockStretch.
inline void hide_dead(const std::uint32_t* dead, std::size_t slots, float* scores, std::size_t stride,
                      std::size_t queries) noexcept {
  for (std::size_t first = 0; first < slots; first += block_tokens) {
    for (std::uint32_t bits = dead[first / block_tokens]; bits != 0; bits &= bits - 1) {
      const std::size_t slot = first + static_cast<std::size_t>(std::countr_zero(bits));
      if (slot >= slots) break;
      for (std::size_t q = 0; q < queries; ++q) scores[q * stride + slot] = unseen_score;
    }
  }
}

/// The tokens of `slots` slots that are left.
[[nodiscard]] inline std::size_t count_live(const std::uint32_t* dead, std::size_t slots) noexcept {
  std::size_t count = 0;
  for (std::size_t first = 0; first < slots; first += block_tokens) {
    const std::size_t size = slots - first < block_tokens ? slots - first : block_tokens;
    count += static_cast<std::size_t>(std::popcount(~dead[first / block_tokens] & (~0u >> (block_tokens - size))));
  }
  return count;
}

}  // namespace pqkv::inline PQKV_ABI
