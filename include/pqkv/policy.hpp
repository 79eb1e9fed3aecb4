// The concepts that a format models: read this first to extend the library. Includes base/ only.
//
// A format is a small value type that turns up to 32 rows into one opaque block of bytes, and any row back. The two
// sides mirror each other: a key format's QueryTable is read while keys are scanned, a value format's WeightedSum is
// filled while values are scanned. Block bytes never depend on CPU, compiler or thread count.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>

#include "pqkv/base/ask_memory.hpp"
#include "pqkv/base/rows.hpp"

namespace pqkv::inline PQKV_ABI {

/// Tokens per block, the unit of storage.
inline constexpr std::size_t block_tokens = 32;
/// The most queries that may share one pass over the codes.
inline constexpr std::size_t max_group = 16;
/// run_tokens() of formats that do not care about positions.
inline constexpr std::size_t unlimited_tokens = std::numeric_limits<std::size_t>::max();

/// Where a block belongs: its run's position origin, and how many tokens of the run lie before it.
struct RunPlace {
  std::int64_t origin = 0;
  std::size_t offset = 0;

  RunPlace(std::int64_t run_origin = 0, std::size_t tokens_before = 0) noexcept  // NOLINT(google-explicit-constructor)
      : origin(run_origin), offset(tokens_before) {}
  /// The position of token `index` of the block.
  [[nodiscard]] std::int64_t position(std::size_t index) const noexcept {
    return origin + static_cast<std::int64_t>(offset + index);
  }
};

/// Whole blocks that lie one behind the other; the last may hold fewer than 32 valid tokens, its other rows are
/// finite. `tokens` counts the valid ones.
struct BlockSpan {
  const std::byte* data = nullptr;
  std::size_t tokens = 0;
  std::size_t offset = 0;  ///< tokens of the run that lie before
  /// Where codes were moved to other slots (RowMovable): how many tokens of the run lay before each slot's, [tokens]. Null:
  /// `offset` before the first slot's, one more before each next.
  const std::int64_t* places = nullptr;
  /// How many bytes from here what will be read next lies; 0: nobody knows. A hint: formats ask memory for it while they read.
  std::ptrdiff_t ahead = 0;

  [[nodiscard]] std::size_t blocks() const noexcept { return (tokens + block_tokens - 1) / block_tokens; }
  /// Asks memory for as many bytes, `from` bytes behind the beginning, of what will be read next.
  void ask_ahead(std::size_t from, std::size_t bytes) const noexcept {
    pqkv::ask_ahead(data + from, bytes, ahead);
  }
};

/// What both sides share.
template <class F>
concept BlockFormat = std::copyable<F> && requires(const F& format, const std::byte* block, float* row) {
  { format.dim() } noexcept -> std::same_as<std::size_t>;           // elements of a row
  { format.block_bytes() } noexcept -> std::same_as<std::size_t>;   // bytes of 32 tokens
  { format.describe() } -> std::same_as<std::string>;               // as in a policy spec: "pq4:m=32"
  { format.codebook_bytes() } noexcept -> std::same_as<std::size_t>;
};

/// A key format. Rows are what attention sees (after RoPE); token j of a run has position origin + j.
template <class P>
concept KeyPolicy =
    BlockFormat<P> && requires(const P& policy, typename P::QueryTable& table, const typename P::QueryTable& prepared,
                               FloatRows rows, RunPlace place, std::int64_t origin, std::byte* block, const std::byte* coded,
                               std::size_t index, float* row, BlockSpan span, float* scores, std::size_t stride) {
      requires std::default_initializable<typename P::QueryTable> && std::movable<typename P::QueryTable>;
      // 1..32 rows → block; every byte of the block is written, and the rows that are missing decode to finite numbers.
      { policy.encode(rows, place, block) } noexcept;
      // What the cache believes that token `index` of the block was: dim() floats.
      { policy.decode(coded, index, place, row) } noexcept;
      // The longest run this format wants; unlimited_tokens for most.
      { policy.run_tokens() } noexcept -> std::same_as<std::size_t>;
      // Once per step: the 1..16 queries of a group. May allocate, the first time for a group size only.
      { policy.prepare(table, rows) };
      // Once per run, before its first score.
      { policy.turn(table, origin) } noexcept;
      // scores[q·stride + t] ≈ query q · key t, for every token of every block of the span (32·blocks() scores per query).
      { policy.score(prepared, span, scores, stride) } noexcept;
    };

/// A key format whose table bounds every score from above, whatever the codes: keys and values of a whole run are then not
/// read where even the bound cannot matter (AttendOptions::skip_below).
template <class P>
concept Bounded = KeyPolicy<P> && requires(const P& policy, const typename P::QueryTable& prepared, float* scores) {
  // scores[q] ≥ every score of query q in the run that the table is turned to.
  { policy.bound(prepared, scores) } noexcept;
};

/// A format whose rows are independent of each other: a token's code may be copied to another block without being decoded,
/// so that blocks with few tokens left can be made into full ones (cache/compact.hpp). A block of zero bytes decodes to
/// finite numbers. Whoever moves a code keeps its place: decode() gets a RunPlace whose offset + index is that of before,
/// score() gets BlockSpan::places. Keys whose codes mean what they do only beside the origin of their run say so by a member
/// needs_origin(); they move to runs of the same origin only.
template <class F>
concept RowMovable = BlockFormat<F> && requires(const F& format, const std::byte* from, std::size_t index, std::byte* to) {
  // Whether a code means the same in every slot, its place given.
  { format.rows_move() } noexcept -> std::same_as<bool>;
  // Slot `to_index` of block `to`, which holds zeros, gets the code of slot `index` of block `from`.
  { format.copy_row(from, index, to, index) } noexcept;
};

/// What keys say of needs_origin(); false where they say nothing.
template <KeyPolicy P>
[[nodiscard]] bool needs_origin(const P& keys) noexcept {
  if constexpr (requires { keys.needs_origin(); }) {
    return keys.needs_origin();
  } else {
    return false;
  }
}

/// A value format.
template <class P>
concept ValuePolicy =
    BlockFormat<P> && requires(const P& policy, typename P::WeightedSum& sum, FloatRows rows, std::byte* block,
                               const std::byte* coded, std::size_t index, float* row, std::size_t queries,
                               const float* factors, BlockSpan span, const float* weights, std::size_t stride,
                               float* outs) {
      requires std::default_initializable<typename P::WeightedSum> && std::movable<typename P::WeightedSum>;
      { policy.encode(rows, block) } noexcept;
      { policy.decode(coded, index, row) } noexcept;
      // An empty sum for 1..16 queries. May allocate, the first time for a group size only.
      { policy.begin(sum, queries) };
      // Multiplies what was added so far for query q by factors[q] (online softmax).
      { policy.rescale(sum, factors) } noexcept;
      // Adds Σ_t weights[q·stride + t] · value t; weights ≥ 0, and 0 behind the last valid token of a block.
      { policy.add(sum, span, weights, stride) } noexcept;
      // outs[q·stride + d] += the sum of query q.
      { policy.finish(sum, outs, stride) } noexcept;
    };

/// A value format that gives bits to the tokens that matter: with each row it is told how much attention the token has got.
/// The cache collects that while tokens wait in the recent window (attend/collect.hpp).
template <class P>
concept SaliencyAware = ValuePolicy<P> && requires(const P& policy, FloatRows rows, const float* saliency, std::byte* block) {
  // Whether it makes a difference.
  { policy.wants_saliency() } noexcept -> std::same_as<bool>;
  // saliency[t] ≥ 0 of each row; 0: nobody will read the row. encode(rows, block) is the same with all of them equal.
  { policy.encode(rows, saliency, block) } noexcept;
};

/// What values say of wants_saliency(); false where they say nothing.
template <ValuePolicy P>
[[nodiscard]] bool wants_saliency(const P& values) noexcept {
  if constexpr (SaliencyAware<P>) {
    return values.wants_saliency();
  } else {
    return false;
  }
}

/// encode with the saliency of each row, for any format.
template <ValuePolicy P>
void encode_values(const P& values, FloatRows rows, const float* saliency, std::byte* block) noexcept {
  if constexpr (SaliencyAware<P>) {
    values.encode(rows, saliency, block);
  } else {
    values.encode(rows, block);
  }
}

}  // namespace pqkv::inline PQKV_ABI
