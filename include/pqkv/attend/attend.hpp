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

struct AttendResult {
  /// A bound of the share of the softmax mass that was skipped, the largest over the queries: at most 6.2 % above it for
  /// blocks, any amount for runs that only their table was asked about.
  float skipped_mass = 0;
};

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
