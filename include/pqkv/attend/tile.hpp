// One tile: scores of some tokens enter a Partial (online softmax), their weighted values enter a sum. Layer 5.
// Neither keys nor values are materialised; a tile's scores stay in the first-level cache.
#pragma once

#include <algorithm>
#include <cstddef>

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

/// Asks for the first bytes of what will be read soon. Kernels look ahead inside the span that they are given; its
/// beginning is the business of whoever knows that the span is next.
inline void prefetch_head(const std::byte* first, std::size_t bytes) noexcept {
  constexpr std::size_t line = 64;
  for (std::size_t i = 0; i < std::min(bytes, std::size_t{4096}); i += line) __builtin_prefetch(first + i, 0, 2);
}

/// Compressed blocks: `scores` [query][stride] of the span's tokens become weights, and the values are added to `sum`.
/// Blocks in which every weight of every query is below exp(log_skip) of the largest score so far are not read; their
/// mass is added to the partial's skipped mass. log_skip > 0 turns that off.
template <ValuePolicy V>
void attend_tile(Partial& partial, const V& policy, typename V::WeightedSum& sum, BlockSpan values, float* scores,
                 std::size_t stride, float log_skip) noexcept {
  const isa::KernelSet& kernels = isa::best();
  const std::size_t count = partial.queries();
  const std::size_t blocks = values.blocks();
  const std::size_t block_bytes = policy.block_bytes();
  PQKV_EXPECTS(blocks <= most_tile_blocks);

  float block_most[max_group][most_tile_blocks];  // with skipping: the largest score of each block
  const bool skipping = log_skip <= 0;
  float factors[max_group];
  bool raised = false;
  for (std::size_t q = 0; q < count; ++q) {
    const float* line = scores + q * stride;
    float most = 0;
    if (skipping) {
      for (std::size_t b = 0; b < blocks; ++b) {
        const std::size_t begin = b * block_tokens;
        block_most[q][b] = kernels.maximum(line + begin, std::min(block_tokens, values.tokens - begin));
      }
      most = *std::max_element(block_most[q], block_most[q] + blocks);
    } else {
      most = kernels.maximum(line, values.tokens);
    }
    factors[q] = is_seen(most) ? partial.raise(q, most) : 1.0f;
    raised = raised || factors[q] != 1.0f;
  }
  if (raised) {
    partial.rescale_out(factors);
    policy.rescale(sum, factors);
  }

  bool keep[most_tile_blocks + 1] = {};  // and a last one that is not kept
  for (std::size_t b = 0; b < blocks; ++b) {
    keep[b] = !skipping;
    for (std::size_t q = 0; q < count && !keep[b]; ++q) keep[b] = block_most[q][b] - partial.largest(q) >= log_skip;
  }
  const auto next_kept = [&](std::size_t b) {
    while (b < blocks && !keep[b]) ++b;
    return b;
  };
  const auto span_end = [&](std::size_t b) {
    while (keep[b]) ++b;
    return b;
  };
  std::size_t first = next_kept(0);
  if (skipping && first < blocks) {
    prefetch_head(values.data + first * block_bytes, (span_end(first) - first) * block_bytes);
  }
  for (std::size_t b = 0; b < blocks && skipping; ++b) {  // meanwhile
    if (keep[b]) continue;
    const std::size_t begin = b * block_tokens, size = std::min(block_tokens, values.tokens - begin);
    for (std::size_t q = 0; q < count; ++q) {
      partial.add_skipped(q, kernels.exponential(scores + q * stride + begin, size, partial.largest(q)));
    }
  }
  while (first < blocks) {
    const std::size_t last = span_end(first);
    const std::size_t after = next_kept(last);
    if (after < blocks) prefetch_head(values.data + after * block_bytes, (span_end(after) - after) * block_bytes);
    const std::size_t begin = first * block_tokens;
    const std::size_t tokens = std::min(last * block_tokens, values.tokens) - begin;
    for (std::size_t q = 0; q < count; ++q) {
      float* line = scores + q * stride + begin;
      partial.add_sum(q, kernels.exponential(line, tokens, partial.largest(q)));
      std::fill(line + tokens, line + (last - first) * block_tokens, 0.0f);
    }
    policy.add(sum, {values.data + first * block_bytes, tokens}, scores + begin, stride);
    first = after;
  }
}

}  // namespace pqkv::inline PQKV_ABI
