// IntegerValues<bits>: int8, int4 and int2 values in groups of channels with a scale and an offset per token. Layer 3b.
// A value is scale·code + offset, code in 0..2^bits − 1: per-token groups, as in KIVI (Liu et al., 2024); scales from a group's
// range, as there, or sought for the least error (codec/integer_fit.hpp).
//
//   block: | scales f16 [groups][32 tokens] | offsets f16 [groups][32] | codes: chunks of 8 channels × 32 tokens |
//
// Scales lie token after token, because they are multiplied into the softmax weights 8 or 16 tokens at a time; codes lie
// so that a 16-bit lane pairs two tokens for an integer multiply-add (isa/kernels.hpp draws the chunk). Nothing is
// decoded: weights·scales become 15-bit integers per block, and the sums are exact integers.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "pqkv/base/result.hpp"
#include "pqkv/codec/integer_fit.hpp"
#include "pqkv/codec/rows_buffer.hpp"
#include "pqkv/isa/select.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

template <std::size_t bits>
class IntegerValues {
  static_assert(bits == 2 || bits == 4 || bits == 8);

 public:
  static constexpr std::string_view name = bits == 8 ? "int8" : bits == 4 ? "int4" : "int2";
  static constexpr std::uint32_t levels = (std::uint32_t{1} << bits) - 1;
  static constexpr std::size_t max_dim = 4096;

  /// [query][dim]
  struct WeightedSum {
    RowsBuffer rows;
  };

  /// `group` channels share a scale; 0 means the whole row. Errors: invalid_shape unless dim is a multiple of 8 and of
  /// the group, and the group is a multiple of 8.
  [[nodiscard]] static Result<IntegerValues> make(std::size_t dim, std::size_t group = 32,
                                                  IntegerFit fit = IntegerFit::range) {
    if (dim == 0 || dim > max_dim || dim % 8 != 0) {
      return Error{Errc::invalid_shape, message(name, " values need a dim that is a multiple of 8 (at most ", max_dim, "), not ",
                                                dim)};
    }
    if (group == 0) group = dim;
    if (group % 8 != 0 || dim % group != 0) {
      std::string choices;
      for (const std::size_t candidate : std::array<std::size_t, 3>{16, 32, 64}) {
        if (candidate < dim && dim % candidate == 0) choices += std::to_string(candidate) + ", ";
      }
      return Error{Errc::invalid_shape, message("groups of ", group, " channels do not divide dim ", dim,
                                                "; choose g from ", choices, "row")};
    }
    return IntegerValues(dim, group, fit);
  }

  [[nodiscard]] std::size_t dim() const noexcept { return dim_; }
  [[nodiscard]] std::size_t group() const noexcept { return group_; }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return groups() * 128 + dim_ * 4 * bits; }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return 0; }
  [[nodiscard]] std::string describe() const {
    return message(name, ":g=", group_ == dim_ ? "row" : std::to_string(group_),
                   fit_ == IntegerFit::least_error ? ":search=1" : "");
  }

  /// Elements beyond ±65504, the range of the f16 scales and offsets, saturate.
  void encode(FloatRows rows, std::byte* block) const noexcept {
    PQKV_EXPECTS(rows.dim == dim_ && rows.count >= 1 && rows.count <= block_tokens);
    std::memset(block, 0, block_bytes());
    auto* codes = reinterpret_cast<std::uint8_t*>(block + groups() * 128);
    const isa::KernelSet& kernels = isa::best();
    f16 scales[max_dim / 8];
    f16 offsets[max_dim / 8];
    std::uint8_t four[4][max_dim];  // codes of four tokens
    for (std::size_t t = 0; t < rows.count; t += 4) {
      for (std::size_t i = 0; i < 4; ++i) {
        if (t + i >= rows.count) {
          std::memset(four[i], 0, dim_);
          continue;
        }
        kernels.integer_encode(rows.row(t + i), dim_, group_, levels, scales, offsets, four[i]);
        for (std::size_t g = 0; g < groups(); ++g) {
          if (fit_ == IntegerFit::least_error) {
            fit_integers(rows.row(t + i) + g * group_, group_, levels, scales[g], offsets[g], four[i] + g * group_);
          }
          put(block, g, t + i, scales[g]);
          put(block, groups() + g, t + i, offsets[g]);
        }
      }
      pack(four, t, codes);
    }
  }

  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    const auto* codes = reinterpret_cast<const std::uint8_t*>(block + groups() * 128);
    for (std::size_t d = 0; d < dim_; ++d) {
      const float scale = to_float(get(block, d / group_, index));
      const float offset = to_float(get(block, groups() + d / group_, index));
      row[d] = scale * static_cast<float>(isa::scalar::integer_code<bits>(codes, d, index)) + offset;
    }
  }

  [[nodiscard]] bool rows_move() const noexcept { return true; }
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept {
    for (std::size_t line = 0; line < 2 * groups(); ++line) put(to, line, to_index, get(from, line, index));
    const auto* source = reinterpret_cast<const std::uint8_t*>(from + groups() * 128);
    auto* target = reinterpret_cast<std::uint8_t*>(to + groups() * 128);
    for (std::size_t d = 0; d < dim_; ++d) {
      const auto [byte, shift] = isa::scalar::integer_place<bits>(d, to_index);
      target[byte] = static_cast<std::uint8_t>(target[byte] | isa::scalar::integer_code<bits>(source, d, index) << shift);
    }
  }

  void begin(WeightedSum& sum, std::size_t queries) const {
    sum.rows.shape(queries, dim_);
    sum.rows.fill(0);
  }
  void rescale(WeightedSum& sum, const float* factors) const noexcept { sum.rows.scale(factors); }
  void add(WeightedSum& sum, BlockSpan span, const float* weights, std::size_t stride) const noexcept {
    const isa::KernelSet& kernels = isa::best();
    const auto accumulate = bits == 8   ? kernels.int8_accumulate
                            : bits == 4 ? kernels.int4_accumulate
                                        : kernels.int2_accumulate;
    accumulate(span.data, span.blocks(), dim_, group_, weights, sum.rows.count(), stride, sum.rows.data(), span.ahead);
  }
  void finish(WeightedSum& sum, float* outs, std::size_t stride) const noexcept { sum.rows.add_to(outs, stride); }

 private:
  IntegerValues(std::size_t dim, std::size_t group, IntegerFit fit) noexcept : dim_(dim), group_(group), fit_(fit) {}
  [[nodiscard]] std::size_t groups() const noexcept { return dim_ / group_; }

  static void put(std::byte* block, std::size_t line, std::size_t token, f16 value) noexcept {
    std::memcpy(block + (line * block_tokens + token) * sizeof(f16), &value, sizeof value);
  }
  [[nodiscard]] static f16 get(const std::byte* block, std::size_t line, std::size_t token) noexcept {
    f16 value{};
    std::memcpy(&value, block + (line * block_tokens + token) * sizeof(f16), sizeof value);
    return value;
  }
  /// Codes of tokens `first` … `first` + 3, a multiple of 4, into their crumbs of the (still empty) dwords.
  void pack(const std::uint8_t (&four)[4][max_dim], std::size_t first, std::uint8_t* codes) const noexcept {
    const auto [row, shift] = isa::scalar::integer_place<bits>(0, first);
    for (std::size_t d = 0; d < dim_; d += 8) {
      std::uint32_t dwords[8];
      std::uint8_t* place = codes + row + d * 4 * bits;
      std::memcpy(dwords, place, sizeof dwords);
      for (std::size_t i = 0; i < 8; ++i) {
        const std::uint32_t tokens = four[0][d + i] | std::uint32_t{four[1][d + i]} << 8 |
                                     std::uint32_t{four[2][d + i]} << 16 | std::uint32_t{four[3][d + i]} << 24;
        dwords[i] |= tokens << shift;
      }
      std::memcpy(place, dwords, sizeof dwords);
    }
  }

  std::size_t dim_;
  std::size_t group_;
  IntegerFit fit_;
};

using Int8Values = IntegerValues<8>;
using Int4Values = IntegerValues<4>;
using Int2Values = IntegerValues<2>;

static_assert(ValuePolicy<Int8Values> && ValuePolicy<Int4Values> && ValuePolicy<Int2Values>);
static_assert(RowMovable<Int8Values> && RowMovable<Int4Values> && RowMovable<Int2Values>);

}  // namespace pqkv::inline PQKV_ABI
