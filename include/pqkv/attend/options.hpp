// AttendOptions: how scores become weights. Layer 5.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "pqkv/attend/partial.hpp"
#include "pqkv/attend/score_rules.hpp"
#include "pqkv/base/expects.hpp"

namespace pqkv::inline PQKV_ABI {

/// A score is q · k · scale, then soft-capped, then biased (linearly, by token), then hidden if out of the window.
struct AttendOptions {
  /// Multiplies q · k before the softmax; 0 means 1/√dim.
  float scale = 0;
  /// Blocks of 32 values whose weights are on average below this share of the largest weight seen so far are not read (0: all
  /// are; a block that weighs as much as the largest weight is always); windows come first, so that the largest is near its
  /// end early. Nor are the keys of a run whose table bounds all of its scores that low (Bounded; where no rule below changes
  /// scores). With skipped mass ε the output moves by at most 2·ε·max‖value‖, and ε is at most skip_below times the number
  /// of tokens (slots of erased tokens in blocks that are still held included).
  float skip_below = 0;
  /// Tokens beyond `recent` that wait for their block (up to 31) are read through codes too, encoded for each call. For
  /// measuring what codes do when nothing but sinks and `recent` tokens may be exact; slow.
  bool code_waiting = false;
  /// score ← cap · tanh(score / cap) (Gemma 2); 0: none.
  float soft_cap = 0;
  /// A query sees the tokens less than this many positions before it, its own included (Mistral); 0: all.
  std::size_t sliding_window = 0;
  /// One per query head: takes part in the softmax as the score of a token whose value is zero (GPT-OSS). Empty: none.
  std::span<const float> sink_logits = {};
  /// One per query head: score += slope · (key position − query position) (Press et al.: ALiBi, 2022). Empty: none.
  std::span<const float> alibi_slopes = {};
  /// Added to the scores of each token, by its index; −1e30 hides it. As long as the cache has tokens (in extend: and the
  /// chunk). Empty: none.
  std::span<const float> bias = {};
  /// The position of the queries (in extend: of the first token of the chunk). Unless given: attend asks for the newest
  /// position of the cache, extend goes on behind it.
  std::optional<std::int64_t> query_position = {};

  /// The options as query heads first … first + count − 1 see them.
  [[nodiscard]] AttendOptions of_heads(std::size_t first, std::size_t count) const noexcept {
    AttendOptions part = *this;
    if (!sink_logits.empty()) part.sink_logits = sink_logits.subspan(first, count);
    if (!alibi_slopes.empty()) part.alibi_slopes = alibi_slopes.subspan(first, count);
    return part;
  }
};

namespace detail {

[[nodiscard]] inline float scale_of(const AttendOptions& options, std::size_t dim) noexcept {
  return options.scale != 0 ? options.scale : 1.0f / std::sqrt(static_cast<float>(dim));
}

/// The rules for `queries` queries at one position, the last before `next_position` unless the options say otherwise.
[[nodiscard]] inline ScoreRules rules_of(const AttendOptions& options, std::size_t queries, std::int64_t next_position) noexcept {
  ScoreRules rules;
  rules.soft_cap = options.soft_cap;
  rules.sliding_window = options.sliding_window;
  rules.bias = options.bias;
  rules.linear = !options.alibi_slopes.empty();
  PQKV_EXPECTS(!rules.linear || options.alibi_slopes.size() >= queries);
  if (rules.linear) std::copy_n(options.alibi_slopes.begin(), queries, rules.slopes);
  std::fill_n(rules.query_positions, queries, options.query_position.value_or(next_position - 1));
  return rules;
}

}  // namespace detail

/// Each query's sink logit joins the softmax: a token whose value is zero. Query q has logits[q mod logits.size()].
inline void add_sink_logits(Partial& partial, std::span<const float> logits) noexcept {
  if (logits.empty()) return;
  float factors[max_group] = {};
  for (std::size_t q = 0; q < partial.queries(); ++q) {
    const float logit = logits[q % logits.size()];
    factors[q] = partial.raise(q, logit);
    partial.add_sum(q, std::exp(logit - partial.largest(q)));
  }
  partial.rescale_out(factors);
}

}  // namespace pqkv::inline PQKV_ABI
