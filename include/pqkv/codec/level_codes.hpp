// Codes of 2, 3, 4 or 8 bits in units of 32, and their way back to floats through levels (isa/kernels.hpp draws the unit).
// Layer 2. Signed bytes are levels of their own.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "pqkv/isa/select.hpp"

namespace pqkv::inline PQKV_ABI {

/// Codes per unit, and bytes of a unit.
inline constexpr std::size_t unit_codes = 32;
template <std::size_t bits>
inline constexpr std::size_t unit_bytes = unit_codes * bits / 8;

/// 32 codes below 2^bits (8 bits: signed bytes) → a unit.
template <std::size_t bits>
inline void pack_unit(const std::uint8_t* codes, std::uint8_t* unit) noexcept {
  static_assert(bits == 2 || bits == 3 || bits == 4 || bits == 8);
  if constexpr (bits == 8) {
    std::memcpy(unit, codes, unit_codes);
  } else if constexpr (bits == 4) {
    for (std::size_t i = 0; i < 16; ++i) unit[i] = static_cast<std::uint8_t>(codes[i] | codes[i + 16] << 4);
  } else {
    for (std::size_t i = 0; i < 8; ++i) {
      unit[i] = static_cast<std::uint8_t>((codes[i] & 3) | (codes[i + 8] & 3) << 2 | (codes[i + 16] & 3) << 4 |
                                          (codes[i + 24] & 3) << 6);
    }
    if constexpr (bits == 3) {
      for (std::size_t k = 0; k < 4; ++k) {
        unsigned thirds = 0;
        for (std::size_t j = 0; j < 8; ++j) thirds |= static_cast<unsigned>(codes[8 * k + j] >> 2) << j;
        unit[8 + k] = static_cast<std::uint8_t>(thirds);
      }
    }
  }
}

/// The level of code `index` of a unit.
template <std::size_t bits>
[[nodiscard]] inline float unit_level(const std::uint8_t* unit, std::size_t index, const float* levels) noexcept {
  if constexpr (bits == 8) {
    return static_cast<float>(static_cast<std::int8_t>(unit[index]));
  } else {
    return levels[isa::scalar::level_code<bits>(unit, index)];
  }
}

/// out[u·32 + i] = scales[u] · level of code i of unit u, units `stride` bytes apart and their levels `level_stride` floats
/// (0: the same for all); scales nullptr: 1.
template <std::size_t bits>
inline void unpack_units(const std::uint8_t* codes, std::size_t stride, std::size_t units, const float* levels,
                         std::size_t level_stride, const float* scales, float* out) noexcept {
  const isa::KernelSet& kernels = isa::best();
  if constexpr (bits == 8) {
    kernels.scaled_bytes(codes, stride, units, scales, out);
  } else {
    const auto unpack = bits == 4 ? kernels.levels4 : bits == 3 ? kernels.levels3 : kernels.levels2;
    unpack(codes, stride, units, levels, level_stride, scales, out);
  }
}

/// So many channels of 32 floats are 8 KiB, which stay in the first cache beside their codes.
inline constexpr std::size_t channels_at_once = 64;

/// sums[q·32 + t] += query q · token t of one block whose codes lie channel by channel; queries are [query_count][dim].
/// unpack(first, channels, tile) writes tile[c·32 + t], at most channels_at_once of them.
template <class Unpack>
inline void add_channel_dots(const float* queries, std::size_t query_count, std::size_t dim, float* sums,
                             const Unpack& unpack) noexcept {
  for (std::size_t first = 0; first < dim; first += channels_at_once) {
    const std::size_t channels = std::min(channels_at_once, dim - first);
    float tile[channels_at_once * unit_codes];
    unpack(first, channels, tile);
    isa::best().product_f32(tile, unit_codes, channels, unit_codes, queries + first, dim, query_count, sums, unit_codes);
  }
}

/// The integers 0, 1, … as levels; `first` is the level of code 0.
template <std::size_t bits>
[[nodiscard]] constexpr std::array<float, std::size_t{1} << bits> integer_levels(float first = 0) noexcept {
  std::array<float, std::size_t{1} << bits> levels{};
  for (std::size_t i = 0; i < levels.size(); ++i) levels[i] = first + static_cast<float>(i);
  return levels;
}

}  // namespace pqkv::inline PQKV_ABI
