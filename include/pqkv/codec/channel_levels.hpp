// ChannelLevels<bits>: every channel of a block rounded to levels of its own, which a codebook of single channels holds.
// Layer 2. This is the non-uniform quantisation of KVQuant (Hooper et al., KVQuant: Towards 10 Million Context Length LLM
// Inference with KV Cache Quantization, 2024) with channels normalised one by one; there all channels share one list of
// levels up to their scale and shift, here a channel may have any, because levels are no part of a block.
//
//   block: | codes: a unit of 32 tokens for each channel |
//
// `bits` per element all told.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "pqkv/base/result.hpp"
#include "pqkv/codec/codebook.hpp"
#include "pqkv/codec/level_codes.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

template <std::size_t bits>
class ChannelLevels {
  static_assert(bits >= 2 && bits <= 4);

 public:
  static constexpr std::string_view name = bits == 4 ? "nuq4" : bits == 3 ? "nuq3" : "nuq2";
  static constexpr std::size_t count = std::size_t{1} << bits;

  /// Errors: invalid_shape unless the codebook has 2^bits centroids for each channel.
  [[nodiscard]] static Result<ChannelLevels> make(std::shared_ptr<const Codebook> codebook) {
    PQKV_EXPECTS(codebook != nullptr);
    const CodebookShape& shape = codebook->shape();
    if (shape.centroids != count || shape.subspaces != shape.dim) {
      return Error{Errc::invalid_shape, message("a codebook with ", shape.subspaces, " subspaces of ", shape.centroids,
                                                " centroids cannot serve ", name, ", which needs ", shape.dim, " of ", count)};
    }
    return ChannelLevels(std::move(codebook));
  }

  [[nodiscard]] std::size_t dim() const noexcept { return codebook_->shape().dim; }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return dim() * unit_bytes<bits>; }
  [[nodiscard]] const Codebook& codebook() const noexcept { return *codebook_; }

  /// Missing rows have the codes of the last.
  void encode(FloatRows rows, std::byte* block) const noexcept {
    PQKV_EXPECTS(rows.dim == dim() && rows.count >= 1 && rows.count <= block_tokens);
    for (std::size_t c = 0; c < dim(); ++c) {
      const float* levels = codebook_->centroids(c);
      std::uint8_t codes[block_tokens];
      for (std::size_t t = 0; t < block_tokens; ++t) {
        const float x = rows.row(std::min(t, rows.count - 1))[c];
        std::size_t nearest = 0;
        float least = std::fabs(x - levels[0]);
        for (std::size_t i = 1; i < count; ++i) {
          const float distance = std::fabs(x - levels[i]);
          nearest = distance < least ? i : nearest;
          least = std::min(distance, least);
        }
        codes[t] = static_cast<std::uint8_t>(nearest);
      }
      pack_unit<bits>(codes, reinterpret_cast<std::uint8_t*>(block) + c * unit_bytes<bits>);
    }
  }
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    const auto* units = reinterpret_cast<const std::uint8_t*>(block);
    for (std::size_t c = 0; c < dim(); ++c) {
      row[c] = unit_level<bits>(units + c * unit_bytes<bits>, index, codebook_->centroids(c));
    }
  }
  /// out[c·32 + t]: channels `first` … of a block.
  void unpack(const std::byte* block, std::size_t first, std::size_t channels, float* out) const noexcept {
    const auto* units = reinterpret_cast<const std::uint8_t*>(block) + first * unit_bytes<bits>;
    unpack_units<bits>(units, unit_bytes<bits>, channels, codebook_->centroids(first), count, nullptr, out);
  }

 private:
  explicit ChannelLevels(std::shared_ptr<const Codebook> codebook) noexcept : codebook_(std::move(codebook)) {}
  std::shared_ptr<const Codebook> codebook_;
};

}  // namespace pqkv::inline PQKV_ABI
