// extend: a chunk of prompt. Its queries see the compressed past and the chunk itself, exact and causal; then the chunk
// is appended. Layer 5.
#pragma once

#include "pqkv/attend/collect.hpp"

namespace pqkv::inline PQKV_ABI {

/// Queries or outputs of a chunk for one kv head: tokens × the group's heads × dim, in floats.
template <class Float>
struct ChunkRows {
  Float* data = nullptr;
  std::size_t tokens = 0;
  std::size_t group = 0;         ///< query heads per kv head, 1..16
  std::size_t token_stride = 0;  ///< floats from one token to the next
  std::size_t head_stride = 0;   ///< floats from one head of the group to the next

  [[nodiscard]] Float* row(std::size_t token, std::size_t head) const noexcept {
    return data + token * token_stride + head * head_stride;
  }
};

namespace detail {

/// extend after a prepare_append of the same rows.
template <KeyPolicy K, ValuePolicy V>
void extend_prepared(HeadCache<K, V>& head, ChunkRows<const float> queries, Rows keys, Rows values,
                     ChunkRows<float> outs, Workspace<K, V>& workspace, const AttendOptions& options) {
  const std::size_t dim = head.dim();
  const std::size_t tokens = keys.count;
  const float scale = detail::scale_of(options, dim);
  // The chunk as floats, keys then values, so that one loop serves every scalar type and stride.
  workspace.chunk.shape(2 * tokens, dim);
  for (std::size_t j = 0; j < tokens; ++j) {
    to_floats(keys, j, workspace.chunk.row(j));
    to_floats(values, j, workspace.chunk.row(tokens + j));
  }
  const auto* chunk_keys = reinterpret_cast<const std::byte*>(workspace.chunk.data());
  const auto* chunk_values = reinterpret_cast<const std::byte*>(workspace.chunk.row(tokens));
  const std::int64_t position = options.query_position.value_or(head.next_position());
  PQKV_EXPECTS(options.bias.empty() || options.bias.size() >= head.tokens() + tokens);

  ChunkSaliency<K, V> saliency(head, workspace, workspace.chunk.data(), tokens, position);

  // As many tokens at once as fit into one group: the compressed past is read once for all of them.
  const std::size_t batch_tokens = max_group / queries.group;
  for (std::size_t first = 0; first < tokens; first += batch_tokens) {
    const std::size_t size = std::min(batch_tokens, tokens - first);
    const std::size_t count = size * queries.group;
    workspace.queries.shape(count, dim);
    std::size_t visible[max_group];
    ScoreRules rules = rules_of(options, queries.group, 0);
    for (std::size_t i = 0; i < count; ++i) {
      const float* query = queries.row(first + i / queries.group, i % queries.group);
      for (std::size_t d = 0; d < dim; ++d) workspace.queries.row(i)[d] = query[d] * scale;
      visible[i] = first + i / queries.group + 1;
      rules.slopes[i] = rules.slopes[i % queries.group];
      rules.query_positions[i] = position + static_cast<std::int64_t>(first + i / queries.group);
    }
    detail::attend_cache(head, workspace, options, rules);
    const auto adjust = [&](std::size_t row, std::size_t rows, float* scores, std::size_t stride) {
      if (!rules.any()) return;
      rules.apply(scores, stride, count, rows,
                  [&](std::size_t t) { return position + static_cast<std::int64_t>(row + t); },
                  [&](std::size_t t) { return head.tokens() + row + t; });
    };
    attend_exact(workspace.partial, {dim, ScalarType::f32}, chunk_keys, chunk_values, first + size,
                 workspace.queries.data(), visible, workspace.scores.data(), adjust);
    add_sink_logits(workspace.partial, options.of_heads(0, queries.group).sink_logits);
    workspace.outs.shape(count, dim);
    workspace.partial.write(workspace.outs.data(), dim);
    for (std::size_t i = 0; i < count; ++i) {
      std::memcpy(outs.row(first + i / queries.group, i % queries.group), workspace.outs.row(i), dim * sizeof(float));
    }
    for (std::size_t t = 0; t < size; ++t) saliency.add(first + t, t * queries.group, queries.group, rules);
  }
  head.append_prepared(keys, values, saliency.seen());
}

}  // namespace detail

/// Attends and appends `keys` and `values` [tokens × dim], and collects saliency where the values want it. Token j of the chunk
/// sees every token of the cache and tokens 0..j of the chunk. Where options name query heads, they mean those of the group.
/// Errors are those of append; nothing is computed or appended then.
template <KeyPolicy K, ValuePolicy V>
[[nodiscard]] Status extend(HeadCache<K, V>& head, ChunkRows<const float> queries, Rows keys, Rows values,
                            ChunkRows<float> outs, Workspace<K, V>& workspace, const AttendOptions& options = {}) {
  PQKV_EXPECTS(queries.group >= 1 && queries.group <= max_group && outs.group == queries.group);
  if (queries.tokens != keys.count || outs.tokens != keys.count) {
    return Error{Errc::invalid_shape, message("queries of ", queries.tokens, " and outputs of ", outs.tokens,
                                              " tokens for ", keys.count, " keys")};
  }
  if (Status status = head.prepare_append(keys, values); !status) return status;
  detail::extend_prepared(head, queries, keys, values, outs, workspace, options);
  return {};
}

}  // namespace pqkv::inline PQKV_ABI
