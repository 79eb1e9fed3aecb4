// The specification of grouped integers in readable C++: where codes lie, how weights are rounded, what is summed. Layer 1.
// The set is assembled in scalar.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "pqkv/isa/kernels.hpp"

namespace pqkv::inline PQKV_ABI::isa::scalar {

/// Where the code of a token and channel lies in the codes of an integer block: a byte, and the shift inside it.
struct IntegerPlace {
  std::size_t byte;
  std::size_t shift;
};
template <std::size_t bits>
[[nodiscard]] inline IntegerPlace integer_place(std::size_t channel, std::size_t token) noexcept {
  constexpr std::size_t dword_tokens = 4 * (8 / bits);
  return {channel / 8 * 32 * bits + (token / dword_tokens * 8 + channel % 8) * 4 + token % 4,
          token % dword_tokens / 4 * bits};
}

template <std::size_t bits>
[[nodiscard]] inline std::uint32_t integer_code(const std::uint8_t* codes, std::size_t channel,
                                                std::size_t token) noexcept {
  const IntegerPlace place = integer_place<bits>(channel, token);
  return (static_cast<std::uint32_t>(codes[place.byte]) >> place.shift) & ((1u << bits) - 1u);
}

/// The products weight·scale of one group of one block as integers: quantised[t] = round(products[t] · levels / largest);
/// returns largest / levels; all 0 when no product exceeds least_product.
inline float quantise_weights(const float* products, float levels, std::int32_t* quantised) noexcept {
  const float largest = *std::max_element(products, products + 32);
  const float inverse = largest > least_product ? levels / largest : 0.0f;
  for (std::size_t t = 0; t < 32; ++t) quantised[t] = static_cast<std::int32_t>(std::nearbyint(products[t] * inverse));
  return largest / levels;
}

template <std::size_t bits>
inline void integer_accumulate(const std::byte* blocks, std::size_t block_count, std::size_t dim, std::size_t group,
                               const float* weights, std::size_t query_count, std::size_t stride,
                               float* outs, std::ptrdiff_t /*ahead*/) noexcept {
  constexpr float middle = bits == 8 ? 0.0f : static_cast<float>((1 << bits) - 1) / 2;
  const std::size_t groups = dim / group;
  const std::size_t block_bytes = groups * 128 + dim * 4 * bits;
  for (std::size_t b = 0; b < block_count; ++b) {
    const std::byte* block = blocks + b * block_bytes;
    const auto* codes = reinterpret_cast<const std::uint8_t*>(block + groups * 128);
    for (std::size_t g = 0; g < groups; ++g) {
      f16 scales[32];
      f16 offsets[32];
      std::memcpy(scales, block + g * 64, 64);
      std::memcpy(offsets, block + (groups + g) * 64, 64);
      for (std::size_t q = 0; q < query_count; ++q) {
        float products[32];
        float offset = 0;
        for (std::size_t t = 0; t < 32; ++t) {
          const float weight = weights[q * stride + b * 32 + t];
          products[t] = weight * to_float(scales[t]);
          offset += weight * (to_float(offsets[t]) + middle * to_float(scales[t]));
        }
        std::int32_t quantised[32];
        const float step = quantise_weights(products, bits == 8 ? weight_levels : byte_weight_levels, quantised);
        std::int32_t total = 0;
        for (const std::int32_t weight : quantised) total += weight;
        offset -= step * middle * static_cast<float>(total);
        for (std::size_t d = g * group; d < (g + 1) * group; ++d) {
          std::int32_t sum = 0;
          for (std::size_t t = 0; t < 32; ++t) {
            sum += static_cast<std::int32_t>(integer_code<bits>(codes, d, t)) * quantised[t];
          }
          outs[q * dim + d] += step * static_cast<float>(sum) + offset;
        }
      }
    }
  }
}

/// The scale and offset of a group whose elements lie in least..most, rounded; returns 1/scale, or 0.
inline float integer_range(float least, float most, std::uint32_t levels, f16& scale, f16& offset) noexcept {
  const auto saturate = [](float x) { return std::clamp(x, -65504.0f, 65504.0f); };
  offset = to_f16(saturate(least) + 0.0f);  // which of 0 and −0 is the least depends on the order of comparisons
  scale = to_f16(saturate((saturate(most) - to_float(offset)) / static_cast<float>(levels)));
  return to_float(scale) > 0 ? 1.0f / to_float(scale) : 0.0f;
}

inline void integer_encode(const float* row, std::size_t dim, std::size_t group, std::uint32_t levels, f16* scales,
                           f16* offsets, std::uint8_t* codes) noexcept {
  for (std::size_t g = 0; g < dim / group; ++g) {
    const float* first = row + g * group;
    const auto [least, most] = std::minmax_element(first, first + group);
    const float inverse = integer_range(*least, *most, levels, scales[g], offsets[g]);
    for (std::size_t d = 0; d < group; ++d) {
      const float level = std::nearbyint((first[d] - to_float(offsets[g])) * inverse);
      codes[g * group + d] = static_cast<std::uint8_t>(std::clamp(level, 0.0f, static_cast<float>(levels)));
    }
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::scalar
