// token_weights: the weight that each token of a head would get, for who wants to look (retention, analysis). Layer 5.
// A pass of its own over the keys, through the same tables as attend: attention itself pays nothing for being observed.
#pragma once

#include <vector>

#include "pqkv/attend/attend_cache.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// scores[q·stride + i] = (scaled) query q · key of token i, without rules.
template <KeyPolicy K, ValuePolicy V>
void raw_scores(const HeadCache<K, V>& head, float* scores, std::size_t stride, Workspace<K, V>& workspace) {
  const std::size_t count = workspace.queries.count();
  const std::size_t tile = tile_tokens(count);
  workspace.scores.shape(count, tile);
  std::size_t token = 0;
  const auto window_scores = [&](const ExactWindow& window) {
    for (std::size_t first = 0, size = 0; first < window.tokens(); first += size, token += size) {
      size = window.moved_alike(first);
      window.rows().dot(window.keys() + first * window.rows().row_bytes(), size,
                        turned_queries(head, workspace, window.shift_of(first)), count, scores + token, stride);
    }
  };
  window_scores(head.sinks());
  const Run* turned = nullptr;  // the run that the table was last turned for
  for (const Run& run : head.runs()) {
    turn_table(head, workspace, turned, run);
    turned = &run;
    const SlotPositions position = head.sequence().sealed.positions_of(run);
    for (std::size_t done = 0; done < run.tokens;) {
      const BlockStretch stretch = head.store().stretch(run.first_block + done / block_tokens);
      const std::size_t slots = std::min({tile, run.tokens - done, stretch.blocks * block_tokens});
      BlockSpan keys = {stretch.keys, slots, run.offset + done, position.from(done).list()};
      keys.ahead = static_cast<std::ptrdiff_t>(keys.blocks() * head.keys().block_bytes());
      head.keys().score(workspace.table, keys, workspace.scores.data(), tile);
      for (std::size_t slot = 0; slot < slots; ++slot) {
        if (run.has_holes() && (stretch.dead[slot / block_tokens] >> slot % block_tokens & 1u) != 0) continue;
        for (std::size_t q = 0; q < count; ++q) scores[q * stride + token] = *(workspace.scores.row(q) + slot);
        ++token;
      }
      done += slots;
    }
  }
  window_scores(head.recent());
}

}  // namespace detail

/// scores[q·stride + i], before the softmax, of 1..16 queries [queries.count × dim] for every token i < head.tokens(), as
/// attend would see them: scaled, capped, biased; unseen_score for tokens out of the window. Where the options name a query
/// position, tokens behind it are not seen either (causal). stride ≥ head.tokens().
template <KeyPolicy K, ValuePolicy V>
void token_scores(const HeadCache<K, V>& head, FloatRows queries, float* scores, std::size_t stride, Workspace<K, V>& workspace,
                  const AttendOptions& options = {}) {
  const std::size_t tokens = head.tokens();
  PQKV_EXPECTS(queries.count >= 1 && queries.count <= max_group && queries.dim == head.dim() && stride >= tokens);
  PQKV_EXPECTS(options.bias.empty() || options.bias.size() >= tokens);
  detail::copy_scaled(workspace.queries, queries, detail::scale_of(options, head.dim()));
  detail::raw_scores(head, scores, stride, workspace);
  const ScoreRules rules = detail::rules_of(options, queries.count, head.next_position());
  if (!rules.any() && !options.query_position) return;
  std::vector<std::int64_t> positions(tokens);
  head.sequence().positions(positions.data());
  rules.apply(scores, stride, queries.count, tokens, [&](std::size_t t) { return positions[t]; },
              [](std::size_t t) { return t; });
  if (!options.query_position) return;
  for (std::size_t t = 0; t < tokens; ++t) {
    if (positions[t] <= *options.query_position) continue;
    for (std::size_t q = 0; q < queries.count; ++q) scores[q * stride + t] = unseen_score;
  }
}

/// The same after the softmax: weights[q·stride + i] ≥ 0 sum to 1 for each query that sees a token (less the weight of its
/// sink logit), and are all 0 for one that sees none.
template <KeyPolicy K, ValuePolicy V>
void token_weights(const HeadCache<K, V>& head, FloatRows queries, float* weights, std::size_t stride,
                   Workspace<K, V>& workspace, const AttendOptions& options = {}) {
  token_scores(head, queries, weights, stride, workspace, options);
  const std::size_t tokens = head.tokens();
  if (tokens == 0) return;
  for (std::size_t q = 0; q < queries.count; ++q) {
    float* line = weights + q * stride;
    const float* sink = options.sink_logits.empty() ? nullptr : &options.sink_logits[q % options.sink_logits.size()];
    float most = *std::max_element(line, line + tokens);
    if (!is_seen(most)) {
      std::fill_n(line, tokens, 0.0f);
      continue;
    }
    if (sink != nullptr) most = std::max(most, *sink);
    const float sum = isa::best().exponential(line, tokens, most) + (sink != nullptr ? std::exp(*sink - most) : 0.0f);
    for (std::size_t t = 0; t < tokens; ++t) line[t] /= sum;
  }
}

}  // namespace pqkv::inline PQKV_ABI
