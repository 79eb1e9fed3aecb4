// Policies that judge a token by the attention that it got: AccumulatedAttention (H2O), ObservationWindow (SnapKV), and
// Chunked (ChunkKV) around any policy. Layer 6.
#pragma once

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "pqkv/retention/retention_policy.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

PQKV_WHEN_CALLED [[nodiscard]] Status check_observed(const RankedTokens& tokens, std::string_view policy) {
  if (!tokens.record().empty() || tokens.count() == 0) return {};
  return Error{Errc::invalid_parameter, message(policy, " ranks by observed weights, and there is no record of any")};
}

}  // namespace detail

/// score = Σ of all weights that the token got since it was appended (Zhang et al.: H2O, Heavy-Hitter Oracle, 2023). Show
/// every query to Retainer::observe. In the paper one half of the budget is for the newest tokens: Protection::recent.
struct AccumulatedAttention {
  [[nodiscard]] std::string describe() const { return "h2o"; }
  [[nodiscard]] float observed(float record, float weight) const noexcept { return record + weight; }
  [[nodiscard]] Status rank(const RankedTokens& tokens, std::span<float> scores) const {
    if (Status status = detail::check_observed(tokens, "h2o"); !status) return status;
    std::copy(tokens.record().begin(), tokens.record().end(), scores.begin());
    return {};
  }
};

/// score = the weights that the last queries of the prompt, an observation window, give to the token, summed over window and
/// group, then pooled over `pool` neighbours, which keeps what stands beside what is looked at (Li et al.: SnapKV, 2024; there
/// every query head chooses for itself, here those that share a kv head choose together).
/// Show only the window's queries to Retainer::observe. The window's own tokens stay and are pooled with nothing;
/// the mean counts neighbours beyond either end as 0.
struct ObservationWindow {
  enum class Pooling { mean, maximum };
  std::size_t window = 32;  ///< newest tokens that observe
  std::size_t pool = 5;     ///< odd; 1: none
  Pooling pooling = Pooling::mean;

  [[nodiscard]] std::string describe() const { return message("snapkv:window=", window, ":pool=", pool); }
  [[nodiscard]] float observed(float record, float weight) const noexcept { return record + weight; }
  [[nodiscard]] Status rank(const RankedTokens& tokens, std::span<float> scores) const {
    if (Status status = detail::check_observed(tokens, "snapkv"); !status) return status;
    if (pool % 2 == 0) return Error{Errc::invalid_parameter, message("pooling over ", pool, " tokens; an odd number is needed")};
    const std::size_t before = tokens.count() - std::min(window, tokens.count());
    const std::span<const float> record = tokens.record().first(before);
    float largest = 0;
    for (std::size_t i = 0; i < before; ++i) {
      const std::size_t first = i - std::min(i, pool / 2);
      const std::size_t end = std::min(before, i + pool / 2 + 1);
      float sum = 0;
      float most = record[first];
      for (std::size_t j = first; j < end; ++j) {
        sum += record[j];
        most = std::max(most, record[j]);
      }
      scores[i] = pooling == Pooling::mean ? sum / static_cast<float>(pool) : most;
      largest = std::max(largest, scores[i]);
    }
    std::fill(scores.begin() + static_cast<std::ptrdiff_t>(before), scores.end(), largest + 1);
    return {};
  }
};

/// Another policy's scores, but chunks of `size` neighbours stay or go together, by their mean score: for whole chunks the
/// same order as by their sum (Liu et al.: ChunkKV, 2025: observation-window scores without pooling, chunks of 10; there the
/// heads of a layer choose together).
template <RetentionPolicy P>
struct Chunked {
  P inner;
  std::size_t size = 10;

  [[nodiscard]] std::string describe() const { return message("chunk=", size, ":", inner.describe()); }
  [[nodiscard]] std::size_t chunk() const noexcept { return size; }
  [[nodiscard]] Status rank(const RankedTokens& tokens, std::span<float> scores) const { return inner.rank(tokens, scores); }
  [[nodiscard]] float score_row(const float* key, const float* value, std::size_t dim) const noexcept
    requires ScoresRows<P>
  {
    return inner.score_row(key, value, dim);
  }
  [[nodiscard]] float observed(float record, float weight) const noexcept
    requires ObservesWeights<P>
  {
    return inner.observed(record, weight);
  }
};

static_assert(ObservesWeights<AccumulatedAttention> && ObservesWeights<ObservationWindow>);
static_assert(ObservesWeights<Chunked<ObservationWindow>> && KeepsChunks<Chunked<ObservationWindow>>);

}  // namespace pqkv::inline PQKV_ABI
