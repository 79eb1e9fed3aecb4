// Recall: nothing is given up, but only the best tokens are attended to, with rows better than the cache's own. Layer 6.
//
//   codes ─ one scan ─► the r best tokens ─ fetch ─► their rows, from a slower store or a finer code ─ exact attention
//
// The head's codes are the index (PQCache, Zhang et al., 2025), or clusters of its keys are (ClusterKV, cluster_index.hpp).
// The exact windows are attended to as always.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <vector>

#include "pqkv/attend/attend.hpp"
#include "pqkv/attend/token_weights.hpp"

namespace pqkv::inline PQKV_ABI {

/// Where rows of tokens may be had: memory of another kind, a file, a network, a finer code. Tokens are named by their index
/// in the head that asks, ascending. Writes [tokens.size()][dim] floats each, keys as they stand now. Errors end the
/// attention that asked.
template <class S>
concept RowStore = requires(S& store, std::span<const std::size_t> tokens, float* keys, float* values) {
  { store.fetch(tokens, keys, values) } -> std::same_as<Status>;
};

/// The rows that another head has of the same tokens, in a finer code.
template <KeyPolicy K, ValuePolicy V>
struct FinerCode {
  const HeadCache<K, V>& head;

  [[nodiscard]] Status fetch(std::span<const std::size_t> tokens, float* keys, float* values) const {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] >= head.tokens()) {
        return Error{Errc::invalid_parameter, message("token ", tokens[i], " of a head of ", head.tokens())};
      }
      head.decode(tokens[i], keys + i * head.dim(), values + i * head.dim());
    }
    return {};
  }
};

/// The `count` sealed tokens with the largest weights, summed over the queries of a group, by the head's own codes; ascending.
template <KeyPolicy K, ValuePolicy V>
[[nodiscard]] std::vector<std::size_t> best_tokens(const HeadCache<K, V>& head, FloatRows queries, std::size_t count,
                                                   Workspace<K, V>& workspace, const AttendOptions& options = {}) {
  const std::size_t tokens = head.tokens();
  std::vector<float> weights(queries.count * tokens);
  token_weights(head, queries, weights.data(), tokens, workspace, options);
  const std::size_t first = head.sinks().tokens();
  std::vector<std::size_t> order(head.sealed_tokens());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = first + i;
  for (std::size_t q = 1; q < queries.count; ++q) {
    for (const std::size_t i : order) weights[i] += weights[q * tokens + i];
  }
  count = std::min(count, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    [&](std::size_t a, std::size_t b) { return weights[a] != weights[b] ? weights[a] > weights[b] : a > b; });
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

/// Attention of 1..16 queries over the exact windows and the chosen sealed tokens (ascending, without repetition), whose rows
/// come from the store; every other token is left out. outs[q·stride + d]. Errors: those of the store; outs is then as it
/// was.
template <KeyPolicy K, ValuePolicy V, RowStore Store>
[[nodiscard]] Status attend_chosen(const HeadCache<K, V>& head, FloatRows queries, std::span<const std::size_t> chosen,
                                   Store& store, float* outs, std::size_t stride, Workspace<K, V>& workspace,
                                   const AttendOptions& options = {}) {
  PQKV_EXPECTS(queries.count >= 1 && queries.count <= max_group && queries.dim == head.dim());
  const std::size_t dim = head.dim();
  const std::size_t count = queries.count;
  std::vector<float> rows(2 * chosen.size() * dim);
  float* values = rows.data() + chosen.size() * dim;
  if (Status status = store.fetch(chosen, rows.data(), values); !status) return status;

  detail::copy_scaled(workspace.queries, queries, detail::scale_of(options, dim));
  const ScoreRules rules = detail::rules_of(options, count, head.next_position());
  workspace.partial.reset(count, dim);
  workspace.scores.shape(count, tile_tokens(count));
  detail::attend_window(head, workspace, head.sinks(), 0, 0, rules);
  detail::attend_window(head, workspace, head.recent(), 0, head.sinks().tokens() + head.sealed_tokens(), rules);
  std::size_t visible[max_group];
  std::fill_n(visible, count, chosen.size());
  std::vector<std::int64_t> positions(rules.any() ? head.tokens() : 0);
  if (rules.any()) head.sequence().positions(positions.data());
  attend_exact(workspace.partial, ExactRows{dim, ScalarType::f32}, reinterpret_cast<const std::byte*>(rows.data()),
               reinterpret_cast<const std::byte*>(values), chosen.size(), workspace.queries.data(), visible,
               workspace.scores.data(), [&](std::size_t row, std::size_t size, float* scores, std::size_t apart) {
                 if (!rules.any()) return;
                 rules.apply(scores, apart, count, size, [&](std::size_t t) { return positions[chosen[row + t]]; },
                             [&](std::size_t t) { return chosen[row + t]; });
               });
  add_sink_logits(workspace.partial, options.sink_logits);
  workspace.partial.write(outs, stride);
  return {};
}

/// Both: attention over the exact windows and the `count` sealed tokens that the codes say are best.
template <KeyPolicy K, ValuePolicy V, RowStore Store>
[[nodiscard]] Status attend_best(const HeadCache<K, V>& head, FloatRows queries, std::size_t count, Store& store, float* outs,
                                 std::size_t stride, Workspace<K, V>& workspace, const AttendOptions& options = {}) {
  const std::vector<std::size_t> chosen = best_tokens(head, queries, count, workspace, options);
  return attend_chosen(head, queries, chosen, store, outs, stride, workspace, options);
}

}  // namespace pqkv::inline PQKV_ABI
