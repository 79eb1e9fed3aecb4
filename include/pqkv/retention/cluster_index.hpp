// ClusterIndex: sealed tokens in clusters of like keys, so that whole clusters can be recalled. Layer 6.
// Liu et al.: ClusterKV (2024): k-means by cosine over a head's keys behind the sinks; a query scores the centroids and
// recalls the tokens of the best clusters up to a budget; tokens that come later are clustered every few hundred steps, among
// themselves.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "pqkv/base/random.hpp"
#include "pqkv/cache/head_cache.hpp"

namespace pqkv::inline PQKV_ABI {

class ClusterIndex {
 public:
  struct Options {
    std::size_t tokens_per_cluster = 80;  ///< as in the paper
    std::size_t iterations = 10;
    std::uint64_t seed = 1;
  };

  explicit ClusterIndex(std::size_t dim) noexcept : dim_(dim) {}

  [[nodiscard]] std::size_t clusters() const noexcept { return members_.size(); }
  /// Token indices, ascending.
  [[nodiscard]] const std::vector<std::size_t>& members(std::size_t cluster) const noexcept { return members_[cluster]; }
  /// Mean key of the cluster, [dim].
  [[nodiscard]] const float* centroid(std::size_t cluster) const noexcept { return centroids_.data() + cluster * dim_; }
  /// Indices of tokens below this have a cluster, but for sinks.
  [[nodiscard]] std::size_t indexed() const noexcept { return indexed_; }

  /// Puts the sealed tokens that came since the last call into clusters of their own. An edit of the sequence moves indices:
  /// begin anew after it.
  template <KeyPolicy K, ValuePolicy V>
  void add(const HeadCache<K, V>& head, const Options& options) {
    PQKV_EXPECTS(head.dim() == dim_ && options.tokens_per_cluster >= 1);
    const std::size_t first = std::max(indexed_, head.sinks().tokens());
    const std::size_t end = head.sinks().tokens() + head.sealed_tokens();
    if (first >= end) return;
    std::vector<float> keys((end - first) * dim_), value(dim_);
    for (std::size_t i = first; i < end; ++i) head.decode(i, keys.data() + (i - first) * dim_, value.data());
    add_clusters({keys.data(), end - first, dim_}, first, options);
    indexed_ = end;
  }
  template <KeyPolicy K, ValuePolicy V>
  void add(const HeadCache<K, V>& head) {
    add(head, Options{});
  }

  /// The tokens of the clusters whose centroids have the largest products with the queries, summed over the group, until
  /// there are `budget`; of the last cluster its first tokens. Ascending, for attend_chosen().
  [[nodiscard]] std::vector<std::size_t> recall(FloatRows queries, std::size_t budget) const {
    PQKV_EXPECTS(queries.dim == dim_);
    std::vector<std::pair<double, std::size_t>> order;
    for (std::size_t c = 0; c < clusters(); ++c) {
      double score = 0;
      for (std::size_t q = 0; q < queries.count; ++q) score += product(queries.row(q), centroid(c));
      order.emplace_back(-score, c);
    }
    std::sort(order.begin(), order.end());
    std::vector<std::size_t> tokens;
    for (const auto& [score, c] : order) {
      const std::size_t count = std::min(members_[c].size(), budget - tokens.size());
      tokens.insert(tokens.end(), members_[c].begin(), members_[c].begin() + static_cast<std::ptrdiff_t>(count));
    }
    std::sort(tokens.begin(), tokens.end());
    return tokens;
  }

 private:
  [[nodiscard]] double product(const float* a, const float* b) const noexcept {
    double sum = 0;
    for (std::size_t d = 0; d < dim_; ++d) sum += static_cast<double>(a[d]) * static_cast<double>(b[d]);
    return sum;
  }

  void add_clusters(FloatRows keys, std::size_t first, const Options& options) {
    const std::size_t wanted = std::max<std::size_t>(1, keys.count / options.tokens_per_cluster);
    std::vector<float> means(wanted * dim_);
    std::vector<std::size_t> cluster(keys.count);
    Random random(options.seed);
    // Starts from different keys, drawn without repetition (Fisher, Yates).
    std::vector<std::size_t> picks(keys.count);
    for (std::size_t i = 0; i < picks.size(); ++i) picks[i] = i;
    for (std::size_t c = 0; c < wanted; ++c) {
      std::swap(picks[c], picks[c + random.below(picks.size() - c)]);
      std::copy_n(keys.row(picks[c]), dim_, means.data() + c * dim_);
    }
    for (std::size_t iteration = 0; iteration < std::max<std::size_t>(1, options.iterations); ++iteration) {
      std::vector<double> norms(wanted);
      for (std::size_t c = 0; c < wanted; ++c) {
        norms[c] = std::sqrt(std::max(product(means.data() + c * dim_, means.data() + c * dim_), 1e-30));
      }
      for (std::size_t i = 0; i < keys.count; ++i) {
        double best = -2e30;
        for (std::size_t c = 0; c < wanted; ++c) {
          const double cosine = product(keys.row(i), means.data() + c * dim_) / norms[c];  // times the key's own norm
          if (cosine > best) best = cosine, cluster[i] = c;
        }
      }
      std::vector<std::size_t> counts(wanted);
      std::vector<double> sums(wanted * dim_);
      for (std::size_t i = 0; i < keys.count; ++i) {
        ++counts[cluster[i]];
        for (std::size_t d = 0; d < dim_; ++d) sums[cluster[i] * dim_ + d] += static_cast<double>(keys.row(i)[d]);
      }
      for (std::size_t c = 0; c < wanted; ++c) {
        if (counts[c] == 0) continue;  // stays where it is
        for (std::size_t d = 0; d < dim_; ++d) {
          means[c * dim_ + d] = static_cast<float>(sums[c * dim_ + d] / static_cast<double>(counts[c]));
        }
      }
    }
    const std::size_t before = clusters();
    members_.resize(before + wanted);
    centroids_.insert(centroids_.end(), means.begin(), means.end());
    for (std::size_t i = 0; i < keys.count; ++i) members_[before + cluster[i]].push_back(first + i);
  }

  std::size_t dim_;
  std::size_t indexed_ = 0;
  std::vector<std::vector<std::size_t>> members_;
  std::vector<float> centroids_;
};

}  // namespace pqkv::inline PQKV_ABI
