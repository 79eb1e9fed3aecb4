// Policies that judge a token by its key alone: LowKeyNorm, QueryFilter, KeyDiversity. Layer 6. They need no weights, so that
// they go with attention kernels that never write weights down.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "pqkv/isa/select.hpp"
#include "pqkv/retention/retention_policy.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

[[nodiscard]] inline float dot_of(const float* a, const float* b, std::size_t dim) noexcept {
  float product = 0;
  isa::best().dot_f32(a, 1, dim, b, 1, &product, 1);
  return product;
}

/// use(index, key) for every token, decoded.
template <class Use>
void each_key(const RankedTokens& tokens, const Use& use) {
  std::vector<float> row(2 * tokens.dim());
  for (std::size_t i = 0; i < tokens.count(); ++i) {
    tokens.decode(i, row.data(), row.data() + tokens.dim());
    use(i, row.data());
  }
}

}  // namespace detail

/// score = −‖k‖₂: keys of low norm get high attention (Devoto, Zhao, Scardapane, Minervini: A Simple and Effective L2
/// Norm-Based Strategy for KV Cache Compression, 2024; the first two layers are better left alone, says the paper). Recorded
/// from the exact row; without a record, from the decoded one.
struct LowKeyNorm {
  [[nodiscard]] std::string describe() const { return "keynorm"; }
  [[nodiscard]] float score_row(const float* key, const float* /*value*/, std::size_t dim) const noexcept {
    return -std::sqrt(detail::dot_of(key, key, dim));
  }
  [[nodiscard]] Status rank(const RankedTokens& tokens, std::span<float> scores) const {
    if (!tokens.record().empty()) {
      std::copy(tokens.record().begin(), tokens.record().end(), scores.begin());
      return {};
    }
    detail::each_key(tokens, [&](std::size_t i, const float* key) { scores[i] = score_row(key, nullptr, tokens.dim()); });
    return {};
  }
};

/// score = k · f, with a direction f [dim] that the head's queries share: q · k averages to a positive multiple of it (Godey
/// et al.: Q-Filters, 2025). f comes from train/query_filter.hpp. The filter is one more query to the codes: a score is a
/// table look-up per subspace, and nothing is recorded.
class QueryFilter {
 public:
  explicit QueryFilter(std::vector<float> filter) : filter_(std::move(filter)) {}

  [[nodiscard]] const std::vector<float>& filter() const noexcept { return filter_; }
  [[nodiscard]] std::string describe() const { return "qfilter"; }
  [[nodiscard]] Status rank(const RankedTokens& tokens, std::span<float> scores) const {
    if (filter_.size() != tokens.dim()) {
      return Error{Errc::invalid_shape, message("a filter of ", filter_.size(), " elements for keys of ", tokens.dim())};
    }
    tokens.score({filter_.data(), 1, filter_.size()}, scores.data());
    return {};
  }

 private:
  std::vector<float> filter_;
};

/// score = −cos(k, a), where the anchor a is the mean of all k / ‖k‖: keys unlike the others stay (Park et al.: KeyDiff,
/// 2025). Keys are decoded, twice; they stand where the model's attention sees them.
struct KeyDiversity {
  [[nodiscard]] std::string describe() const { return "keydiff"; }
  [[nodiscard]] Status rank(const RankedTokens& tokens, std::span<float> scores) const {
    const std::size_t dim = tokens.dim();
    std::vector<float> anchor(dim, 0.0f);
    const auto norm_of = [dim](const float* row) { return std::max(std::sqrt(detail::dot_of(row, row, dim)), 1e-20f); };
    detail::each_key(tokens, [&](std::size_t, const float* key) {
      const float inverse = 1 / norm_of(key);
      for (std::size_t d = 0; d < dim; ++d) anchor[d] += inverse * key[d];
    });
    const float anchor_norm = norm_of(anchor.data());  // the mean's length does not change a cosine
    detail::each_key(tokens, [&](std::size_t i, const float* key) {
      scores[i] = -detail::dot_of(key, anchor.data(), dim) / (norm_of(key) * anchor_norm);
    });
    return {};
  }
};

static_assert(ScoresRows<LowKeyNorm> && RetentionPolicy<QueryFilter> && RetentionPolicy<KeyDiversity>);

}  // namespace pqkv::inline PQKV_ABI
