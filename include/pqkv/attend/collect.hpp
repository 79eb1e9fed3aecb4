// Collecting saliency: the attention that the tokens of the next block get from the queries behind them, for value formats that
// give more bits to tokens that matter (SaliencyAware; values/heavy.hpp). Layer 5. For other formats nothing is collected.
//
//   recent window: | tokens of the next block | tokens behind it |        weights of the right's queries for the left's tokens
//
// Queries inside the block count for nothing: they see its tokens from up close, the first of them more often than the last,
// which says little about queries to come. So a block is sealed with what recent − 1 queries thought of it (CacheOptions); below a
// recent of about 16 there is not much to be known.
//
// attend only reads the cache, on many threads at once if wanted. Collecting changes it, and is therefore a call of its own
// name; extend, which changes the cache anyway, always collects. Outputs are the same with and without. The weights come from
// another product with at most 32 keys, and the largest score and sum that attention has found.
#pragma once

#include "pqkv/attend/attend.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// seen[t] += what `count` queries, the partial's from `first` on, give to up to 32 exact keys; the partial is over all that they
/// see. `queries` are scaled, adjust(scores) applies the rules to scores[q·32 + t].
template <class Adjust>
void add_weights(const Partial& partial, std::size_t first, std::size_t count, const float* queries, const ExactRows& rows,
                 const std::byte* keys, std::size_t tokens, const Adjust& adjust, float* seen) noexcept {
  float scores[max_group * block_tokens];
  rows.dot(keys, tokens, queries, count, scores, block_tokens);
  adjust(scores);
  for (std::size_t q = 0; q < count; ++q) {
    const float sum = partial.sum(first + q);
    if (sum <= 0) continue;
    float* line = scores + q * block_tokens;
    isa::best().exponential(line, tokens, partial.largest(first + q));
    for (std::size_t t = 0; t < tokens; ++t) seen[t] += std::min(line[t] / sum, 1.0f);  // coded, it may have weighed less
  }
}

/// What the workspace's queries from `first` on give to tokens begin … end − 1 of the recent window, at most 32 of them.
template <KeyPolicy K, ValuePolicy V>
void collect_in_window(HeadCache<K, V>& head, Workspace<K, V>& workspace, const Partial& partial, std::size_t first,
                       std::size_t count, std::size_t begin, std::size_t end, const ScoreRules& rules) noexcept {
  const ExactWindow& window = head.recent();
  const std::size_t behind_sealed = head.sinks().tokens() + head.sealed_tokens();
  for (std::size_t size = 0; begin < end; begin += size) {
    size = std::min(window.moved_alike(begin), end - begin);
    const float* queries = turned_queries(head, workspace, window.shift_of(begin)) + first * head.dim();
    float seen[block_tokens] = {};
    add_weights(partial, first, count, queries, window.rows(), window.keys() + begin * window.rows().row_bytes(), size,
                [&](float* scores) {
                  if (!rules.any()) return;
                  rules.apply(scores, block_tokens, count, size, [&](std::size_t t) { return window.position(begin + t); },
                              [&](std::size_t t) { return behind_sealed + begin + t; });
                },
                seen);
    for (std::size_t t = 0; t < size; ++t) head.add_saliency(begin + t, seen[t]);
  }
}

/// A decoding step: the newest token's queries, whose attention to the whole cache is `partial`, sink logits included.
template <KeyPolicy K, ValuePolicy V>
void collect_step(HeadCache<K, V>& head, FloatRows queries, const Partial& partial, Workspace<K, V>& workspace,
                  const AttendOptions& options) noexcept {
  if (!head.wants_saliency() || head.recent().tokens() <= head.seal_tokens()) return;
  copy_scaled(workspace.queries, queries, scale_of(options, head.dim()));
  collect_in_window(head, workspace, partial, 0, queries.count, 0, head.seal_tokens(),
                    rules_of(options, queries.count, head.next_position()));
}

/// What a chunk of prompt thinks of the tokens that are to be blocks: those of the recent window, and its own. The window is
/// counted on as if the chunk had come token by token, so that blocks are sealed with the same knowledge.
template <KeyPolicy K, ValuePolicy V>
class ChunkSaliency {
 public:
  /// `keys`: the chunk's, [tokens × dim] floats, the first at `position`.
  ChunkSaliency(HeadCache<K, V>& head, Workspace<K, V>& workspace, const float* keys, std::size_t tokens, std::int64_t position)
      : head_(head), workspace_(workspace), keys_(keys), position_(position), held_(head.recent().tokens()) {
    if (!head.wants_saliency()) return;
    workspace.seen.shape(1, tokens);
    workspace.seen.fill(0);
    if (held_ + head.sealed_tokens() != 0) return;
    sinks_ = std::min(tokens, head.options().sinks - std::min(head.sinks().tokens(), head.options().sinks));
  }

  /// The queries of token `token` of the chunk: `count` of the workspace's, from `first` on, with those rules.
  void add(std::size_t token, std::size_t first, std::size_t count, const ScoreRules& rules) noexcept {
    if (!head_.wants_saliency() || token < sinks_) return;
    const std::size_t block = head_.seal_tokens(), recent = head_.options().recent;
    const std::size_t tokens = held_ + token - sinks_ + 1;  // in the window, with those that have left it for a block by now
    const std::size_t begin = tokens < recent ? 0 : (tokens - recent) / block * block, end = begin + block;
    if (tokens <= end) return;
    const ScoreRules mine = rules.from(first);
    const Partial& partial = workspace_.partial;
    collect_in_window(head_, workspace_, partial, first, count, begin, std::min(end, held_), mine);
    if (end <= held_) return;
    const std::size_t own = sinks_ + std::max(begin, held_) - held_, size = end - std::max(begin, held_);
    const ExactRows rows{head_.dim(), ScalarType::f32};
    add_weights(partial, first, count, workspace_.queries.row(first), rows,
                reinterpret_cast<const std::byte*>(keys_ + own * rows.dim), size,
                [&](float* scores) {
                  if (!mine.any()) return;
                  mine.apply(scores, block_tokens, count, size,
                             [&](std::size_t t) { return position_ + static_cast<std::int64_t>(own + t); },
                             [&](std::size_t t) { return head_.tokens() + own + t; });
                },
                workspace_.seen.data() + own);
  }

  /// Of each token of the chunk; empty where the format does not ask.
  [[nodiscard]] std::span<const float> seen() const noexcept {
    if (!head_.wants_saliency()) return {};
    return {workspace_.seen.data(), workspace_.seen.width()};
  }

 private:
  HeadCache<K, V>& head_;
  Workspace<K, V>& workspace_;
  const float* keys_;
  std::int64_t position_;
  std::size_t held_;       // tokens of the window before the chunk
  std::size_t sinks_ = 0;  // first tokens of the chunk, which stay exact for ever
};

}  // namespace detail

/// attend by the queries of the newest token, already appended; the tokens that will be the next block learn what these thought
/// of them. To be called in place of attend, once per step.
template <KeyPolicy K, ValuePolicy V>
AttendResult attend_and_collect(HeadCache<K, V>& head, FloatRows queries, float* outs, std::size_t stride,
                                Workspace<K, V>& workspace, const AttendOptions& options = {}) {
  const AttendResult result = attend(head, queries, outs, stride, workspace, options);
  detail::collect_step(head, queries, workspace.partial, workspace, options);
  return result;
}

}  // namespace pqkv::inline PQKV_ABI
