// evaluate_head: one head's sequence replayed as in decoding, the policy's attention beside exact attention in double.
// Beside the pipeline: nothing in it includes this.
//
// Query t sees tokens 0..t. Of those the sinks and the newest `recent` (t among them) are exact, all others go through
// the policy: its codes, its score kernels, its weighted sums. (A HeadCache keeps up to 31 tokens more exact while they
// wait for a block; a figure that depended on that would flatter short texts.) Formats that want saliency get what a cache
// with these options collects: what the recent − 1 queries behind a block thought of its tokens, and nothing later.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "pqkv/attend/extend.hpp"
#include "pqkv/cache/head_cache.hpp"
#include "pqkv/measure/quality.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// A head whose tokens behind the sinks are all coded, read for a batch of queries by token index.
template <KeyPolicy K, ValuePolicy V>
class CodedHead {
 public:
  CodedHead(const K& keys, const V& values, const CacheOptions& options) : head_(keys, values, options) {}

  /// Behind the last tokens come copies that no query sees, until all but them are coded.
  [[nodiscard]] Status append(ChunkRows<const float> queries, FloatRows keys, FloatRows values, double scale) {
    if (head_.wants_saliency()) {
      std::vector<float> outs(keys.count * queries.group * keys.dim);
      const ChunkRows<float> unused{outs.data(), keys.count, queries.group, queries.group * keys.dim, keys.dim};
      Workspace<K, V> workspace;
      const AttendOptions attend{.scale = static_cast<float>(scale)};
      if (Status status = extend(head_, queries, keys, values, unused, workspace, attend); !status) return status;
    } else if (Status status = head_.append(keys, values); !status) {
      return status;
    }
    while (head_.sinks().tokens() + head_.sealed_tokens() < keys.count) {
      const std::size_t last = keys.count - 1;
      if (Status status = head_.append(keys.slice(last, 1), values.slice(last, 1)); !status) return status;
    }
    return {};
  }

  /// scores[q·stride + t] for every coded token t < seen.
  void score(FloatRows queries, std::size_t seen, float* scores, std::size_t stride) {
    float block_scores[max_group * block_tokens];
    head_.keys().prepare(table_, queries);
    const Run* turned = nullptr;
    each_block(seen, [&](const Run& run, std::size_t block, std::size_t size, std::size_t token) {
      const std::size_t offset = (block - run.first_block) * block_tokens;
      if (turned != &run) head_.keys().turn(table_, run.origin);
      turned = &run;
      head_.keys().score(table_, {head_.store().key_block(block), size, offset}, block_scores, block_tokens);
      for (std::size_t q = 0; q < queries.count; ++q) {
        std::copy_n(block_scores + q * block_tokens, size, scores + q * stride + token);
      }
    });
  }

  /// outs[q·dim + d] = Σ weights[q·stride + t] · value t over the coded tokens t < seen.
  void sum(const float* weights, std::size_t queries, std::size_t seen, std::size_t stride, float* outs) {
    head_.values().begin(sum_, queries);
    each_block(seen, [&](const Run&, std::size_t block, std::size_t size, std::size_t token) {
      float block_weights[max_group * block_tokens] = {};
      for (std::size_t q = 0; q < queries; ++q) {
        std::copy_n(weights + q * stride + token, size, block_weights + q * block_tokens);
      }
      head_.values().add(sum_, {head_.store().value_block(block), size}, block_weights, block_tokens);
    });
    std::fill_n(outs, queries * head_.dim(), 0.0f);
    head_.values().finish(sum_, outs, head_.dim());
  }

 private:
  /// use(run, block, tokens in it, first token) for the blocks that hold tokens below `seen`.
  template <class Use>
  void each_block(std::size_t seen, const Use& use) const {
    std::size_t token = head_.sinks().tokens();
    for (const Run& run : head_.runs()) {
      for (std::size_t done = 0; done < run.tokens && token < seen; done += block_tokens) {
        const std::size_t size = std::min(block_tokens, run.tokens - done);
        use(run, run.first_block + done / block_tokens, size, token);
        token += size;
      }
    }
  }

  HeadCache<K, V> head_;
  typename K::QueryTable table_;
  typename V::WeightedSum sum_;
};

/// [tokens][dim] as exact windows of that type would give the rows back.
PQKV_WHEN_CALLED [[nodiscard]] std::vector<float> through_window(FloatRows rows, ScalarType type) {
  const ExactRows window{rows.dim, type};
  std::vector<float> out(rows.count * rows.dim);
  std::vector<float> stored(rows.dim);  // aligned for any scalar type
  for (std::size_t t = 0; t < rows.count; ++t) {
    auto* bytes = reinterpret_cast<std::byte*>(stored.data());
    window.store(rows.row(t), rows.dim, bytes);
    window.load(bytes, rows.dim, out.data() + t * rows.dim);
  }
  return out;
}

[[nodiscard]] inline double dot(const float* a, const float* b, std::size_t count) noexcept {
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

inline void add_scaled(std::vector<double>& out, double weight, const float* row) noexcept {
  for (std::size_t d = 0; d < out.size(); ++d) out[d] += weight * static_cast<double>(row[d]);
}

}  // namespace detail

/// Replays one kv head: `queries` [tokens × group × dim], `keys` and `values` [tokens × dim]. Returns a Quality per query
/// head of the group. `scale` 0 means 1/√dim. Errors are those of append.
template <KeyPolicy K, ValuePolicy V>
[[nodiscard]] Result<std::vector<Quality>> evaluate_head(const K& key_policy, const V& value_policy,
                                                         const CacheOptions& options,
                                                         ChunkRows<const float> queries, FloatRows keys,
                                                         FloatRows values, double scale = 0) {
  const std::size_t tokens = keys.count;
  const std::size_t dim = keys.dim;
  const std::size_t group = queries.group;
  PQKV_EXPECTS(tokens >= 1 && queries.tokens == tokens && values.count == tokens && group >= 1 && group <= max_group);
  if (scale == 0) scale = 1 / std::sqrt(static_cast<double>(dim));
  detail::CodedHead<K, V> coded(key_policy, value_policy, options);
  if (Status status = coded.append(queries, keys, values, scale); !status) return status.error();
  const auto window_keys = detail::through_window(keys, options.window);
  const auto window_values = detail::through_window(values, options.window);

  const std::size_t batch_tokens = max_group / group;
  std::vector<Quality> qualities(group);
  std::vector<float> batch(max_group * dim), outs(max_group * dim);
  const std::size_t padded = tokens + block_tokens;  // the last block's copies need a place
  std::vector<float> scores(max_group * padded), weights(max_group * padded);
  for (std::size_t first = 0; first < tokens; first += batch_tokens) {
    const std::size_t positions = std::min(batch_tokens, tokens - first);
    const std::size_t count = positions * group;
    for (std::size_t i = 0; i < count; ++i) {
      std::copy_n(queries.row(first + i / group, i % group), dim, batch.data() + i * dim);
    }
    const FloatRows rows(batch.data(), count, dim);
    coded.score(rows, first + positions, scores.data(), padded);

    // Query i sees tokens below visible(i), exact when they are sinks or not below recent(i).
    const auto visible = [&](std::size_t i) { return first + i / group + 1; };
    const auto recent = [&](std::size_t i) { return visible(i) - std::min(visible(i), options.recent); };
    const auto is_exact = [&](std::size_t i, std::size_t t) { return t < options.sinks || t >= recent(i); };
    std::vector<std::vector<double>> exact_logits(count), logits(count);
    std::vector<double> largest(count);
    std::fill(weights.begin(), weights.end(), 0.0f);
    for (std::size_t i = 0; i < count; ++i) {
      for (std::size_t t = 0; t < visible(i); ++t) {
        exact_logits[i].push_back(scale * detail::dot(rows.row(i), keys.row(t), dim));
        const double logit = is_exact(i, t) ? detail::dot(rows.row(i), window_keys.data() + t * dim, dim)
                                            : static_cast<double>(scores[i * padded + t]);
        logits[i].push_back(scale * logit);
      }
      largest[i] = *std::max_element(logits[i].begin(), logits[i].end());
      for (std::size_t t = 0; t < visible(i); ++t) {
        if (!is_exact(i, t)) weights[i * padded + t] = static_cast<float>(std::exp(logits[i][t] - largest[i]));
      }
    }
    coded.sum(weights.data(), count, first + positions, padded, outs.data());

    for (std::size_t i = 0; i < count; ++i) {
      std::vector<double> exact_out(dim), out(outs.data() + i * dim, outs.data() + (i + 1) * dim);
      const double exact_norm = log_sum_exp(exact_logits[i]);
      double mass = 0;
      for (std::size_t t = 0; t < visible(i); ++t) {
        const double weight = std::exp(logits[i][t] - largest[i]);
        mass += weight;
        detail::add_scaled(exact_out, std::exp(exact_logits[i][t] - exact_norm), values.row(t));
        if (is_exact(i, t)) detail::add_scaled(out, weight, window_values.data() + t * dim);
      }
      for (double& x : out) x /= mass;
      qualities[i % group].merge(judge(exact_logits[i], logits[i], exact_out, out));
    }
  }
  return qualities;
}

}  // namespace pqkv::inline PQKV_ABI
