// choose_evicted: from scores to the ranges of tokens that go. Layer 6.
#pragma once

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

#include "pqkv/cache/token_range.hpp"

namespace pqkv::inline PQKV_ABI {

/// The tokens whose flag is false, as ranges.
PQKV_WHEN_CALLED [[nodiscard]] std::vector<TokenRange> ranges_of_unset(const std::vector<bool>& stays) {
  std::vector<TokenRange> ranges;
  for (std::size_t i = 0; i < stays.size(); ++i) {
    if (stays[i]) continue;
    if (!ranges.empty() && ranges.back().end() == i) {
      ++ranges.back().count;
    } else {
      ranges.push_back({i, 1});
    }
  }
  return ranges;
}

/// What goes so that at most `budget` of scores.size() tokens stay: the first `front` and the newest `back` always do; of
/// the others those in the best chunks of `chunk` tokens (the last may be shorter) by mean score; of equals, the newer. Chunks
/// stay whole, so that up to chunk − 1 fewer than `budget` may stay. Errors: invalid_parameter when the budget is below
/// what is protected.
PQKV_WHEN_CALLED [[nodiscard]] Result<std::vector<TokenRange>> choose_evicted(std::span<const float> scores, std::size_t front,
                                                                              std::size_t back, std::size_t budget,
                                                                              std::size_t chunk = 1) {
  PQKV_EXPECTS(chunk >= 1);
  const std::size_t tokens = scores.size();
  if (budget >= tokens) return std::vector<TokenRange>();
  front = std::min(front, tokens);
  back = std::min(back, tokens - front);
  if (front + back > budget) {
    return Error{Errc::invalid_parameter, message("a budget of ", budget, " tokens is less than the ", front, " first and the ",
                                                  back, " newest that are protected")};
  }
  struct Chunk {
    std::size_t first, count;
    double score;
  };
  std::vector<Chunk> chunks;
  for (std::size_t first = front; first < tokens - back; first += chunk) {
    const std::size_t count = std::min(chunk, tokens - back - first);
    const double sum = std::accumulate(scores.begin() + static_cast<std::ptrdiff_t>(first),
                                       scores.begin() + static_cast<std::ptrdiff_t>(first + count), 0.0);
    chunks.push_back({first, count, sum / static_cast<double>(count)});
  }
  std::sort(chunks.begin(), chunks.end(), [](const Chunk& a, const Chunk& b) {
    return a.score != b.score ? a.score > b.score : a.first > b.first;
  });
  std::vector<bool> stays(tokens, false);
  std::fill_n(stays.begin(), front, true);
  std::fill(stays.end() - static_cast<std::ptrdiff_t>(back), stays.end(), true);
  std::size_t room = budget - front - back;
  for (const Chunk& each : chunks) {
    if (each.count > room) break;
    room -= each.count;
    std::fill_n(stays.begin() + static_cast<std::ptrdiff_t>(each.first), each.count, true);
  }
  return ranges_of_unset(stays);
}

}  // namespace pqkv::inline PQKV_ABI
