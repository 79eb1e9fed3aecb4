// SparseEntries: the elements of a block that a format renders worst, kept apart: where they are, and what they lack. Layer 2.
// (The dense-and-sparse split of KVQuant by Hooper et al., 2024, with the share taken per block rather than per row, so that a
// block always has the same number of entries and so of bytes.)
//
//   | differences f16 [slots] | places u16 [slots]: channel·32 + token, ascending |
//
// An element is what the format decodes plus its difference: exact to half a unit in the last of the difference's 11 places.
// 4 bytes per entry: one element in a hundred costs 0.32 bits per element.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "pqkv/base/half.hpp"
#include "pqkv/base/result.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

class SparseEntries {
 public:
  static constexpr std::size_t max_dim = 1024;
  static constexpr std::size_t max_slots = block_tokens * max_dim / 20;

  /// Room for `percent` of a block's elements, rounded to the nearest, at least one.
  /// Errors: invalid_parameter unless percent is in 1..5; invalid_shape for a dim beyond 1024.
  [[nodiscard]] static Result<SparseEntries> make(std::size_t dim, std::size_t percent) {
    if (percent < 1 || percent > 5) {
      return Error{Errc::invalid_parameter, message("outliers=", percent, ": choose 0..5 (percent)")};
    }
    if (dim == 0 || dim > max_dim) {
      return Error{Errc::invalid_shape, message("outliers need a dim in 1..", max_dim, ", not ", dim)};
    }
    return SparseEntries(dim, percent, std::max<std::size_t>((block_tokens * dim * percent + 50) / 100, 1));
  }

  [[nodiscard]] std::size_t percent() const noexcept { return percent_; }
  [[nodiscard]] std::size_t slots() const noexcept { return slots_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return slots_ * (sizeof(f16) + sizeof(std::uint16_t)); }

  /// The elements whose decoded(t) differs most; of equals those first in channel, then token. Differences beyond ±65504
  /// saturate. `decode(t, row)` gives row t as the format renders it.
  template <class Decode>
  void encode(FloatRows rows, Decode&& decode, std::byte* out) const noexcept {
    struct Entry {
      float difference;
      std::uint16_t place;
    };
    Entry worst[max_slots];  // a heap, the least of them first
    const auto worse = [](const Entry& a, const Entry& b) {
      const float left = std::fabs(a.difference), right = std::fabs(b.difference);
      return left > right || (left == right && a.place < b.place);
    };
    std::size_t count = 0;
    for (std::size_t t = 0; t < rows.count; ++t) {
      float row[max_dim];
      decode(t, row);
      for (std::size_t c = 0; c < dim_; ++c) {
        const Entry entry{rows.row(t)[c] - row[c], static_cast<std::uint16_t>(c * block_tokens + t)};
        if (count == slots_) {
          if (!worse(entry, worst[0])) continue;
          std::pop_heap(worst, worst + count--, worse);
        }
        worst[count++] = entry;
        std::push_heap(worst, worst + count, worse);
      }
    }
    std::sort(worst, worst + count, [](const Entry& a, const Entry& b) { return a.place < b.place; });
    std::memset(out, 0, bytes());
    for (std::size_t i = 0; i < count; ++i) {
      const f16 difference = to_f16(std::clamp(worst[i].difference, -65504.0f, 65504.0f));
      std::memcpy(out + i * sizeof(f16), &difference, sizeof difference);
      std::memcpy(out + (slots_ + i) * sizeof(f16), &worst[i].place, sizeof worst[i].place);
    }
  }

  /// visit(channel, token, difference) for every entry.
  template <class Visit>
  void for_each(const std::byte* entries, Visit&& visit) const noexcept {
    for (std::size_t i = 0; i < slots_; ++i) {
      f16 difference{};
      std::uint16_t place = 0;
      std::memcpy(&difference, entries + i * sizeof(f16), sizeof difference);
      std::memcpy(&place, entries + (slots_ + i) * sizeof(f16), sizeof place);
      visit(std::size_t{place} / block_tokens, std::size_t{place} % block_tokens, to_float(difference));
    }
  }

  /// Adds what row `index` lacks.
  void complete(const std::byte* entries, std::size_t index, float* row) const noexcept {
    for_each(entries, [&](std::size_t channel, std::size_t token, float difference) {
      if (token == index) row[channel] += difference;
    });
  }

 private:
  SparseEntries(std::size_t dim, std::size_t percent, std::size_t slots) noexcept : dim_(dim), percent_(percent), slots_(slots) {}

  std::size_t dim_;
  std::size_t percent_;
  std::size_t slots_;
};

}  // namespace pqkv::inline PQKV_ABI
