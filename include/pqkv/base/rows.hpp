// Views of rows: FloatRows (f32, what formats encode) and Rows (f32, f16 or bf16, strided: what callers append). Layer 0.
// A row is one head's query, key or value of one token. Views own nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "pqkv/base/expects.hpp"
#include "pqkv/base/half.hpp"

namespace pqkv::inline PQKV_ABI {

/// The element type of rows that a caller hands in, and of exact storage.
enum class ScalarType : std::uint8_t { f32, f16, bf16 };

[[nodiscard]] constexpr std::size_t size_of(ScalarType type) noexcept { return type == ScalarType::f32 ? 4 : 2; }

[[nodiscard]] constexpr std::string_view name_of(ScalarType type) noexcept {
  return type == ScalarType::f32 ? "f32" : type == ScalarType::f16 ? "f16" : "bf16";
}

/// `count` rows of `dim` floats, `stride` floats apart.
struct FloatRows {
  const float* data = nullptr;
  std::size_t count = 0;
  std::size_t dim = 0;
  std::size_t stride = 0;

  FloatRows() = default;
  FloatRows(const float* first, std::size_t rows, std::size_t width) noexcept
      : FloatRows(first, rows, width, width) {}
  FloatRows(const float* first, std::size_t rows, std::size_t width, std::size_t apart) noexcept
      : data(first), count(rows), dim(width), stride(apart) {
    PQKV_EXPECTS(rows < 2 || apart >= width);
  }
  [[nodiscard]] const float* row(std::size_t index) const noexcept { return data + index * stride; }
  [[nodiscard]] FloatRows slice(std::size_t first, std::size_t rows) const noexcept {
    PQKV_EXPECTS(first + rows <= count);
    return {data + first * stride, rows, dim, stride};
  }
};

/// `count` rows of `dim` elements of `type`, `stride` elements apart; any alignment.
struct Rows {
  const void* data = nullptr;
  ScalarType type = ScalarType::f32;
  std::size_t count = 0;
  std::size_t dim = 0;
  std::size_t stride = 0;

  Rows() = default;
  Rows(const void* first, ScalarType scalar, std::size_t rows, std::size_t width, std::size_t apart) noexcept
      : data(first), type(scalar), count(rows), dim(width), stride(apart) {}
  Rows(const float* first, std::size_t rows, std::size_t width) noexcept
      : Rows(first, ScalarType::f32, rows, width, width) {}
  Rows(const f16* first, std::size_t rows, std::size_t width) noexcept
      : Rows(first, ScalarType::f16, rows, width, width) {}
  Rows(const bf16* first, std::size_t rows, std::size_t width) noexcept
      : Rows(first, ScalarType::bf16, rows, width, width) {}
  Rows(const FloatRows& rows) noexcept  // NOLINT(google-explicit-constructor)
      : Rows(rows.data, ScalarType::f32, rows.count, rows.dim, rows.stride) {}

  [[nodiscard]] const std::byte* row(std::size_t index) const noexcept {
    return static_cast<const std::byte*>(data) + index * stride * size_of(type);
  }
  [[nodiscard]] Rows slice(std::size_t first, std::size_t rows) const noexcept {
    PQKV_EXPECTS(first + rows <= count);
    return {row(first), type, rows, dim, stride};
  }
};

}  // namespace pqkv::inline PQKV_ABI
