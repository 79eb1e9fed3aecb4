// One tile: scores of some tokens enter a Partial (online softmax), their weighted values enter a sum. Layer 5.
// Neither keys nor values are materialised; a tile's scores stay in the first-level cache.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "pqkv/attend/late_blocks.hpp"
#include "pqkv/attend/partial.hpp"
#include "pqkv/attend/score_rules.hpp"
#include "pqkv/codec/exact_rows.hpp"
#include "pqkv/isa/select.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// Floats of scores per tile: 8 KiB, so that scores, tables and sums share the first-level cache.
inline constexpr std::size_t tile_scores = 2048;

/// Tokens per tile for a group of that size, whole blocks.
[[nodiscard]] constexpr std::size_t tile_tokens(std::size_t queries) noexcept {
  return std::clamp(tile_scores / queries / block_tokens * block_tokens, std::size_t{128}, std::size_t{512});
}

inline constexpr std::size_t most_tile_blocks = tile_tokens(1) / block_tokens;
static_assert(most_tile_blocks < 32);  // a bit each

/// Leaves scores as they are.
struct NoAdjustment {
  void operator()(std::size_t /*first*/, std::size_t /*size*/, float* /*scores*/, std::size_t /*stride*/) const noexcept {}
};

/// Exact rows: query q sees the first visible[q] of `tokens` rows. `scores` has queries · tile_tokens(queries) floats.
/// `queries` are scaled, [query][dim]. adjust(first row, rows, scores, stride) may change the scores of a tile.
template <class Adjust = NoAdjustment>
void attend_exact(Partial& partial, const ExactRows& rows, const std::byte* keys, const std::byte* values,
                  std::size_t tokens, const float* queries, const std::size_t* visible, float* scores,
                  const Adjust& adjust = {}) noexcept {
  const isa::KernelSet& kernels = isa::best();
  const std::size_t count = partial.queries();
  const std::size_t step = tile_tokens(count);
  for (std::size_t first = 0; first < tokens; first += step) {
    const std::size_t size = std::min(step, tokens - first);
    rows.dot(keys + first * rows.row_bytes(), size, queries, count, scores, step);
    adjust(first, size, scores, step);
    float factors[max_group];
    for (std::size_t q = 0; q < count; ++q) {
      float* line = scores + q * step;
      const std::size_t seen = visible[q] > first ? std::min(size, visible[q] - first) : 0;
      factors[q] = 1.0f;
      if (seen > 0) {
        const float most = kernels.maximum(line, seen);
        if (is_seen(most)) factors[q] = partial.raise(q, most);
        partial.add_sum(q, kernels.exponential(line, seen, partial.largest(q)));
      }
      std::fill(line + seen, line + size, 0.0f);
    }
    partial.rescale_out(factors);
    rows.accumulate(values + first * rows.row_bytes(), size, scores, count, step, partial.out());
  }
}

namespace detail {

/// Makes the largest score of the tile the partial's, and scales what came before, late blocks included.
template <ValuePolicy V>
void raise_to_tile(Partial& partial, const V& policy, typename V::WeightedSum& sum, LateBlocks& late, std::size_t tokens,
                   const float* scores, std::size_t stride) noexcept {
  float factors[max_group];
  bool raised = false;
  for (std::size_t q = 0; q < partial.queries(); ++q) {
    const float most = isa::best().maximum(scores + q * stride, tokens);
    factors[q] = is_seen(most) ? partial.raise(q, most) : 1.0f;
    raised = raised || factors[q] != 1.0f;
  }
  if (!raised) return;
  late.flush(policy, sum);
  partial.rescale_out(factors);
  policy.rescale(sum, factors);
}

/// The blocks of a tile that some query wants read; the mass of the others counts as skipped.
[[nodiscard]] inline std::uint32_t choose_blocks(Partial& partial, std::size_t tokens, const float* scores, std::size_t stride,
                                                 float skip_below) noexcept {
  const std::size_t blocks = (tokens + block_tokens - 1) / block_tokens;
  float masses[max_group][most_tile_blocks];
  std::uint32_t kept = 0;
  for (std::size_t q = 0; q < partial.queries(); ++q) {
    isa::best().mass_bounds(scores + q * stride, blocks, partial.largest(q), masses[q]);
    for (std::size_t b = 0; b < blocks; ++b) {
      // Never more than 1, the weight of the largest score: its block is read.
      const auto size = static_cast<float>(std::min(block_tokens, tokens - b * block_tokens));
      kept |= static_cast<std::uint32_t>(masses[q][b] >= std::min(skip_below * size, 1.0f)) << b;
    }
  }
  for (std::size_t q = 0; q < partial.queries(); ++q) {
    float skipped = 0;
    for (std::size_t b = 0; b < blocks; ++b) skipped += (kept >> b & 1u) != 0 ? 0.0f : masses[q][b];
    partial.add_skipped(q, skipped);
  }
  return kept;
}

}  // namespace detail

/// Compressed blocks: `scores` [query][stride] of the span's tokens become weights, and the values are on their way to `sum`
/// (late.flush brings the last of them there). With skip_below > 0 only blocks are read whose tokens' weights, relative to the
/// largest score so far, are on average at least that for some query; a bound of the others' mass, no more than
/// isa::mass_bound_excess times it, is added to the partial's skipped mass.
template <ValuePolicy V>
void attend_tile(Partial& partial, const V& policy, typename V::WeightedSum& sum, LateBlocks& late, BlockSpan values,
                 float* scores, std::size_t stride, float skip_below) noexcept {
  PQKV_EXPECTS(values.blocks() <= most_tile_blocks);
  detail::raise_to_tile(partial, policy, sum, late, values.tokens, scores, stride);
  const std::size_t blocks = values.blocks();
  for (std::size_t q = 0; q < partial.queries(); ++q) {
    std::fill(scores + q * stride + values.tokens, scores + q * stride + blocks * block_tokens, unseen_score);
  }
  std::uint32_t kept = (std::uint32_t{1} << blocks) - 1;
  if (skip_below > 0) kept = detail::choose_blocks(partial, values.tokens, scores, stride, skip_below);
  while (kept != 0) {
    const auto first = static_cast<std::size_t>(std::countr_zero(kept));
    const auto count = static_cast<std::size_t>(std::countr_one(kept >> first));
    float* line = scores + first * block_tokens;
    for (std::size_t q = 0; q < partial.queries(); ++q) {
      partial.add_sum(q, isa::best().exponential(line + q * stride, count * block_tokens, partial.largest(q)));
    }
    late.push(policy, sum, values.data + first * policy.block_bytes(), count, line, stride);
    kept &= ~(((std::uint32_t{1} << count) - 1) << first);
  }
}

}  // namespace pqkv::inline PQKV_ABI
