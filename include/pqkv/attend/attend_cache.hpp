// The whole cache of a head for a group of queries: exact windows, then runs of blocks, tile by tile. Layer 5.
// Tokens that were moved since they were stored are scored by queries turned back by as much: q · R(s)·k = R(−s)·q · k.
#pragma once

#include <cmath>
#include <cstring>

#include "pqkv/attend/options.hpp"
#include "pqkv/attend/workspace.hpp"

namespace pqkv::inline PQKV_ABI::detail {

inline void copy_scaled(RowsBuffer& out, FloatRows queries, float scale) noexcept {
  out.shape(queries.count, queries.dim);
  for (std::size_t q = 0; q < queries.count; ++q) {
    for (std::size_t d = 0; d < queries.dim; ++d) out.row(q)[d] = queries.row(q)[d] * scale;
  }
}

/// The workspace's queries for tokens that were moved by `shift`; valid until the next call.
template <KeyPolicy K, ValuePolicy V>
const float* turned_queries(const HeadCache<K, V>& head, Workspace<K, V>& workspace, std::int64_t shift) noexcept {
  const Rope* rope = head.options().rope.get();
  if (shift == 0 || rope == nullptr || rope->pairs() == 0) return workspace.queries.data();
  const std::size_t count = workspace.queries.count();
  workspace.turned.shape(count, head.dim());
  workspace.angles.shape(2, rope->pairs());
  rope->angles(-static_cast<double>(shift), workspace.angles.row(0), workspace.angles.row(1));
  std::memcpy(workspace.turned.data(), workspace.queries.data(), count * head.dim() * sizeof(float));
  for (std::size_t q = 0; q < count; ++q) {
    rope->turn(workspace.angles.row(0), workspace.angles.row(1), workspace.turned.row(q));
  }
  return workspace.turned.data();
}

/// Exact rows from `first` on, whose first has index `token` in the sequence.
template <KeyPolicy K, ValuePolicy V>
void attend_window(const HeadCache<K, V>& head, Workspace<K, V>& workspace, const ExactWindow& window, std::size_t first,
                   std::size_t token, const ScoreRules& rules) noexcept {
  const std::size_t count = workspace.queries.count();
  for (std::size_t size = 0; first < window.tokens(); first += size, token += size) {
    size = window.moved_alike(first);
    const std::size_t offset = first * window.rows().row_bytes();
    std::size_t visible[max_group];
    std::fill_n(visible, count, size);
    const float* queries = turned_queries(head, workspace, window.shift_of(first));
    const auto attend_rows = [&](const auto& adjust) {
      attend_exact(workspace.partial, window.rows(), window.keys() + offset, window.values() + offset, size, queries,
                   visible, workspace.scores.data(), adjust);
    };
    if (!rules.any()) {
      attend_rows(NoAdjustment{});
      continue;
    }
    attend_rows([&](std::size_t row, std::size_t rows, float* scores, std::size_t stride) {
      rules.apply(scores, stride, count, rows, [&](std::size_t t) { return window.position(first + row + t); },
                  [&](std::size_t t) { return token + row + t; });
    });
  }
}

/// Scores of some blocks of a run, softmax, weighted values. `dead` is null where no token is erased; the first slot's token
/// has index `token`.
template <KeyPolicy K, ValuePolicy V>
void attend_blocks(const HeadCache<K, V>& head, Workspace<K, V>& workspace, BlockSpan keys, const std::byte* values,
                   const std::uint32_t* dead, const SlotPositions& position, std::size_t token, const ScoreRules& rules,
                   float skip_below) {
  const std::size_t tile = workspace.scores.width();
  const std::size_t count = workspace.queries.count();
  float* scores = workspace.scores.data();
  head.keys().score(workspace.table, keys, scores, tile);
  if (rules.any()) {
    // Erased slots before a token do not count in its index; slots come in order.
    std::size_t slot = 0;
    std::size_t index = token;
    const auto index_of = [&](std::size_t t) {
      if (dead == nullptr) return token + t;
      if (t == 0) slot = 0, index = token;
      for (; slot < t; ++slot) index += (dead[slot / block_tokens] >> slot % block_tokens & 1u) == 0 ? 1 : 0;
      return std::min(index, rules.bias.size() - 1);  // an erased slot may lie behind the last token
    };
    if (position.list() != nullptr) {
      rules.apply(scores, tile, count, keys.tokens, position, index_of);
    } else {
      rules.apply(scores, tile, count, keys.tokens,
                  [first = position(0)](std::size_t t) { return first + static_cast<std::int64_t>(t); }, index_of);
    }
  }
  if (dead != nullptr) hide_dead(dead, keys.tokens, scores, tile, count);
  attend_tile(workspace.partial, head.values(), workspace.sum, workspace.late, {values, keys.tokens}, scores, tile, skip_below);
}

/// The oldest `count` tokens of the recent window as the block that they would become.
template <KeyPolicy K, ValuePolicy V>
void attend_waiting(const HeadCache<K, V>& head, Workspace<K, V>& workspace, std::size_t count, std::size_t token,
                    const ScoreRules& rules, float skip_below) {
  const ExactWindow& recent = head.recent();
  const std::size_t key_bytes = head.keys().block_bytes();
  if (!workspace.waiting.grow(key_bytes + head.values().block_bytes())) __builtin_trap();
  // Where a block's tokens vie for bits, those that will be in it, too, so that the few that wait do not have all to themselves.
  const std::size_t rivals = head.wants_saliency() ? std::min(head.seal_tokens(), recent.tokens()) : count;
  workspace.aged.shape(rivals, head.dim());
  const FloatRows rows(workspace.aged.data(), rivals, head.dim());
  const RunPlace place = head.next_place(count);
  for (std::size_t i = 0; i < count; ++i) recent.key(i, head.options().rope.get(), workspace.aged.row(i));
  head.keys().encode(rows.slice(0, count), place, workspace.waiting.data());
  for (std::size_t i = 0; i < rivals; ++i) recent.value(i, workspace.aged.row(i));
  float saliency[block_tokens];
  recent.saliency_in_slots(rivals, ~0u, saliency);
  encode_values(head.values(), rows, saliency, workspace.waiting.data() + key_bytes);
  head.keys().prepare(workspace.table, {workspace.queries.data(), workspace.queries.count(), head.dim()});
  head.keys().turn(workspace.table, place.origin);
  attend_blocks(head, workspace, {workspace.waiting.data(), count, place.offset}, workspace.waiting.data() + key_bytes,
                nullptr, SlotPositions(recent.position(0)), token, rules, skip_below);
}

/// Whether no key of the run can matter, as the table alone says: then `tokens` tokens count as skipped.
template <KeyPolicy K>
[[nodiscard]] bool skip_range(const K& keys, const typename K::QueryTable& table, Partial& partial, std::size_t tokens,
                              float skip_below) noexcept {
  if constexpr (Bounded<K>) {
    const float log_skip = std::min(std::log(skip_below), 0.0f);
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

  /// Where share `index` of `all` slots begins inside a run that has `before` of them before it: whole blocks, the same
  /// for both neighbours.
  [[nodiscard]] std::size_t border(std::size_t share, std::size_t all, std::size_t before, std::size_t run_slots) const noexcept {
    const std::size_t slot = share == count ? all : all / count * share;
    if (slot <= before) return 0;
    return std::min(run_slots, (slot - before + block_tokens - 1) / block_tokens * block_tokens);
  }
};

/// Makes the table that of a run, where `last` is the run that it was for before (nullptr: none). Runs that were moved alike
/// share their queries.
template <KeyPolicy K, ValuePolicy V>
void turn_table(const HeadCache<K, V>& head, Workspace<K, V>& workspace, const Run* last, const Run& run) {
  const bool moved_alike = last != nullptr && last->shift == run.shift;
  if (!moved_alike) {
    head.keys().prepare(workspace.table, {turned_queries(head, workspace, run.shift), workspace.queries.count(), head.dim()});
  }
  if (!moved_alike || last->origin != run.origin) head.keys().turn(workspace.table, run.origin);
}

/// A share of all runs, whose first token has index `token`.
template <KeyPolicy K, ValuePolicy V>
void attend_runs(const HeadCache<K, V>& head, Workspace<K, V>& workspace, std::size_t token, const ScoreRules& rules,
                 float skip_below, Share share) {
  const std::size_t count = workspace.queries.count();
  const std::size_t tile = workspace.scores.width();
  std::size_t all = 0;
  for (const Run& run : head.runs()) all += run.tokens;
  std::size_t before = 0;
  std::size_t page = 0;         // where the last blocks were
  const Run* turned = nullptr;  // the run that the table was last turned for
  for (const Run& run : head.runs()) {
    const std::size_t begin = share.border(share.index, all, before, run.tokens);
    const std::size_t end = share.border(share.index + 1, all, before, run.tokens);
    before += run.tokens;
    const SlotPositions position = head.sequence().sealed.positions_of(run);
    if (begin == end || !rules.reach(count, position.latest(end - 1))) {
      token += run.live;
      continue;
    }
    turn_table(head, workspace, turned, run);
    turned = &run;
    // Rules change scores behind the table's back, so that its bound would say nothing.
    if (skip_below > 0 && !rules.any() && skip_range(head.keys(), workspace.table, workspace.partial, end - begin, skip_below)) {
      token += run.live;
      continue;
    }
    for (std::size_t done = 0; done < run.tokens;) {
      BlockStretch stretch = head.store().stretch(run.first_block + done / block_tokens, page);
      const std::size_t stop = std::min(run.tokens, done + stretch.blocks * block_tokens);
      while (done < stop) {
        const bool mine = done >= begin && done < end;
        const std::size_t limit = done < begin ? begin : mine ? end : run.tokens;
        const std::size_t slots = std::min({mine ? tile : stop, limit - done, stop - done});
        if (mine && rules.reach(count, position.latest(done + slots - 1))) {
          const SlotPositions from = position.from(done);
          const BlockStretch next = slots < stretch.blocks * block_tokens ? head.store().skip(stretch, slots / block_tokens)
                                                                          : head.store().behind(page);
          BlockSpan keys = {stretch.keys, slots, run.offset + done, from.list()};
          if (next.blocks != 0) keys.ahead = next.keys - stretch.keys;
          attend_blocks(head, workspace, keys, stretch.values,
                        run.has_holes() ? stretch.dead : nullptr, from, token, rules, skip_below);
        }
        token += run.has_holes() ? count_live(stretch.dead, slots) : slots;
        done += slots;
        stretch = head.store().skip(stretch, slots / block_tokens);
      }
    }
  }
}

/// A share of the cache of a head for the scaled queries in the workspace; fills workspace.partial.
template <KeyPolicy K, ValuePolicy V>
void attend_cache(const HeadCache<K, V>& head, Workspace<K, V>& workspace, const AttendOptions& options, const ScoreRules& rules,
                  Share share = {}) {
  PQKV_EXPECTS(options.bias.empty() || options.bias.size() >= head.tokens());
  const std::size_t count = workspace.queries.count();
  workspace.partial.reset(count, head.dim());
  workspace.scores.shape(count, tile_tokens(count));
  workspace.late.reset(count, tile_tokens(count) / block_tokens);
  const std::size_t kept = head.sinks().tokens();
  const std::size_t behind_sealed = kept + head.sealed_tokens();
  const std::size_t beyond = head.recent().tokens() - std::min(head.recent().tokens(), head.options().recent);
  const std::size_t waiting = options.code_waiting && share.index == 0 ? beyond : 0;
  if (share.index == 0) {
    if (!head.runs().empty()) {  // on their way while the windows are read
      const BlockStretch first = head.store().stretch(head.runs()[0].first_block);
      ask_memory(first.keys, std::min(first.blocks, tile_tokens(count) / block_tokens) * head.keys().block_bytes());
    }
    attend_window(head, workspace, head.sinks(), 0, 0, rules);
    attend_window(head, workspace, head.recent(), waiting, behind_sealed + waiting, rules);
  }
  if (head.runs().empty() && waiting == 0) return;
  head.values().begin(workspace.sum, count);
  attend_runs(head, workspace, kept, rules, options.skip_below, share);
  if (waiting != 0) attend_waiting(head, workspace, waiting, behind_sealed, rules, options.skip_below);
  workspace.late.flush(head.values(), workspace.sum);
  head.values().finish(workspace.sum, workspace.partial.out(), head.dim());
}

}  // namespace pqkv::inline PQKV_ABI::detail
