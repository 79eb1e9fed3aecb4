// The specification of codes of levels in readable C++: where codes lie and what they become. Layer 1.
// The set is assembled in scalar.hpp.
#pragma once

#include "pqkv/isa/kernels.hpp"

namespace pqkv::inline PQKV_ABI::isa::scalar {

/// Bytes of 32 codes.
template <std::size_t bits>
inline constexpr std::size_t unit_bytes = 4 * bits;

/// Code `index` of a unit of 32.
template <std::size_t bits>
[[nodiscard]] inline std::size_t level_code(const std::uint8_t* unit, std::size_t index) noexcept {
  if constexpr (bits == 4) {
    return index < 16 ? unit[index] & 15u : unit[index - 16] >> 4;
  } else {
    const std::size_t lower = static_cast<std::size_t>(unit[index % 8]) >> (index / 8 * 2) & 3u;
    if constexpr (bits == 2) return lower;
    return lower | (static_cast<std::size_t>(unit[8 + index / 8]) >> (index % 8) & 1u) << 2;
  }
}

template <std::size_t bits>
inline void levels_of(const std::uint8_t* codes, std::size_t stride, std::size_t units, const float* levels,
                      std::size_t level_stride, const float* scales, float* out) noexcept {
  for (std::size_t u = 0; u < units; ++u) {
    const float scale = scales == nullptr ? 1.0f : scales[u];
    for (std::size_t i = 0; i < 32; ++i) {
      out[u * 32 + i] = scale * levels[u * level_stride + level_code<bits>(codes + u * stride, i)];
    }
  }
}

inline void scaled_bytes(const std::uint8_t* codes, std::size_t stride, std::size_t units, const float* scales,
                         float* out) noexcept {
  for (std::size_t u = 0; u < units; ++u) {
    const float scale = scales == nullptr ? 1.0f : scales[u];
    for (std::size_t i = 0; i < 32; ++i) {
      out[u * 32 + i] = scale * static_cast<float>(static_cast<std::int8_t>(codes[u * stride + i]));
    }
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::scalar
