// attend_batch: one decoding step of a layer for many sequences in one call, over an executor that the caller brings.
// Layer 5. A task is one kv head of one sequence, so that long sequences do not keep the others waiting.
#pragma once

#include <span>

#include "pqkv/attend/attend_layer.hpp"

namespace pqkv::inline PQKV_ABI {

/// One sequence's part in a batch. Queries and outputs as in attend_layer.
template <KeyPolicy K, ValuePolicy V>
struct SequenceStep {
  const CompressedKVCache<K, V>* cache = nullptr;
  FloatRows queries;           ///< [query heads][dim]
  float* outs = nullptr;       ///< [query heads][dim], rows `stride` floats apart
  std::size_t stride = 0;
  AttendOptions options = {};  ///< sequences may differ in bias, window and position
  /// The same cache, where its tokens are to learn what the queries thought of them (attend_and_collect); of one sequence, then, a
  /// batch has one step.
  CompressedKVCache<K, V>* collect = nullptr;
};

namespace detail {

/// attend_batch for any executor.
template <KeyPolicy K, ValuePolicy V>
AttendResult attend_steps(std::size_t layer, std::span<const SequenceStep<K, V>> steps, Workspaces<K, V>& workspaces,
                          ExecutorRef executor) {
  PQKV_EXPECTS(workspaces.size() >= executor.workers());
  std::size_t tasks = 0;
  for (const SequenceStep<K, V>& step : steps) tasks += step.cache->shape().kv_heads;
  for (Workspace<K, V>& workspace : workspaces) workspace.skipped_mass = 0;
  executor.run(tasks, [&](std::size_t task, std::size_t worker) {
    std::size_t s = 0;
    while (task >= steps[s].cache->shape().kv_heads) task -= steps[s++].cache->shape().kv_heads;
    const SequenceStep<K, V>& step = steps[s];
    PQKV_EXPECTS(step.queries.count % step.cache->shape().kv_heads == 0);
    const std::size_t group = step.queries.count / step.cache->shape().kv_heads;
    Workspace<K, V>& workspace = workspaces[worker];
    const AttendResult result =
        attend(step.cache->head(layer, task), step.queries.slice(task * group, group), step.outs + task * group * step.stride,
               step.stride, workspace, step.options.of_heads(task * group, group));
    if (step.collect != nullptr) {
      PQKV_EXPECTS(step.collect == step.cache);
      collect_step(step.collect->head(layer, task), step.queries.slice(task * group, group), workspace.partial,
                           workspace, step.options.of_heads(task * group, group));
    }
    workspace.skipped_mass = std::max(workspace.skipped_mass, result.skipped_mass);
  });
  AttendResult result;
  for (const Workspace<K, V>& workspace : workspaces) {
    result.skipped_mass = std::max(result.skipped_mass, workspace.skipped_mass);
  }
  return result;
}

}  // namespace detail

/// attend_layer of `layer` for every sequence; they may differ in length, shape and group. Workspaces must suit all of
/// them (formats of the same types do).
template <KeyPolicy K, ValuePolicy V, Executor E = SerialExecutor>
AttendResult attend_batch(std::size_t layer, std::span<const SequenceStep<K, V>> steps, Workspaces<K, V>& workspaces,
                          E&& executor = E{}) {
  return detail::attend_steps(layer, steps, workspaces, ExecutorRef(executor));
}

}  // namespace pqkv::inline PQKV_ABI
