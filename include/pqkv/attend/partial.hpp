// Partial: attention over some token range, for a group of queries, as a mergeable value. Layer 5.
// Sinks, sealed blocks, recent tokens, a page, a thread's share: each is a Partial, and merging is exact
// (Milakov, Gimelshein: Online normalizer calculation for softmax, 2018).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "pqkv/codec/rows_buffer.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// Per query: the largest score, Σ exp(score − largest), Σ exp(score − largest)·value, and the part of the range that
/// was skipped (its exponentials are in neither sum). A query whose sums are both 0 has seen nothing; `largest` then
/// means nothing, which spares an infinity as a sentinel.
class Partial {
 public:
  /// Empties it for `queries` queries. Allocates when it grows.
  void reset(std::size_t queries, std::size_t dim) noexcept {
    PQKV_EXPECTS(queries <= max_group);
    out_.shape(queries, dim);
    out_.fill(0);
    for (std::size_t q = 0; q < queries; ++q) state_[q] = {};
  }

  [[nodiscard]] std::size_t queries() const noexcept { return out_.count(); }
  [[nodiscard]] std::size_t dim() const noexcept { return out_.width(); }
  [[nodiscard]] bool empty(std::size_t query) const noexcept {
    return state_[query].sum == 0 && state_[query].skipped == 0;
  }
  [[nodiscard]] float largest(std::size_t query) const noexcept { return state_[query].largest; }
  [[nodiscard]] float sum(std::size_t query) const noexcept { return state_[query].sum; }
  [[nodiscard]] float* out() noexcept { return out_.data(); }
  [[nodiscard]] const float* out(std::size_t query) const noexcept { return out_.row(query); }

  /// The share of the range's softmax mass that was skipped: the largest over the queries.
  [[nodiscard]] float skipped_mass() const noexcept {
    float most = 0;
    for (std::size_t q = 0; q < queries(); ++q) {
      const float total = state_[q].sum + state_[q].skipped;
      if (total > 0) most = std::max(most, state_[q].skipped / total);
    }
    return most;
  }

  /// Makes `score` the largest of a query if it is; returns the factor for everything that was added before.
  float raise(std::size_t query, float score) noexcept {
    State& state = state_[query];
    if (empty(query)) {
      state.largest = score;
      return 1.0f;
    }
    if (score <= state.largest) return 1.0f;
    const float factor = std::exp(state.largest - score);
    state.largest = score;
    state.sum *= factor;
    state.skipped *= factor;
    return factor;
  }
  void rescale_out(const float* factors) noexcept { out_.scale(factors); }
  void add_sum(std::size_t query, float sum) noexcept { state_[query].sum += sum; }
  void add_skipped(std::size_t query, float sum) noexcept { state_[query].skipped += sum; }

  /// Adds a partial over another range, same queries. Exact up to rounding; associative and commutative likewise.
  void merge(const Partial& other) noexcept {
    PQKV_EXPECTS(other.queries() == queries() && other.dim() == dim());
    for (std::size_t q = 0; q < queries(); ++q) {
      if (other.empty(q)) continue;
      const float mine = raise(q, other.state_[q].largest);
      const float theirs = std::exp(other.state_[q].largest - state_[q].largest);
      state_[q].sum += theirs * other.state_[q].sum;
      state_[q].skipped += theirs * other.state_[q].skipped;
      for (std::size_t d = 0; d < dim(); ++d) out_.row(q)[d] = mine * out_.row(q)[d] + theirs * other.out_.row(q)[d];
    }
  }

  /// outs[q·stride + d] = the softmax-weighted mean of the values; zeros for a query that has seen nothing.
  void write(float* outs, std::size_t stride) const noexcept {
    for (std::size_t q = 0; q < queries(); ++q) {
      const float inverse = state_[q].sum > 0 ? 1.0f / state_[q].sum : 0.0f;
      for (std::size_t d = 0; d < dim(); ++d) outs[q * stride + d] = out_.row(q)[d] * inverse;
    }
  }

 private:
  struct State {
    float largest = 0;
    float sum = 0;
    float skipped = 0;
  };
  RowsBuffer out_;
  State state_[max_group] = {};
};

}  // namespace pqkv::inline PQKV_ABI
