// attend: queries × one head's cache → outputs, straight on the compressed bytes. Layer 5.
//
//   queries ─ prepare ─► QueryTable ─ turn(run) ─ score(tile) ─► scores ─ online softmax ─► weights ─ add(tile) ─► sum
//
// Exact windows come first: they hold the largest weights, so that the running maximum is near its end early.
// Owns no thread; allocates nothing once the workspace has seen the group size.
#pragma once

#include <cmath>
#include <cstring>

#include "pqkv/attend/workspace.hpp"

namespace pqkv::inline PQKV_ABI {

struct AttendOptions {
  /// Multiplies q · k before the softmax; 0 means 1/√dim.
  float scale = 0;
  /// Blocks of values in which every weight is below this share of the largest weight seen so far are not read.
  /// 0: all are. With skipped mass ε the output moves by at most 2·ε·max‖value‖.
  float skip_below = 0;
};

struct AttendResult {
  /// The share of the softmax mass that was skipped, the largest over the queries.
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

/// The whole cache of a head for the scaled queries in the workspace; fills workspace.partial.
template <KeyPolicy K, ValuePolicy V>
void attend_cache(const HeadCache<K, V>& head, Workspace<K, V>& workspace, float skip_below) {
  const std::size_t count = workspace.queries.count();
  const std::size_t tile = tile_tokens(count);
  Partial& partial = workspace.partial;
  partial.reset(count, head.dim());
  workspace.scores.shape(count, tile);
  float* scores = workspace.scores.data();
  for (const ExactWindow* window : {&head.sinks(), &head.recent()}) {
    std::size_t visible[max_group];
    std::fill_n(visible, count, window->tokens());
    attend_exact(partial, window->rows(), window->keys(), window->values(), window->tokens(),
                 workspace.queries.data(), visible, scores);
  }
  if (head.runs().empty()) return;
  const float log_skip = skip_below > 0 ? std::min(std::log(skip_below), 0.0f) : 1.0f;
  head.keys().prepare(workspace.table, {workspace.queries.data(), count, head.dim()});
  head.values().begin(workspace.sum, count);
  for (const Run& run : head.runs()) {
    head.keys().turn(workspace.table, run.origin);
    std::size_t done = 0;
    while (done < run.tokens) {
      const std::size_t block = run.first_block + done / block_tokens;
      const std::size_t tokens =
          std::min({tile, run.tokens - done, head.store().contiguous(block) * block_tokens});
      head.keys().score(workspace.table, {head.store().key_block(block), tokens}, scores, tile);
      attend_tile(partial, head.values(), workspace.sum, {head.store().value_block(block), tokens}, scores, tile,
                  log_skip);
      done += tokens;
    }
  }
  head.values().finish(workspace.sum, partial.out(), head.dim());
}

}  // namespace detail

/// Attention of a group of 1..16 queries [queries.count × dim] that share this kv head, over all its tokens.
/// outs[q·stride + d]; zeros when the cache is empty.
template <KeyPolicy K, ValuePolicy V>
AttendResult attend(const HeadCache<K, V>& head, FloatRows queries, float* outs, std::size_t stride,
                    Workspace<K, V>& workspace, const AttendOptions& options = {}) {
  PQKV_EXPECTS(queries.count >= 1 && queries.count <= max_group && queries.dim == head.dim());
  detail::copy_scaled(workspace.queries, queries, detail::scale_of(options, head.dim()));
  detail::attend_cache(head, workspace, options.skip_below);
  workspace.partial.write(outs, stride);
  return {workspace.partial.skipped_mass()};
}

/// The same as a Partial, to be merged with attention over other tokens. Valid until the workspace's next use.
template <KeyPolicy K, ValuePolicy V>
const Partial& attend_partial(const HeadCache<K, V>& head, FloatRows queries, Workspace<K, V>& workspace,
                              const AttendOptions& options = {}) {
  PQKV_EXPECTS(queries.count >= 1 && queries.count <= max_group && queries.dim == head.dim());
  detail::copy_scaled(workspace.queries, queries, detail::scale_of(options, head.dim()));
  detail::attend_cache(head, workspace, options.skip_below);
  return workspace.partial;
}

}  // namespace pqkv::inline PQKV_ABI
