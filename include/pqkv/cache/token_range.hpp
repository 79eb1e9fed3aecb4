// TokenRange: tokens of a sequence by index, and the checks that a list of ranges must pass before anything changes. Layer 4.
#pragma once

#include <cstddef>
#include <span>

#include "pqkv/base/result.hpp"

namespace pqkv::inline PQKV_ABI {

/// `count` tokens from index `first` on. Indices count the tokens that a sequence holds now, oldest first.
struct TokenRange {
  std::size_t first = 0;
  std::size_t count = 0;

  [[nodiscard]] std::size_t end() const noexcept { return first + count; }
};

/// What becomes of the positions behind tokens that are erased.
enum class Gap {
  keep,   ///< every token stays where it is (eviction)
  close,  ///< tokens behind move up by as many positions as there were tokens erased before them (context shift)
};

/// Ok if the ranges are in order, do not overlap and lie within `tokens`. Errors: invalid_parameter, with the numbers.
[[nodiscard]] inline Status check(std::span<const TokenRange> ranges, std::size_t tokens) {
  std::size_t end = 0;
  for (const TokenRange& range : ranges) {
    if (range.first < end || range.count > tokens || range.first > tokens - range.count) {
      return Error{Errc::invalid_parameter,
                   message("tokens ", range.first, " to ", range.first + range.count, " are out of order or not among the ",
                           tokens, " of the sequence; nothing was changed")};
    }
    end = range.end();
  }
  return {};
}

[[nodiscard]] inline std::size_t count_of(std::span<const TokenRange> ranges) noexcept {
  std::size_t sum = 0;
  for (const TokenRange& range : ranges) sum += range.count;
  return sum;
}

}  // namespace pqkv::inline PQKV_ABI
