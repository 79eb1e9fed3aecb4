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
inline constexpr std::size_t prefetch_bytes = 4096;
inline void prefetch_head(const std::byte* first, std::size_t bytes) noexcept {
  constexpr std::size_t line = 64;
  for (std::size_t i = 0; i < std::min(bytes, prefetch_bytes); i += line) __builtin_prefetch(first + i, 0, 2);
}

namespace detail {

/// Makes the largest score of the tile the partial's, and scales what was added before.
template <ValuePolicy V>
void raise_to_tile(Partial& partial, const V& policy, typename V::WeightedSum& sum, std::size_t tokens, const float* scores,
                   std::size_t stride) noexcept {
  float factors[max_group];
  bool raised = false;
  for (std::size_t q = 0; q < partial.queries(); ++q) {
    const float most = isa::best().maximum(scores + q * stride, tokens);
    factors[q] = is_seen(most) ? partial.raise(q, most) : 1.0f;
    raised = raised || factors[q] != 1.0f;
  }
  if (!raised) return;
  partial.rescale_out(factors);
  policy.rescale(sum, factors);
}

/// Blocks of a tile that are read, one behind the other.
struct KeptSpan {
  std::size_t first = 0;
  std::size_t last = 0;  // the first that is not
};

/// Weights of a tile become masses; those of blocks that weigh too little are skipped. Fills `spans` with the others and
/// returns how many spans they are.
inline std::size_t split_tile(Partial& partial, std::size_t tokens, float* scores, std::size_t stride, float skip_below,
                              KeptSpan* spans) noexcept {
  const std::size_t count = partial.queries(), blocks = (tokens + block_tokens - 1) / block_tokens;
  float masses[max_group][most_tile_blocks];
  for (std::size_t q = 0; q < count; ++q) {
    float* line = scores + q * stride;
    std::fill(line + tokens, line + blocks * block_tokens, unseen_score);
    isa::best().exponential_blocks(line, blocks, partial.largest(q), masses[q]);
  }
  std::size_t found = 0;
  for (std::size_t b = 0; b < blocks; ++b) {
    // Never more than 1, the weight of the largest score: its block is read.
    const auto size = static_cast<float>(std::min(block_tokens, tokens - b * block_tokens));
    const float least = std::min(skip_below * size, 1.0f);
    bool kept = false;
    for (std::size_t q = 0; q < count; ++q) kept = kept || masses[q][b] >= least;
    for (std::size_t q = 0; q < count; ++q) {
      if (kept) {
        partial.add_sum(q, masses[q][b]);
      } else {
        partial.add_skipped(q, masses[q][b]);
      }
    }
    if (!kept) continue;
    if (found == 0 || spans[found - 1].last != b) spans[found++] = {b, b};
    spans[found - 1].last = b + 1;
  }
  return found;
}

}  // namespace detail

/// Compressed blocks: `scores` [query][stride] of the span's tokens become weights, and the values are added to `sum`.
/// Returns how many blocks were read: with skip_below > 0 those whose tokens' weights, relative to the largest score so
/// far, are on average at least that for some query; the mass of the others is added to the partial's skipped mass.
template <ValuePolicy V>
std::size_t attend_tile(Partial& partial, const V& policy, typename V::WeightedSum& sum, BlockSpan values, float* scores,
                        std::size_t stride, float skip_below) noexcept {
  PQKV_EXPECTS(values.blocks() <= most_tile_blocks);
  detail::raise_to_tile(partial, policy, sum, values.tokens, scores, stride);
  if (skip_below <= 0) {
    for (std::size_t q = 0; q < partial.queries(); ++q) {
      float* line = scores + q * stride;
      partial.add_sum(q, isa::best().exponential(line, values.tokens, partial.largest(q)));
      std::fill(line + values.tokens, line + values.blocks() * block_tokens, 0.0f);
    }
    policy.add(sum, values, scores, stride);
    return values.blocks();
  }
  detail::KeptSpan spans[most_tile_blocks];
  const std::size_t found = detail::split_tile(partial, values.tokens, scores, stride, skip_below, spans);
  const auto begin_of = [&](const detail::KeptSpan& span) { return values.data + span.first * policy.block_bytes(); };
  const auto bytes_of = [&](const detail::KeptSpan& span) { return (span.last - span.first) * policy.block_bytes(); };
  std::size_t asked = 0, on_their_way = 0, read = 0;
  for (std::size_t i = 0; i < found; ++i) {
    for (; asked < found && (asked <= i || on_their_way < prefetch_bytes); ++asked) {
      prefetch_head(begin_of(spans[asked]), bytes_of(spans[asked]));
      on_their_way += std::min(bytes_of(spans[asked]), prefetch_bytes);
    }
    const std::size_t begin = spans[i].first * block_tokens, end = std::min(spans[i].last * block_tokens, values.tokens);
    policy.add(sum, {begin_of(spans[i]), end - begin}, scores + begin, stride);
    on_their_way -= std::min(bytes_of(spans[i]), prefetch_bytes);
    read += spans[i].last - spans[i].first;
  }
  return read;
}

}  // namespace pqkv::inline PQKV_ABI
