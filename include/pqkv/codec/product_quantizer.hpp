// ProductQuantizer<bits>: rows ↔ blocks of centroid indices, for 4, 6 and 8 bits (16, 64, 256 centroids). Layer 2.
// Shared by the PQ key formats and the PQ value formats.
//
//   4 bits, 16·m bytes: subspace-major; byte j of a subspace holds tokens j (low nibble) and j + 16 (high), so that one
//   16-byte load and one in-register table look-up serve 32 tokens:
//       subspace 0: | 0,16 | 1,17 | … | 15,31 |   subspace 1: | 0,16 | …
//   6 bits, 24·m bytes: subspace-major; 16 bytes hold the low four bits as above, then byte j of 8 holds the upper two of
//   tokens j, j + 8, j + 16 and j + 24, from its low bits on:
//       subspace 0: | 0,16 | … | 15,31 | 0,8,16,24 | … | 7,15,23,31 |   subspace 1: …
//   8 bits, 32·m bytes: groups of 8 tokens, subspace-major inside, so that one 64-bit load brings the codes of 8 tokens
//   for 8 independent sums:
//       tokens 0–7: | subspace 0: t0 … t7 | subspace 1: t0 … t7 | …   tokens 8–15: | …
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "pqkv/base/rows.hpp"
#include "pqkv/codec/codebook.hpp"
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
                                                " centroids per subspace cannot serve ", bits, "-bit codes, which need ",
                                                centroids)};
    }
    return ProductQuantizer(std::move(codebook));
  }

  [[nodiscard]] const Codebook& codebook() const noexcept { return *codebook_; }
  [[nodiscard]] std::size_t dim() const noexcept { return codebook_->shape().dim; }
  [[nodiscard]] std::size_t subspaces() const noexcept { return codebook_->shape().subspaces; }
  [[nodiscard]] std::size_t width() const noexcept { return codebook_->shape().width(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return subspaces() * block_tokens * bits / 8; }

  /// 1..32 rows → codes of the nearest centroids; missing rows get code 0.
  void encode(FloatRows rows, std::byte* block) const noexcept {
    PQKV_EXPECTS(rows.dim == dim() && rows.count >= 1 && rows.count <= block_tokens);
    auto* bytes = reinterpret_cast<std::uint8_t*>(block);
    for (std::size_t s = 0; s < subspaces(); ++s) {
      std::uint8_t codes[block_tokens] = {};
      isa::best().nearest_centroid(rows.data + s * width(), rows.count, rows.stride, width(), codebook_->centroids(s),
                                   codebook_->half_norms(s), centroids, codes);
      if constexpr (bits == 4) {
        for (std::size_t t = 0; t < 16; ++t) {
          bytes[s * 16 + t] = static_cast<std::uint8_t>(codes[t] | (codes[t + 16] << 4));
        }
      } else if constexpr (bits == 6) {
        for (std::size_t t = 0; t < 16; ++t) {
          bytes[s * 24 + t] = static_cast<std::uint8_t>((codes[t] & 15) | (codes[t + 16] & 15) << 4);
        }
        for (std::size_t t = 0; t < 8; ++t) {
          bytes[s * 24 + 16 + t] = static_cast<std::uint8_t>(codes[t] >> 4 | codes[t + 8] >> 4 << 2 |
                                                             codes[t + 16] >> 4 << 4 | codes[t + 24] >> 4 << 6);
        }
      } else {
        for (std::size_t octet = 0; octet < 4; ++octet) {
          std::memcpy(bytes + octet * 8 * subspaces() + s * 8, codes + octet * 8, 8);
        }
      }
    }
  }

  /// The centroids that token `index` of the block stands for.
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(block);
    for (std::size_t s = 0; s < subspaces(); ++s) {
      std::size_t code = 0;
      if constexpr (bits == 4) {
        code = isa::scalar::pq4_code(bytes, s, index);
      } else if constexpr (bits == 6) {
        code = isa::scalar::pq6_code(bytes, s, index);
      } else {
        code = isa::scalar::pq8_code(bytes, subspaces(), s, index);
      }
      const float* column = codebook_->centroids(s) + code;
      for (std::size_t d = 0; d < width(); ++d) row[s * width() + d] = column[d * centroids];
    }
  }

  /// RowMovable::copy_row.
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept {
    const auto* source = reinterpret_cast<const std::uint8_t*>(from);
    auto* target = reinterpret_cast<std::uint8_t*>(to);
    for (std::size_t s = 0; s < subspaces(); ++s) {
      if constexpr (bits == 8) {
        target[to_index / 8 * 8 * subspaces() + s * 8 + to_index % 8] = isa::scalar::pq8_code(source, subspaces(), s, index);
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

  /// table[s·centroids + c] = query · centroid c of subspace s, and the centroid's gain times the piece's squared length.
  void tabulate(const float* query, float* table) const noexcept {
    for (std::size_t s = 0; s < subspaces(); ++s) {
      isa::best().centroid_dots(query + s * width(), width(), codebook_->centroids(s), centroids,
                                table + s * centroids);
      if (const float* gains = codebook_->gains(s)) {
        const float square = squared_length(query + s * width());
        for (std::size_t c = 0; c < centroids; ++c) table[s * centroids + c] += gains[c] * square;
      }
    }
  }

  /// Four queries `stride` floats apart, interleaved: table[(s·centroids + c)·4 + q].
  void tabulate4(const float* queries, std::size_t stride, float* table) const noexcept {
    for (std::size_t s = 0; s < subspaces(); ++s) {
      isa::best().centroid_dots4(queries + s * width(), stride, width(), codebook_->centroids(s), centroids,
                                 table + s * centroids * 4);
      if (const float* gains = codebook_->gains(s)) {
        float squares[4];
        for (std::size_t q = 0; q < 4; ++q) squares[q] = squared_length(queries + q * stride + s * width());
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
