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

/// Compressed blocks: `scores` [query][stride] of the span's tokens become weights, and the values are added to `sum`.
/// Blocks in which every weight of every query is below exp(log_skip) of the largest score so far are not read; their
/// mass is added to the partial's skipped mass. log_skip > 0 turns that off.
template <ValuePolicy V>
void attend_tile(Partial& partial, const V& policy, typename V::WeightedSum& sum, BlockSpan values, float* scores,
                 std::size_t stride, float log_skip) noexcept {
  const isa::KernelSet& kernels = isa::best();
  const std::size_t count = partial.queries();
  const std::size_t blocks = values.blocks();
  const auto block_size = [&](std::size_t b) { return std::min(block_tokens, values.tokens - b * block_tokens); };

  float factors[max_group];
  bool raised = false;
  for (std::size_t q = 0; q < count; ++q) {
    const float most = kernels.maximum(scores + q * stride, values.tokens);
    factors[q] = is_seen(most) ? partial.raise(q, most) : 1.0f;
    raised = raised || factors[q] != 1.0f;
  }
  if (raised) {
    partial.rescale_out(factors);
    policy.rescale(sum, factors);
  }

  const auto negligible = [&](std::size_t b) {
    for (std::size_t q = 0; q < count; ++q) {
      const float most = kernels.maximum(scores + q * stride + b * block_tokens, block_size(b));
      if (most - partial.largest(q) >= log_skip) return false;
    }
    return true;
  };
  const bool skipping = log_skip <= 0;
  const std::size_t block_bytes = policy.block_bytes();
  std::size_t first = 0;
  while (first < blocks) {
    const bool skip = skipping && negligible(first);
    std::size_t last = first + 1;
    while (last < blocks && (!skipping || negligible(last) == skip)) ++last;
    const std::size_t begin = first * block_tokens;
    const std::size_t tokens = std::min(last * block_tokens, values.tokens) - begin;
    for (std::size_t q = 0; q < count; ++q) {
      float* line = scores + q * stride + begin;
      const float mass = kernels.exponential(line, tokens, partial.largest(q));
      if (skip) {
        partial.add_skipped(q, mass);
      } else {
        partial.add_sum(q, mass);
        std::fill(line + tokens, line + (last - first) * block_tokens, 0.0f);
      }
    }
    if (!skip) {
      policy.add(sum, {values.data + first * block_bytes, tokens}, scores + begin, stride);
    }
    first = last;
  }
}

}  // namespace pqkv::inline PQKV_ABI
