// GgmlRows<bits>: rows as ggml stores them in its types q8_0 and q4_0, byte for byte. Layer 2.
// Each 32 elements of a row have a scale d, and an element is d·code (q8_0) or d·(code − 8) (q4_0):
//
//   q8_0, 34 bytes per 32 elements: | d f16 | 32 signed bytes                                                      |
//   q4_0, 18 bytes per 32 elements: | d f16 | 16 bytes: element j in the low nibble, element j + 16 in the high one |
//
// q8_0 has d = largest magnitude / 127; q4_0 has d = (the element of largest magnitude) / −8, sign and all, so that this
// element is met exactly while its negative would be the code 16 that there is not.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "pqkv/base/half.hpp"
#include "pqkv/base/result.hpp"
#include "pqkv/codec/level_codes.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

template <std::size_t bits>
class GgmlRows {
  static_assert(bits == 4 || bits == 8);

 public:
  static constexpr std::string_view name = bits == 8 ? "q8_0" : "q4_0";
  static constexpr std::size_t max_dim = 1024;
  /// Bytes of 32 elements.
  static constexpr std::size_t piece_bytes = sizeof(f16) + unit_bytes<bits>;
  /// Rows that become floats together stay in the first cache.
  static constexpr std::size_t tile_floats = 4096;

  /// Errors: invalid_shape unless dim is a multiple of 32, at most 1024.
  [[nodiscard]] static Result<GgmlRows> make(std::size_t dim) {
    if (dim == 0 || dim > max_dim || dim % unit_codes != 0) {
      return Error{Errc::invalid_shape, message(name, " rows need a dim that is a multiple of 32 (at most ", max_dim, "), not ",
                                                dim)};
    }
    return GgmlRows(dim);
  }

  [[nodiscard]] std::size_t dim() const noexcept { return dim_; }
  [[nodiscard]] std::size_t row_bytes() const noexcept { return dim_ / unit_codes * piece_bytes; }
  /// Of a block: 32 rows one behind the other.
  [[nodiscard]] std::size_t block_bytes() const noexcept { return block_tokens * row_bytes(); }
  /// The most rows that unpack() takes at once.
  [[nodiscard]] std::size_t tile_rows() const noexcept { return tile_floats / dim_; }

  /// Scales beyond ±65504, the range of f16, saturate.
  void encode(const float* row, std::byte* out) const noexcept {
    for (std::size_t first = 0; first < dim_; first += unit_codes, out += piece_bytes) {
      const float* x = row + first;
      const float largest = *std::max_element(x, x + unit_codes, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
      const float scale = std::clamp(bits == 8 ? std::fabs(largest) / 127.0f : largest / -8.0f, -65504.0f, 65504.0f);
      const float inverse = scale != 0 && std::isfinite(1.0f / scale) ? 1.0f / scale : 0.0f;
      std::uint8_t codes[unit_codes];
      for (std::size_t i = 0; i < unit_codes; ++i) {
        if constexpr (bits == 8) {
          codes[i] = static_cast<std::uint8_t>(static_cast<int>(std::clamp(std::round(x[i] * inverse), -127.0f, 127.0f)));
        } else {
          codes[i] = static_cast<std::uint8_t>(std::clamp(x[i] * inverse + 8.5f, 0.0f, 15.0f));
        }
      }
      const f16 stored = to_f16(scale);
      std::memcpy(out, &stored, sizeof stored);
      pack_unit<bits>(codes, reinterpret_cast<std::uint8_t*>(out + sizeof stored));
    }
  }

  /// 1..32 rows → a block; missing rows are zeros.
  void encode(FloatRows rows, std::byte* block) const noexcept {
    PQKV_EXPECTS(rows.dim == dim_ && rows.count >= 1 && rows.count <= block_tokens);
    for (std::size_t t = 0; t < rows.count; ++t) encode(rows.row(t), block + t * row_bytes());
    std::memset(block + rows.count * row_bytes(), 0, (block_tokens - rows.count) * row_bytes());
  }
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    unpack(block + index * row_bytes(), 1, row);
  }
  /// RowMovable::copy_row.
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept {
    std::memcpy(to + to_index * row_bytes(), from + index * row_bytes(), row_bytes());
  }

  /// `count` ≤ tile_rows() rows, one behind the other, as floats [count][dim].
  void unpack(const std::byte* rows, std::size_t count, float* out) const noexcept {
    const std::size_t pieces = count * (dim_ / unit_codes);
    PQKV_EXPECTS(pieces * unit_codes <= tile_floats);
    f16 stored[tile_floats / unit_codes];
    float scales[tile_floats / unit_codes];
    for (std::size_t p = 0; p < pieces; ++p) std::memcpy(&stored[p], rows + p * piece_bytes, sizeof(f16));
    isa::best().f16_to_f32(stored, pieces, scales);
    unpack_units<bits>(reinterpret_cast<const std::uint8_t*>(rows + sizeof(f16)), piece_bytes, pieces, levels.data(), 0,
                       scales, out);
  }

 private:
  static constexpr auto levels = integer_levels<bits>(bits == 4 ? -8.0f : 0.0f);

  explicit GgmlRows(std::size_t dim) noexcept : dim_(dim) {}

  std::size_t dim_;
};

}  // namespace pqkv::inline PQKV_ABI
