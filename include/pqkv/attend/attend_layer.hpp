// attend_layer and extend_layer: all heads of a layer, over an executor that the caller brings. Layer 5.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "pqkv/attend/extend.hpp"
#include "pqkv/base/executor.hpp"
#include "pqkv/cache/compressed_kv_cache.hpp"

namespace pqkv::inline PQKV_ABI {

/// One workspace per worker of the executor.
template <KeyPolicy K, ValuePolicy V>
using Workspaces = std::vector<Workspace<K, V>>;

/// Heads of a layer that has few are cut into shares of tokens, so that more workers than heads find work.
inline constexpr std::size_t layer_tasks = 16;
/// No share is smaller, so that preparing a table per share costs little.
inline constexpr std::size_t least_share_tokens = 4096;

namespace detail {

/// Depends on the cache alone, never on the workers: so do the outputs, whose rounding the shares decide.
[[nodiscard]] inline std::size_t shares_of_head(std::size_t kv_heads, std::size_t tokens) noexcept {
  return std::clamp(tokens / least_share_tokens, std::size_t{1}, std::max(layer_tasks / kv_heads, std::size_t{1}));
}

/// attend_layer for any executor. `collect`: the same cache where its tokens are to learn what the queries thought of them
/// (attend_layer_and_collect), else nullptr.
template <KeyPolicy K, ValuePolicy V>
AttendResult attend_heads(const CompressedKVCache<K, V>& cache, std::size_t layer, FloatRows queries, float* outs,
                          std::size_t stride, Workspaces<K, V>& workspaces, const AttendOptions& options,
                          ExecutorRef executor, CompressedKVCache<K, V>* collect) {
  const std::size_t kv_heads = cache.shape().kv_heads;
  PQKV_EXPECTS(queries.count % kv_heads == 0 && !workspaces.empty() && workspaces.size() >= executor.workers());
  const std::size_t group = queries.count / kv_heads;
  std::size_t longest = 0;  // heads may differ in length (retention/)
  for (std::size_t h = 0; h < kv_heads; ++h) longest = std::max(longest, cache.head(layer, h).tokens());
  const std::size_t shares = shares_of_head(kv_heads, longest);
  std::vector<Partial>& partials = workspaces.front().shares;
  if (partials.size() < kv_heads * shares) partials.resize(kv_heads * shares);
  executor.run(kv_heads * shares, [&](std::size_t task, std::size_t worker) {
    const std::size_t h = task / shares;
    Workspace<K, V>& workspace = workspaces[worker];
    const AttendOptions mine = options.of_heads(h * group, group);
    const auto& head = cache.head(layer, h);
    copy_scaled(workspace.queries, queries.slice(h * group, group), scale_of(options, cache.shape().dim));
    attend_cache(head, workspace, mine, rules_of(mine, group, head.next_position()), {task % shares, shares});
    std::swap(partials[task], workspace.partial);
  });
  AttendResult result;
  for (std::size_t h = 0; h < kv_heads; ++h) {
    Partial& whole = partials[h * shares];
    for (std::size_t i = 1; i < shares; ++i) whole.merge(partials[h * shares + i]);
    add_sink_logits(whole, options.of_heads(h * group, group).sink_logits);
    whole.write(outs + h * group * stride, stride);
    if (collect != nullptr) {
      collect_step(collect->head(layer, h), queries.slice(h * group, group), whole, workspaces.front(),
                   options.of_heads(h * group, group));
    }
    result.skipped_mass = std::max(result.skipped_mass, whole.skipped_mass());
  }
  return result;
}

/// extend_layer for any executor.
template <KeyPolicy K, ValuePolicy V>
[[nodiscard]] Status extend_heads(CompressedKVCache<K, V>& cache, std::size_t layer, FloatRows queries, Rows keys, Rows values,
                                  float* outs, std::size_t stride, Workspaces<K, V>& workspaces, const AttendOptions& options,
                                  ExecutorRef executor) {
  const auto [layers, kv_heads, dim] = cache.shape();
  PQKV_EXPECTS(workspaces.size() >= executor.workers());
  if (queries.count != keys.count || queries.dim == 0 || queries.dim % (kv_heads * dim) != 0) {
    return Error{Errc::invalid_shape, message(queries.count, " query rows of ", queries.dim, " elements for ",
                                              keys.count, " tokens of ", kv_heads, " kv heads of dim ", dim)};
  }
  if (Status status = cache.prepare_append_layer(layer, keys, values); !status) return status;
  const std::size_t group = queries.dim / (kv_heads * dim);
  const std::size_t tokens = keys.count;
  const std::size_t width = dim;
  executor.run(kv_heads, [&](std::size_t h, std::size_t worker) {
    const std::size_t column = h * group * width;
    extend_prepared(cache.head(layer, h),
                            ChunkRows<const float>{queries.data + column, tokens, group, queries.stride, width},
                            cache.head_rows(keys, h), cache.head_rows(values, h),
                            ChunkRows<float>{outs + column, tokens, group, stride, width}, workspaces[worker],
                            options.of_heads(h * group, group));
  });
  return {};
}

}  // namespace detail

/// Workspaces that serve `group` queries per kv head on every head of the cache without allocating.
template <KeyPolicy K, ValuePolicy V>
[[nodiscard]] Workspaces<K, V> make_workspaces(const CompressedKVCache<K, V>& cache, std::size_t group,
                                               std::size_t workers = 1) {
  Workspaces<K, V> workspaces(workers);
  for (Workspace<K, V>& workspace : workspaces) {
    for (std::size_t layer = 0; layer < cache.shape().layers; ++layer) {
      for (std::size_t h = 0; h < cache.shape().kv_heads; ++h) workspace.reserve(cache.head(layer, h), group);
    }
  }
  const std::size_t most_shares = detail::shares_of_head(cache.shape().kv_heads, unlimited_tokens);
  if (workers > 0) workspaces.front().shares.resize(cache.shape().kv_heads * most_shares);
  for (Workspace<K, V>& workspace : workspaces) {
    for (Partial& partial : workspace.shares) partial.reset(group, cache.shape().dim);
  }
  return workspaces;
}

/// One decoding step of a layer. Queries and outputs are [query heads][dim], rows `queries.stride` / `stride` floats
/// apart; query head h reads kv head h / group, group = query heads / kv heads in 1..16. Tasks are heads or, where a layer
/// has fewer than 16 and a long context, shares of their tokens, which are merged in order: outputs do not depend on the
/// executor.
template <KeyPolicy K, ValuePolicy V, Executor E = SerialExecutor>
AttendResult attend_layer(const CompressedKVCache<K, V>& cache, std::size_t layer, FloatRows queries, float* outs,
                          std::size_t stride, Workspaces<K, V>& workspaces, const AttendOptions& options = {},
                          E&& executor = E{}) {
  CompressedKVCache<K, V>* const nobody = nullptr;
  return detail::attend_heads(cache, layer, queries, outs, stride, workspaces, options, ExecutorRef(executor), nobody);
}

/// attend_layer by the queries of the newest token, already appended, in place of it and once per step: attend_and_collect for
/// every head.
template <KeyPolicy K, ValuePolicy V, Executor E = SerialExecutor>
AttendResult attend_layer_and_collect(CompressedKVCache<K, V>& cache, std::size_t layer, FloatRows queries, float* outs,
                                      std::size_t stride, Workspaces<K, V>& workspaces, const AttendOptions& options = {},
                                      E&& executor = E{}) {
  return detail::attend_heads(cache, layer, queries, outs, stride, workspaces, options, ExecutorRef(executor), &cache);
}

/// A chunk of prompt through a layer: extend for every head. A row of queries and of outs is a token's [query heads][dim],
/// a row of keys and values its [kv_heads][dim]; `stride` floats lie between rows of outs. All heads or none.
template <KeyPolicy K, ValuePolicy V, Executor E = SerialExecutor>
[[nodiscard]] Status extend_layer(CompressedKVCache<K, V>& cache, std::size_t layer, FloatRows queries, Rows keys,
                                  Rows values, float* outs, std::size_t stride, Workspaces<K, V>& workspaces,
                                  const AttendOptions& options = {}, E&& executor = E{}) {
  return detail::extend_heads(cache, layer, queries, keys, values, outs, stride, workspaces, options, ExecutorRef(executor));
}

}  // namespace pqkv::inline PQKV_ABI
