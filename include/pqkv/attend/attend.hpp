// attend: queries × one head's cache → outputs, straight on the compressed bytes. Layer 5.
//
//   queries ─ prepare ─► QueryTable ─ turn(run) ─ score(tile) ─► scores ─ online softmax ─► weights ─ add(tile) ─► sum
//
// Exact windows come first: they hold the largest weights, so that the running maximum is near its end early.
// Owns no thread; allocates nothing once the workspace has seen the group size.
#pragma once

#include <cmath>
#include <cstring>
#include <optional>
#include <span>

#include "pqkv/attend/attend_cache.hpp"

namespace pqkv::inline PQKV_ABI {

struct AttendOptions {
  /// Multiplies q · k before the softmax; 0 means 1/√dim.
  float scale = 0;
  /// Blocks of values in which every weight is below this share of the largest weight seen so far are not read (0: all
  /// are); windows come first, so that the largest is near its end early. Nor are the keys of a run whose table bounds all
  /// of its scores that low (Bounded). With skipped mass ε the output moves by at most 2·ε·max‖value‖, and ε is at most
  /// skip_below times the number of tokens.
  float skip_below = 0;
  /// Tokens beyond `recent` that wait for their block (up to 31) are read through codes too, encoded for each call. For
  /// measuring what codes do when nothing but sinks and `recent` tokens may be exact; slow.
  bool code_waiting = false;
};

struct AttendResult {
  /// The share of the softmax mass that was skipped, the largest over the queries: exact for blocks, an upper bound for
  /// runs that only their table was asked about.
  float skipped_mass = 0;
};

namespace detail {

inline void copy_scaled(RowsBuffer& out, FloatRows queries, float scale) noexcept {
  out.shape(queries.count, queries.dim);
  for (std::size_t q = 0; q < queries.count; ++q) {
    for (std::size_t d = 0; d < queries.dim; ++d) out.row(q)[d] = queries.row(q)[d] * scale;
  }
}

[[nodiscard]] inline float scale_of(const AttendOptions& options, std::size_t dim) noexcept {
  return options.scale != 0 ? options.scale : 1.0f / std::sqrt(static_cast<float>(dim));
}

/// Scores of blocks that lie one behind the other, softmax, weighted values.
template <KeyPolicy K, ValuePolicy V>
void attend_blocks(const HeadCache<K, V>& head, Workspace<K, V>& workspace, BlockSpan keys, const std::byte* values,
                   float log_skip) {
  const std::size_t tile = workspace.scores.width();
  // On their way while the keys are scored; with skipping nobody knows yet which values will be read.
  if (log_skip > 0) prefetch_head(values, keys.blocks() * head.values().block_bytes());
  head.keys().score(workspace.table, keys, workspace.scores.data(), tile);
  attend_tile(workspace.partial, head.values(), workspace.sum, {values, keys.tokens}, workspace.scores.data(), tile,
              log_skip);
}

/// The oldest `count` tokens of the recent window as the block that they would become.
template <KeyPolicy K, ValuePolicy V>
void attend_waiting(const HeadCache<K, V>& head, Workspace<K, V>& workspace, std::size_t count, float log_skip) {
  const ExactWindow& recent = head.recent();
  const std::size_t key_bytes = head.keys().block_bytes();
  if (!workspace.waiting.grow(key_bytes + head.values().block_bytes())) __builtin_trap();
  workspace.aged.shape(count, head.dim());
  const FloatRows rows(workspace.aged.data(), count, head.dim());
  recent.rows().load(recent.keys(), count * head.dim(), workspace.aged.data());
  const RunPlace place = head.next_place(count);
  head.keys().encode(rows, place, workspace.waiting.data());
  recent.rows().load(recent.values(), count * head.dim(), workspace.aged.data());
  head.values().encode(rows, workspace.waiting.data() + key_bytes);
  head.keys().turn(workspace.table, place.origin);
  attend_blocks(head, workspace, {workspace.waiting.data(), count, place.offset}, workspace.waiting.data() + key_bytes, log_skip);
}

/// Whether no key of the run can matter, as the table alone says: then the tokens count as skipped.
template <KeyPolicy K>
[[nodiscard]] bool skip_range(const K& keys, const typename K::QueryTable& table, Partial& partial, std::size_t tokens,
                              float log_skip) noexcept {
  if constexpr (Bounded<K>) {
    float bounds[max_group];
    keys.bound(table, bounds);
    for (std::size_t q = 0; q < partial.queries(); ++q) {
      if (partial.empty(q) || bounds[q] - partial.largest(q) >= log_skip) return false;
    }
    for (std::size_t q = 0; q < partial.queries(); ++q) {
      partial.add_skipped(q, static_cast<float>(tokens) * std::exp(bounds[q] - partial.largest(q)));
    }
    return true;
  }
  return false;
}

/// One of `count` shares of a head's tokens, for workers that share a head. The first has the exact windows.
struct Share {
  std::size_t index = 0;
  std::size_t count = 1;
};

/// A share of the cache of a head for the scaled queries in the workspace; fills workspace.partial.
template <KeyPolicy K, ValuePolicy V>
void attend_cache(const HeadCache<K, V>& head, Workspace<K, V>& workspace, const AttendOptions& options, Share share = {}) {
  const std::size_t count = workspace.queries.count();
  const std::size_t tile = tile_tokens(count);
  Partial& partial = workspace.partial;
  partial.reset(count, head.dim());
  workspace.scores.shape(count, tile);
  const std::size_t beyond = head.recent().tokens() - std::min(head.recent().tokens(), head.options().recent);
  const std::size_t waiting = options.code_waiting && share.index == 0 ? beyond : 0;
  if (share.index == 0) {
    for (const auto& [window, first] : {std::pair{&head.sinks(), std::size_t{0}}, {&head.recent(), waiting}}) {
      const std::size_t offset = first * window->rows().row_bytes();
      std::size_t visible[max_group];
      std::fill_n(visible, count, window->tokens() - first);
      attend_exact(partial, window->rows(), window->keys() + offset, window->values() + offset, window->tokens() - first,
                   workspace.queries.data(), visible, workspace.scores.data());
    }
  }
  if (head.runs().empty() && waiting == 0) return;
  const float log_skip = options.skip_below > 0 ? std::min(std::log(options.skip_below), 0.0f) : 1.0f;
  head.keys().prepare(workspace.table, {workspace.queries.data(), count, head.dim()});
  head.values().begin(workspace.sum, count);
  std::size_t sealed = 0;
  for (const Run& run : head.runs()) sealed += run.tokens;
  // Where a share begins inside a run that has `before` tokens before it: whole blocks, the same for both neighbours.
  const auto border = [&](std::size_t index, const Run& run, std::size_t before) {
    const std::size_t token = index == share.count ? sealed : sealed / share.count * index;
    if (token <= before) return std::size_t{0};
    return std::min(run.tokens, (token - before + block_tokens - 1) / block_tokens * block_tokens);
  };
  std::size_t before = 0;
  for (const Run& run : head.runs()) {
    std::size_t done = border(share.index, run, before);
    const std::size_t end = border(share.index + 1, run, before);
    before += run.tokens;
    if (done == end) continue;
    head.keys().turn(workspace.table, run.origin);
    if (log_skip <= 0 && skip_range(head.keys(), workspace.table, partial, end - done, log_skip)) continue;
    while (done < end) {
      const std::size_t block = run.first_block + done / block_tokens;
      const std::size_t tokens = std::min({tile, end - done, head.store().contiguous(block) * block_tokens});
      attend_blocks(head, workspace, {head.store().key_block(block), tokens, done},
                    head.store().value_block(block), log_skip);
      done += tokens;
    }
  }
  if (waiting != 0) attend_waiting(head, workspace, waiting, log_skip);
  head.values().finish(workspace.sum, partial.out(), head.dim());
}

}  // namespace detail

/// Attention of a group of 1..16 queries [queries.count × dim] that share this kv head, over all its tokens, as a Partial
/// to be merged with attention over other tokens; sink logits are left out (add_sink_logits). Valid until the workspace's
/// next use.
template <KeyPolicy K, ValuePolicy V>
const Partial& attend_partial(const HeadCache<K, V>& head, FloatRows queries, Workspace<K, V>& workspace,
                              const AttendOptions& options = {}) {
  PQKV_EXPECTS(queries.count >= 1 && queries.count <= max_group && queries.dim == head.dim());
  detail::copy_scaled(workspace.queries, queries, detail::scale_of(options, head.dim()));
  detail::attend_cache(head, workspace, options, detail::rules_of(options, queries.count, head.next_position()));
  return workspace.partial;
}

/// The same, written out: outs[q·stride + d]; zeros when the cache is empty. Where options name query heads, they mean
/// these queries.
template <KeyPolicy K, ValuePolicy V>
AttendResult attend(const HeadCache<K, V>& head, FloatRows queries, float* outs, std::size_t stride,
                    Workspace<K, V>& workspace, const AttendOptions& options = {}) {
  attend_partial(head, queries, workspace, options);
  add_sink_logits(workspace.partial, options.sink_logits);
  workspace.partial.write(outs, stride);
  return {workspace.partial.skipped_mass()};
}

}  // namespace pqkv::inline PQKV_ABI
