// CacheRetainer: a Retainer for every head of a cache, as an engine needs it: observation by layers, one eviction for all,
// each head down to a budget of its own. Layer 6.
//
//   every step     append_layer / extend_layer / attend_layer, as without it
//   now and then   catch_up ─► observe_layer ─► evict(budgets) ─► compact (cache/compact.hpp), where memory is wanted back
//
// Heads may end with different lengths (ragged); appending and attention go on as before.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "pqkv/attend/attend_layer.hpp"
#include "pqkv/retention/retainer.hpp"

namespace pqkv::inline PQKV_ABI {

template <RetentionPolicy P>
class CacheRetainer {
 public:
  /// One policy for all heads, or one each, [layers][kv_heads] (query filters are a head's own). Errors: invalid_shape.
  [[nodiscard]] static Result<CacheRetainer> make(const CacheShape& shape, const std::vector<P>& policies,
                                                  const Protection& protection = {}) {
    const std::size_t heads = shape.layers * shape.kv_heads;
    if (policies.size() != heads && policies.size() != 1) {
      return Error{Errc::invalid_shape,
                   message(policies.size(), " policies for ", heads, " heads; give one each, or one for all")};
    }
    CacheRetainer made(shape);
    for (std::size_t i = 0; i < heads; ++i) made.heads_.emplace_back(policies[policies.size() == 1 ? 0 : i], protection);
    return made;
  }

  [[nodiscard]] const Retainer<P>& head(std::size_t layer, std::size_t head) const noexcept {
    return heads_[layer * shape_.kv_heads + head];
  }
  /// Forgets what was observed and scored.
  void forget() noexcept {
    for (Retainer<P>& each : heads_) each.forget();
  }

  /// Takes notice of tokens that came since the last call (Retainer::catch_up). Policies that score rows see them exact as
  /// long as they are in the recent window. Errors: invalid_parameter when a head lost tokens behind the records' back.
  template <KeyPolicy K, ValuePolicy V>
  [[nodiscard]] Status catch_up(const CompressedKVCache<K, V>& cache) {
    PQKV_EXPECTS(fits(cache.shape()));
    for (std::size_t i = 0; i < heads_.size(); ++i) {
      if (Status status = heads_[i].catch_up(head_of(cache, i)); !status) return at(i, status.error());
    }
    return {};
  }

  /// Shows the policy the weights that the queries of consecutive tokens give to the tokens of a layer, the first token at
  /// `position` (Retainer::observe). A row of `queries` is a token's [query heads][dim]. Errors: invalid_shape;
  /// invalid_parameter when a record is out of step: heads before it have then observed.
  template <KeyPolicy K, ValuePolicy V, Executor E = SerialExecutor>
    requires ObservesWeights<P>
  [[nodiscard]] Status observe_layer(const CompressedKVCache<K, V>& cache, std::size_t layer, FloatRows queries,
                                     std::int64_t position, Workspaces<K, V>& workspaces, const AttendOptions& options = {},
                                     E&& executor = E{}) {
    PQKV_EXPECTS(fits(cache.shape()));
    PQKV_EXPECTS(workspaces.size() >= executor.workers());
    const std::size_t width = shape_.kv_heads * shape_.dim;
    if (queries.dim == 0 || queries.dim % width != 0 || queries.dim / width > max_group) {
      return Error{Errc::invalid_shape, message("query rows of ", queries.dim, " elements for ", shape_.kv_heads,
                                                " kv heads of dim ", shape_.dim)};
    }
    const std::size_t group = queries.dim / width;
    return each(layer * shape_.kv_heads, shape_.kv_heads, executor, [&](std::size_t i, std::size_t worker) {
      const std::size_t h = i % shape_.kv_heads;
      const ChunkRows<const float> mine{queries.data + h * group * shape_.dim, queries.count, group, queries.stride, shape_.dim};
      return heads_[i].observe(head_of(cache, i), mine, position, workspaces[worker], options.of_heads(h * group, group));
    });
  }

  /// Evicts until head i holds at most budgets[i] tokens: one budget for all heads, one per layer (of each of its heads), or
  /// [layers][kv_heads]; returns how many tokens went. All heads or none. Errors: invalid_shape; those of Retainer::evict and
  /// of CompressedKVCache::erase.
  template <KeyPolicy K, ValuePolicy V, Executor E = SerialExecutor>
  [[nodiscard]] Result<std::size_t> evict(CompressedKVCache<K, V>& cache, std::span<const std::size_t> budgets,
                                          Workspaces<K, V>& workspaces, Gap gap = Gap::keep, E&& executor = E{}) {
    PQKV_EXPECTS(fits(cache.shape()));
    PQKV_EXPECTS(workspaces.size() >= executor.workers());
    if (budgets.size() != 1 && budgets.size() != shape_.layers && budgets.size() != heads_.size()) {
      return Error{Errc::invalid_shape, message(budgets.size(), " budgets for ", shape_.layers, " layers of ", shape_.kv_heads,
                                                " kv heads")};
    }
    const std::size_t sharers = heads_.size() / budgets.size();  // heads per budget
    std::vector<std::vector<TokenRange>> ranges(heads_.size());
    const Status planned = each(0, heads_.size(), executor, [&](std::size_t i, std::size_t worker) -> Status {
      auto plan = heads_[i].plan(head_of(cache, i), budgets[i / sharers], workspaces[worker]);
      if (!plan) return plan.error();
      ranges[i] = std::move(*plan);
      return {};
    });
    if (!planned) return planned.error();
    if (Status status = erase(cache, ranges, gap); !status) return status.error();
    std::size_t gone = 0;
    for (const std::vector<TokenRange>& one : ranges) gone += count_of(one);
    return gone;
  }

  // ---- the cache's operations, followed ------------------------------------------------------------------------

  /// CompressedKVCache::erase of ranges per head. Errors: as there; invalid_parameter when a record is out of step.
  template <KeyPolicy K, ValuePolicy V>
  [[nodiscard]] Status erase(CompressedKVCache<K, V>& cache, std::span<const std::vector<TokenRange>> ranges,
                             Gap gap = Gap::keep) {
    if (Status status = catch_up(cache); !status) return status;
    if (Status status = cache.erase(ranges, gap); !status) return status;
    for (std::size_t i = 0; i < heads_.size(); ++i) heads_[i].erased(ranges[i]);
    return {};
  }
  /// CompressedKVCache::drop_newest. Errors: invalid_parameter when a record is out of step.
  template <KeyPolicy K, ValuePolicy V>
  [[nodiscard]] Status drop_newest(CompressedKVCache<K, V>& cache, std::size_t tokens) {
    if (Status status = catch_up(cache); !status) return status;
    cache.drop_newest(tokens);
    for (std::size_t i = 0; i < heads_.size(); ++i) {
      const TokenRange range{head_of(cache, i).tokens(), heads_[i].tokens() - head_of(cache, i).tokens()};
      heads_[i].erased(std::span(&range, 1));
    }
    return {};
  }

 private:
  explicit CacheRetainer(const CacheShape& shape) noexcept : shape_(shape) {}

  [[nodiscard]] bool fits(const CacheShape& shape) const noexcept {
    return shape.layers == shape_.layers && shape.kv_heads == shape_.kv_heads && shape.dim == shape_.dim;
  }
  template <KeyPolicy K, ValuePolicy V>
  [[nodiscard]] const HeadCache<K, V>& head_of(const CompressedKVCache<K, V>& cache, std::size_t index) const noexcept {
    return cache.head(index / shape_.kv_heads, index % shape_.kv_heads);
  }
  [[nodiscard]] Error at(std::size_t index, const Error& error) const {
    return {error.code, message("layer ", index / shape_.kv_heads, " head ", index % shape_.kv_heads, ": ", error.message)};
  }
  /// work(head, worker) for `count` heads; the error of the first that has one.
  template <class E, class Work>
  [[nodiscard]] Status each(std::size_t first, std::size_t count, E& executor, const Work& work) const {
    std::vector<std::optional<Error>> errors(count);
    executor.run(count, [&](std::size_t task, std::size_t worker) {
      if (Status status = work(first + task, worker); !status) errors[task] = status.error();
    });
    for (std::size_t i = 0; i < count; ++i) {
      if (errors[i]) return at(first + i, *errors[i]);
    }
    return {};
  }

  CacheShape shape_;
  std::vector<Retainer<P>> heads_;
};

}  // namespace pqkv::inline PQKV_ABI
