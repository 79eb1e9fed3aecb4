// ChannelIntegerKeys<bits>: 2-, 4- or 8-bit keys with a scale and a least element per channel and block of 32 tokens. Layer 3b.
// These are the keys of KIVI (Liu et al., KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache, 2024): channels of
// keys differ in range far more than tokens do, so it is channels that need scales of their own; KIVI's residual tokens are the
// cache's recent window, and its values, per token in groups of 32 channels, are IntegerValues. A key is least + scale·code.
//
//   block: | scales f16 [dim] | least elements f16 [dim] | codes: a unit of 32 tokens for each channel |
//
// bits + 1 bits per element all told. A channel's tokens lie together because that is what its scale multiplies and what
// scoring runs over: per block codes become floats once for all queries of the group, tokens in vector lanes, and channels
// are summed as a small product. The least elements are one dot product per query and block.
#pragma once

#include <algorithm>
#include <cstring>

#include "pqkv/base/result.hpp"
#include "pqkv/codec/integer_fit.hpp"
#include "pqkv/codec/level_codes.hpp"
#include "pqkv/codec/rows_buffer.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

template <std::size_t bits>
class ChannelIntegerKeys {
  static_assert(bits == 2 || bits == 4 || bits == 8);

 public:
  static constexpr std::string_view name = bits == 8 ? "kivi8" : bits == 4 ? "kivi4" : "kivi2";
  static constexpr std::uint32_t most = (std::uint32_t{1} << bits) - 1;
  static constexpr std::size_t max_dim = 1024;

  /// The queries themselves, [query][dim].
  struct QueryTable {
    RowsBuffer queries;
  };

  /// `fit`: scales from a channel's range, as in KIVI, or sought for the least error (codec/integer_fit.hpp).
  /// Errors: invalid_shape unless dim is in 1..1024.
  [[nodiscard]] static Result<ChannelIntegerKeys> make(std::size_t dim, IntegerFit fit = IntegerFit::range) {
    if (dim == 0 || dim > max_dim) {
      return Error{Errc::invalid_shape, message(name, " keys need a dim in 1..", max_dim, ", not ", dim)};
    }
    return ChannelIntegerKeys(dim, fit);
  }

  [[nodiscard]] std::size_t dim() const noexcept { return dim_; }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return dim_ * (2 * sizeof(f16) + unit_bytes<bits>); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return 0; }
  [[nodiscard]] std::size_t run_tokens() const noexcept { return unlimited_tokens; }
  [[nodiscard]] std::string describe() const {
    return message(name, fit_ == IntegerFit::least_error ? ":search=1" : "");
  }

  /// Elements beyond ±65504, the range of the f16 scales and least elements, saturate. Missing tokens repeat the last.
  void encode(FloatRows rows, RunPlace /*place*/, std::byte* block) const noexcept {
    PQKV_EXPECTS(rows.dim == dim_ && rows.count >= 1 && rows.count <= block_tokens);
    const isa::KernelSet& kernels = isa::best();
    for (std::size_t first = 0; first < dim_; first += channels_at_once) {
      const std::size_t count = std::min(channels_at_once, dim_ - first);
      float channels[channels_at_once * block_tokens];
      for (std::size_t t = 0; t < block_tokens; ++t) {
        const float* row = rows.row(std::min(t, rows.count - 1)) + first;
        for (std::size_t c = 0; c < count; ++c) channels[c * block_tokens + t] = row[c];
      }
      f16 scales[channels_at_once];
      f16 least[channels_at_once];
      std::uint8_t codes[channels_at_once * block_tokens];
      kernels.integer_encode(channels, count * block_tokens, block_tokens, most, scales, least, codes);
      for (std::size_t c = 0; c < count && fit_ == IntegerFit::least_error; ++c) {
        fit_integers(channels + c * block_tokens, block_tokens, most, scales[c], least[c], codes + c * block_tokens);
      }
      std::memcpy(block + first * sizeof(f16), scales, count * sizeof(f16));
      std::memcpy(block + (dim_ + first) * sizeof(f16), least, count * sizeof(f16));
      for (std::size_t c = 0; c < count; ++c) {
        std::uint8_t* unit = codes + c * block_tokens;
        if constexpr (bits == 8) {
          for (std::size_t t = 0; t < block_tokens; ++t) unit[t] = static_cast<std::uint8_t>(unit[t] - middle);
        }
        pack_unit<bits>(unit, units(block) + (first + c) * unit_bytes<bits>);
      }
    }
  }

  void decode(const std::byte* block, std::size_t index, RunPlace /*place*/, float* row) const noexcept {
    float scales[max_dim];
    float offsets[max_dim];
    load_scales(block, scales, offsets);
    for (std::size_t c = 0; c < dim_; ++c) {
      row[c] = scales[c] * unit_level<bits>(units(block) + c * unit_bytes<bits>, index, levels.data()) + offsets[c];
    }
  }

  void prepare(QueryTable& table, FloatRows queries) const { table.queries.assign(queries); }
  void turn(QueryTable& /*table*/, std::int64_t /*origin*/) const noexcept {}

  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    const isa::KernelSet& kernels = isa::best();
    const std::size_t count = table.queries.count();
    for (std::size_t b = 0; b < span.blocks(); ++b) {
      span.ask_ahead(b * block_bytes(), block_bytes());
      const std::byte* block = span.data + b * block_bytes();
      float scales[max_dim];
      float offsets[max_dim];
      load_scales(block, scales, offsets);
      float sums[max_group * block_tokens];
      kernels.dot_f32(offsets, 1, dim_, table.queries.data(), count, sums, block_tokens);
      for (std::size_t q = 0; q < count; ++q) std::fill_n(sums + q * block_tokens, block_tokens, sums[q * block_tokens]);
      add_channel_dots(table.queries.data(), count, dim_, sums, [&](std::size_t first, std::size_t channels, float* tile) {
        unpack_units<bits>(units(block) + first * unit_bytes<bits>, unit_bytes<bits>, channels, levels.data(), 0,
                           scales + first, tile);
      });
      for (std::size_t q = 0; q < count; ++q) {
        std::memcpy(scores + q * stride + b * block_tokens, sums + q * block_tokens, block_tokens * sizeof(float));
      }
    }
  }

 private:
  /// Codes of 8 bits are stored less their middle, as signed bytes.
  static constexpr int middle = bits == 8 ? 128 : 0;
  static constexpr auto levels = integer_levels<bits>();

  ChannelIntegerKeys(std::size_t dim, IntegerFit fit) noexcept : dim_(dim), fit_(fit) {}

  [[nodiscard]] std::uint8_t* units(std::byte* block) const noexcept {
    return reinterpret_cast<std::uint8_t*>(block + 2 * dim_ * sizeof(f16));
  }
  [[nodiscard]] const std::uint8_t* units(const std::byte* block) const noexcept {
    return reinterpret_cast<const std::uint8_t*>(block + 2 * dim_ * sizeof(f16));
  }
  /// Per channel the scale, and what a code of level 0 stands for.
  void load_scales(const std::byte* block, float* scales, float* offsets) const noexcept {
    f16 stored[2 * max_dim];
    std::memcpy(stored, block, 2 * dim_ * sizeof(f16));
    isa::best().f16_to_f32(stored, dim_, scales);
    isa::best().f16_to_f32(stored + dim_, dim_, offsets);
    if constexpr (middle != 0) {
      for (std::size_t c = 0; c < dim_; ++c) offsets[c] += static_cast<float>(middle) * scales[c];
    }
  }

  std::size_t dim_;
  IntegerFit fit_;
};

using Kivi8Keys = ChannelIntegerKeys<8>;
using Kivi4Keys = ChannelIntegerKeys<4>;
using Kivi2Keys = ChannelIntegerKeys<2>;

static_assert(KeyPolicy<Kivi8Keys> && KeyPolicy<Kivi4Keys> && KeyPolicy<Kivi2Keys>);

}  // namespace pqkv::inline PQKV_ABI
