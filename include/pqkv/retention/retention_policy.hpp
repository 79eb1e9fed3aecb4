// RetentionPolicy: which tokens of a head are worth keeping. Layer 6. Read this first to add a policy.
//
//   append ─ score_row ─┐
//   observe ─ observed ─┴─► record, a number per token ─ rank ─► scores ─ choose_evicted ─► ranges ─ erase
//
// A policy models rank(), and score_row() or observed() where it wants a number recorded for each token while the sequence
// grows or is attended to. Retainer (retainer.hpp) keeps the record beside a HeadCache and evicts.
#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <string>

#include "pqkv/base/result.hpp"
#include "pqkv/base/rows.hpp"

namespace pqkv::inline PQKV_ABI {

/// The tokens of a head, as a policy may look at them, whatever the head's formats. Nothing here is exact but what the
/// cache keeps exact.
class RankedTokens {
 public:
  RankedTokens(std::size_t count, std::size_t dim, std::span<const float> record) noexcept
      : count_(count), dim_(dim), record_(record) {}
  RankedTokens(const RankedTokens&) = delete;
  RankedTokens& operator=(const RankedTokens&) = delete;
  virtual ~RankedTokens() = default;

  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] std::size_t dim() const noexcept { return dim_; }
  /// What score_row() and observed() made of each token, oldest first; empty when nothing was recorded.
  [[nodiscard]] std::span<const float> record() const noexcept { return record_; }
  /// What the cache believes that key and value of token `index` are, where the token stands now: dim() floats each.
  virtual void decode(std::size_t index, float* key, float* value) const noexcept = 0;
  /// scores[q·count() + i] = query q · key of token i, of 1..16 queries: one pass of table look-ups over the codes.
  virtual void score(FloatRows queries, float* scores) const = 0;

 private:
  std::size_t count_;
  std::size_t dim_;
  std::span<const float> record_;
};

/// Tokens that no policy is asked about. Those that the cache keeps exact for ever (its sinks, rows that replace() put in)
/// are protected too.
struct Protection {
  std::size_t sinks = 0;   ///< first tokens
  std::size_t recent = 0;  ///< newest tokens
};

template <class P>
concept RetentionPolicy = std::copyable<P> && requires(const P& policy, const RankedTokens& tokens, std::span<float> scores) {
  { policy.describe() } -> std::same_as<std::string>;  // "snapkv:pool=5"
  // scores[i] for each token i < tokens.count(): the larger, the longer it stays. Errors: invalid_parameter where the
  // policy needs a record and there is none.
  { policy.rank(tokens, scores) } -> std::same_as<Status>;
};

/// A policy that wants to see rows when they are appended, exact: the record starts with what this returns (0 otherwise).
template <class P>
concept ScoresRows = RetentionPolicy<P> && requires(const P& policy, const float* key, const float* value, std::size_t dim) {
  { policy.score_row(key, value, dim) } noexcept -> std::same_as<float>;
};

/// A policy that wants to see attention weights: the record of a token becomes what this makes of it and of the weight
/// that the queries of a group gave to the token, summed over the group.
template <class P>
concept ObservesWeights = RetentionPolicy<P> && requires(const P& policy, float record, float weight) {
  { policy.observed(record, weight) } noexcept -> std::same_as<float>;
};

/// A policy that keeps or evicts neighbours together: this many tokens, counted from the first that is not protected.
template <class P>
concept KeepsChunks = RetentionPolicy<P> && requires(const P& policy) {
  { policy.chunk() } noexcept -> std::same_as<std::size_t>;
};

}  // namespace pqkv::inline PQKV_ABI
