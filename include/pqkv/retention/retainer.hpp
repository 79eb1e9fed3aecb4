// Retainer: one number per token of a head, kept in step with what happens to the head, and eviction by it. Layer 6.
// Codes are not touched: who goes is erased (HeadCache::erase), with any formats, and each head may end with a length of its
// own. Tokens keep their positions unless a Gap::close is asked for.
//
// The record follows what is done through the Retainer: append, erase, truncate, replace, evict. fork() copies it with the
// head, a shift concerns it not. Tokens that were appended otherwise (a loaded sequence, append_or_merge) are added by
// catch_up(), scored by what the cache believes of them; any other change of length is refused when it is noticed.
#pragma once

#include <utility>
#include <vector>

#include "pqkv/attend/extend.hpp"
#include "pqkv/attend/token_weights.hpp"
#include "pqkv/retention/choose_evicted.hpp"
#include "pqkv/retention/retention_policy.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// A head as a policy looks at it.
template <KeyPolicy K, ValuePolicy V>
class HeadTokens final : public RankedTokens {
 public:
  HeadTokens(const HeadCache<K, V>& head, std::span<const float> record, Workspace<K, V>& workspace) noexcept
      : RankedTokens(head.tokens(), head.dim(), record), head_(head), workspace_(workspace) {}
  void decode(std::size_t index, float* key, float* value) const noexcept override { head_.decode(index, key, value); }
  void score(FloatRows queries, float* scores) const override {
    token_scores(head_, queries, scores, count(), workspace_, {.scale = 1});
  }

 private:
  const HeadCache<K, V>& head_;
  Workspace<K, V>& workspace_;
};

}  // namespace detail

/// What should go so that at most `budget` tokens of the head stay, by a policy and a record (empty: none). Errors: those of
/// rank() and choose_evicted().
template <RetentionPolicy P, KeyPolicy K, ValuePolicy V>
[[nodiscard]] Result<std::vector<TokenRange>> plan_eviction(const P& policy, const HeadCache<K, V>& head, std::size_t budget,
                                                            const Protection& protection, Workspace<K, V>& workspace,
                                                            std::span<const float> record = {}) {
  PQKV_EXPECTS(record.empty() || record.size() == head.tokens());
  if (head.tokens() <= budget) return std::vector<TokenRange>();
  std::vector<float> scores(head.tokens());
  if (Status status = policy.rank(detail::HeadTokens<K, V>(head, record, workspace), scores); !status) return status.error();
  std::size_t chunk = 1;
  if constexpr (KeepsChunks<P>) chunk = policy.chunk();
  return choose_evicted(scores, std::max(protection.sinks, head.sinks().tokens()), protection.recent, budget, chunk);
}

template <RetentionPolicy P>
class Retainer {
 public:
  explicit Retainer(P policy, Protection protection = {}) : policy_(std::move(policy)), protection_(protection) {}

  [[nodiscard]] const P& policy() const noexcept { return policy_; }
  [[nodiscard]] const Protection& protection() const noexcept { return protection_; }
  /// One number per token, oldest first.
  [[nodiscard]] std::span<const float> record() const noexcept { return record_; }
  [[nodiscard]] std::size_t tokens() const noexcept { return record_.size(); }
  /// Room for `tokens` tokens, so that append and catch_up up to there do not allocate.
  void reserve(std::size_t tokens) { record_.reserve(tokens); }
  /// Forgets what was observed and scored, as before the first observation: 0 for every token.
  void forget() noexcept { std::fill(record_.begin(), record_.end(), 0.0f); }

  // ---- the head's operations, followed; each does nothing at all where the head refuses ---------------------------

  template <KeyPolicy K, ValuePolicy V>
  [[nodiscard]] Status append(HeadCache<K, V>& head, Rows keys, Rows values) {
    if (Status status = check_in_step(head); !status) return status;
    if (Status status = head.append(keys, values); !status) return status;
    for (std::size_t i = 0; i < keys.count; ++i) record_.push_back(first_score(keys, values, i));
    return {};
  }
  template <KeyPolicy K, ValuePolicy V>
  [[nodiscard]] Status erase(HeadCache<K, V>& head, std::span<const TokenRange> ranges, Gap gap = Gap::keep) {
    if (Status status = check_in_step(head); !status) return status;
    if (Status status = head.erase(ranges, gap); !status) return status;
    erased(ranges);
    return {};
  }
  /// After somebody else erased these ranges of the head, which the record was in step with.
  void erased(std::span<const TokenRange> ranges) {
    std::size_t kept = 0;
    std::size_t seen = 0;
    const auto keep_until = [&](std::size_t end) {
      for (; seen < end; ++seen) record_[kept++] = record_[seen];
    };
    for (const TokenRange& range : ranges) {
      keep_until(range.first);
      seen = range.end();
    }
    keep_until(record_.size());
    record_.resize(kept);
  }
  template <KeyPolicy K, ValuePolicy V>
  [[nodiscard]] Status truncate(HeadCache<K, V>& head, std::size_t tokens) {
    if (Status status = check_in_step(head); !status) return status;
    head.truncate(tokens);
    record_.resize(tokens);
    return {};
  }
  /// The rows that take the place of others stand behind the kept tokens (HeadCache::replace), and so do their scores.
  template <KeyPolicy K, ValuePolicy V>
  [[nodiscard]] Status replace(HeadCache<K, V>& head, TokenRange range, Rows keys, Rows values,
                               std::span<const std::int64_t> positions) {
    if (Status status = check_in_step(head); !status) return status;
    if (Status status = head.replace(range, keys, values, positions); !status) return status;
    erased(std::span(&range, 1));
    const std::size_t behind_kept = head.sinks().tokens() - keys.count;
    for (std::size_t i = 0; i < keys.count; ++i) {
      record_.insert(record_.begin() + static_cast<std::ptrdiff_t>(behind_kept + i), first_score(keys, values, i));
    }
    return {};
  }
  /// Tokens that the head has beyond the record are added to it, scored by what the cache believes of them. Errors:
  /// invalid_parameter when the head has fewer.
  template <KeyPolicy K, ValuePolicy V>
  [[nodiscard]] Status catch_up(const HeadCache<K, V>& head) {
    if (head.tokens() < record_.size()) return check_in_step(head);
    row_.resize(2 * head.dim());
    for (std::size_t i = record_.size(); i < head.tokens(); ++i) {
      float score = 0;
      if constexpr (ScoresRows<P>) {
        head.decode(i, row_.data(), row_.data() + head.dim());
        score = policy_.score_row(row_.data(), row_.data() + head.dim(), head.dim());
      }
      record_.push_back(score);
    }
    return {};
  }

  // ---- observing -----------------------------------------------------------------------------------------------

  /// Shows the policy the weights that the queries of consecutive tokens [tokens × group × dim] give to the head's tokens;
  /// the first stands at `position`, and no query sees tokens behind its own position. Errors: invalid_parameter when the
  /// record is out of step.
  template <KeyPolicy K, ValuePolicy V>
    requires ObservesWeights<P>
  [[nodiscard]] Status observe(const HeadCache<K, V>& head, ChunkRows<const float> queries, std::int64_t position,
                               Workspace<K, V>& workspace, AttendOptions options = {}) {
    if (Status status = check_in_step(head); !status) return status;
    PQKV_EXPECTS(queries.group >= 1 && queries.group <= max_group);
    const std::size_t tokens = record_.size();
    weights_.resize(queries.group * tokens);
    for (std::size_t t = 0; t < queries.tokens; ++t) {
      options.query_position = position + static_cast<std::int64_t>(t);
      const FloatRows rows(queries.row(t, 0), queries.group, head.dim(), queries.group == 1 ? head.dim() : queries.head_stride);
      token_weights(head, rows, weights_.data(), tokens, workspace, options);
      for (std::size_t i = 0; i < tokens; ++i) {
        float sum = 0;
        for (std::size_t q = 0; q < queries.group; ++q) sum += weights_[q * tokens + i];
        record_[i] = policy_.observed(record_[i], sum);
      }
    }
    return {};
  }

  // ---- evicting ------------------------------------------------------------------------------------------------

  /// What evict would erase. Where one choice serves many heads (ChunkKV reuses that of a layer in the layers behind it),
  /// plan once and erase everywhere. Errors: as evict.
  template <KeyPolicy K, ValuePolicy V>
  [[nodiscard]] Result<std::vector<TokenRange>> plan(const HeadCache<K, V>& head, std::size_t budget,
                                                     Workspace<K, V>& workspace) const {
    if (Status status = check_in_step(head); !status) return status.error();
    return plan_eviction(policy_, head, budget, protection_, workspace, record_);
  }
  /// Erases tokens until at most `budget` are left; returns how many went. All or nothing. Errors: invalid_parameter when
  /// the record is out of step, the policy has not seen what it needs or more than `budget` are protected; those of erase.
  template <KeyPolicy K, ValuePolicy V>
  [[nodiscard]] Result<std::size_t> evict(HeadCache<K, V>& head, std::size_t budget, Workspace<K, V>& workspace,
                                          Gap gap = Gap::keep) {
    const auto ranges = plan(head, budget, workspace);
    if (!ranges) return ranges.error();
    if (Status status = erase(head, *ranges, gap); !status) return status.error();
    return count_of(*ranges);
  }

 private:
  template <KeyPolicy K, ValuePolicy V>
  [[nodiscard]] Status check_in_step(const HeadCache<K, V>& head) const {
    if (head.tokens() == record_.size()) return {};
    return Error{Errc::invalid_parameter, message("the record is of ", record_.size(), " tokens and the head has ", head.tokens(),
                                                  ": it was changed behind the Retainer's back")};
  }
  [[nodiscard]] float first_score(const Rows& keys, const Rows& values, std::size_t index) {
    if constexpr (ScoresRows<P>) {
      row_.resize(2 * keys.dim);
      to_floats(keys, index, row_.data());
      to_floats(values, index, row_.data() + keys.dim);
      return policy_.score_row(row_.data(), row_.data() + keys.dim, keys.dim);
    } else {
      return 0;
    }
  }

  P policy_;
  Protection protection_;
  std::vector<float> record_;   // by token index
  std::vector<float> weights_;  // observe: [group][token]
  std::vector<float> row_;      // one key and one value
};

}  // namespace pqkv::inline PQKV_ABI
