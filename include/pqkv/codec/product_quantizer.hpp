// ProductQuantizer<bits>: rows ↔ blocks of centroid indices, for 4, 6 and 8 bits (16, 64, 256 centroids). Layer 2.
// Shared by the PQ key formats and the PQ value formats. `m` codes per row: [subspace][stage] (codec/codebook.hpp).
//
//   4 bits, 16·m bytes: code-major; byte j of a code holds tokens j (low nibble) and j + 16 (high), so that one
//   16-byte load and one in-register table look-up serve 32 tokens:
//       code 0: | 0,16 | 1,17 | … | 15,31 |   code 1: | 0,16 | …
//   6 bits, 24·m bytes: code-major; 16 bytes hold the low four bits as above, then byte j of 8 holds the upper two of
//   tokens j, j + 8, j + 16 and j + 24, from its low bits on:
//       code 0: | 0,16 | … | 15,31 | 0,8,16,24 | … | 7,15,23,31 |   code 1: …
//   8 bits, 32·m bytes: groups of 8 tokens, code-major inside, so that one 64-bit load brings the codes of 8 tokens
//   for 8 independent sums:
//       tokens 0–7: | code 0: t0 … t7 | code 1: t0 … t7 | …   tokens 8–15: | …
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "pqkv/base/rows.hpp"
#include "pqkv/codec/codebook.hpp"
#include "pqkv/codec/nearest_sums.hpp"
#include "pqkv/isa/select.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// 16 bytes whose byte j holds tokens j and j + 16: the low nibbles of pq4 and pq6 blocks. Token `to_index`, which holds 0,
/// becomes token `index` of `from`.
inline void copy_nibble(const std::uint8_t* from, std::size_t index, std::uint8_t* to, std::size_t to_index) noexcept {
  const unsigned code = from[index % 16] >> (index / 16 * 4) & 15u;
  to[to_index % 16] = static_cast<std::uint8_t>(to[to_index % 16] | code << (to_index / 16 * 4));
}

template <std::size_t bits>
class ProductQuantizer {
  static_assert(bits == 4 || bits == 6 || bits == 8);

 public:
  static constexpr std::size_t centroids = std::size_t{1} << bits;

  /// Errors: invalid_shape when the codebook has another number of centroids.
  [[nodiscard]] static Result<ProductQuantizer> make(std::shared_ptr<const Codebook> codebook) {
    PQKV_EXPECTS(codebook != nullptr);
    if (codebook->shape().centroids != centroids) {
      return Error{Errc::invalid_shape, message("a codebook with ", codebook->shape().centroids,
                                                " centroids per code cannot serve ", bits, "-bit codes, which need ",
                                                centroids)};
    }
    return ProductQuantizer(std::move(codebook));
  }

  [[nodiscard]] const Codebook& codebook() const noexcept { return *codebook_; }
  [[nodiscard]] std::size_t dim() const noexcept { return codebook_->shape().dim; }
  /// Codes per row.
  [[nodiscard]] std::size_t codes() const noexcept { return codebook_->shape().codes(); }
  [[nodiscard]] std::size_t width() const noexcept { return codebook_->shape().width(); }
  /// Where the piece of a code begins in a row.
  [[nodiscard]] std::size_t first(std::size_t code) const noexcept { return codebook_->shape().first(code); }
  /// "m=8" or "m=4:stages=2", as specs have it.
  [[nodiscard]] std::string describe() const {
    const CodebookShape& shape = codebook_->shape();
    return message("m=", shape.subspaces, shape.stages == 1 ? "" : message(":stages=", shape.stages));
  }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return codes() * block_tokens * bits / 8; }

  /// 1..32 rows → codes of the nearest centroids; missing rows get code 0.
  void encode(FloatRows rows, std::byte* block) const noexcept {
    PQKV_EXPECTS(rows.dim == dim() && rows.count >= 1 && rows.count <= block_tokens);
    auto* bytes = reinterpret_cast<std::uint8_t*>(block);
    std::uint8_t chosen[CodebookShape::max_stages][block_tokens] = {};
    for (std::size_t s = 0; s < codes(); ++s) {
      const std::size_t stage = s % codebook_->shape().stages;
      if (stage == 0) {
        nearest_sums(CentroidStages(*codebook_, s), rows.data + first(s), rows.count, rows.stride, chosen[0], block_tokens);
      }
      const std::uint8_t* picked = chosen[stage];
      if constexpr (bits == 4) {
        for (std::size_t t = 0; t < 16; ++t) {
          bytes[s * 16 + t] = static_cast<std::uint8_t>(picked[t] | (picked[t + 16] << 4));
        }
      } else if constexpr (bits == 6) {
        for (std::size_t t = 0; t < 16; ++t) {
          bytes[s * 24 + t] = static_cast<std::uint8_t>((picked[t] & 15) | (picked[t + 16] & 15) << 4);
        }
        for (std::size_t t = 0; t < 8; ++t) {
          bytes[s * 24 + 16 + t] = static_cast<std::uint8_t>(picked[t] >> 4 | picked[t + 8] >> 4 << 2 |
                                                             picked[t + 16] >> 4 << 4 | picked[t + 24] >> 4 << 6);
        }
      } else {
        for (std::size_t octet = 0; octet < 4; ++octet) {
          std::memcpy(bytes + octet * 8 * codes() + s * 8, picked + octet * 8, 8);
        }
      }
    }
  }

  /// The sums of centroids that token `index` of the block stands for.
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(block);
    std::memset(row, 0, dim() * sizeof(float));
    for (std::size_t s = 0; s < codes(); ++s) {
      std::size_t code = 0;
      if constexpr (bits == 4) {
        code = isa::scalar::pq4_code(bytes, s, index);
      } else if constexpr (bits == 6) {
        code = isa::scalar::pq6_code(bytes, s, index);
      } else {
        code = isa::scalar::pq8_code(bytes, codes(), s, index);
      }
      const float* column = codebook_->centroids(s) + code;
      for (std::size_t d = 0; d < width(); ++d) row[first(s) + d] += column[d * centroids];
    }
  }

  /// RowMovable::copy_row.
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept {
    const auto* source = reinterpret_cast<const std::uint8_t*>(from);
    auto* target = reinterpret_cast<std::uint8_t*>(to);
    for (std::size_t s = 0; s < codes(); ++s) {
      if constexpr (bits == 8) {
        target[to_index / 8 * 8 * codes() + s * 8 + to_index % 8] = isa::scalar::pq8_code(source, codes(), s, index);
      } else {
        constexpr std::size_t plane = bits * 4;
        copy_nibble(source + s * plane, index, target + s * plane, to_index);
        if constexpr (bits == 6) {
          const unsigned upper = source[s * plane + 16 + index % 8] >> (index / 8 * 2) & 3u;
          std::uint8_t& byte = target[s * plane + 16 + to_index % 8];
          byte = static_cast<std::uint8_t>(byte | upper << (to_index / 8 * 2));
        }
      }
    }
  }

  /// table[s·centroids + c] = query · centroid c of code s, and the centroid's gain times the piece's squared length.
  void tabulate(const float* query, float* table) const noexcept {
    if (codebook_->shape().stages == 1) {
      isa::best().centroid_dots(query, codes(), width(), codebook_->centroids(0), codebook_->gains(0), centroids, table);
      return;
    }
    for (std::size_t s = 0; s < codes(); ++s) {
      isa::best().centroid_dots(query + first(s), 1, width(), codebook_->centroids(s), codebook_->gains(s), centroids,
                                table + s * centroids);
    }
  }

  /// Four queries `stride` floats apart, interleaved: table[(s·centroids + c)·4 + q].
  void tabulate4(const float* queries, std::size_t stride, float* table) const noexcept {
    for (std::size_t s = 0; s < codes(); ++s) {
      isa::best().centroid_dots4(queries + first(s), stride, width(), codebook_->centroids(s), centroids,
                                 table + s * centroids * 4);
      if (const float* gains = codebook_->gains(s)) {
        float squares[4];
        for (std::size_t q = 0; q < 4; ++q) squares[q] = squared_length(queries + q * stride + first(s));
        float* entries = table + s * centroids * 4;
        for (std::size_t c = 0; c < centroids; ++c) {
          for (std::size_t q = 0; q < 4; ++q) entries[c * 4 + q] += gains[c] * squares[q];
        }
      }
    }
  }

 private:
  [[nodiscard]] float squared_length(const float* piece) const noexcept {
    float sum = 0;
    for (std::size_t d = 0; d < width(); ++d) sum += piece[d] * piece[d];
    return sum;
  }

  explicit ProductQuantizer(std::shared_ptr<const Codebook> codebook) noexcept : codebook_(std::move(codebook)) {}
  std::shared_ptr<const Codebook> codebook_;
};

}  // namespace pqkv::inline PQKV_ABI
