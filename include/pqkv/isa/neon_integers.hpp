// NEON: sums of grouped integer values. Layer 1. The set is assembled in neon.hpp; kernels.hpp draws the block.
// A dword of codes is four tokens of one channel, a dword of weights the same four tokens.
#pragma once

#include "pqkv/base/config.hpp"

#if defined(PQKV_ARM64)
#include "pqkv/isa/neon_rows.hpp"

namespace pqkv::inline PQKV_ABI::isa::neon {

// ---- grouped integers --------------------------------------------------------------------------------------------
/// `products` = weight · scale of 32 tokens → integers, in pairs as the codes want them: vector 2·i + p is filled
/// with the pair whose codes lie at shift p·8 of the 16-bit lanes of dword row i. Returns the step.
inline float quantise_weights(const float32x4_t* products_f32x4, int16x8_t* pairs_i16x8) noexcept {
  float32x4_t most_f32x4 = products_f32x4[0];
  PQKV_UNROLL for (std::size_t i = 1; i < 8; ++i) most_f32x4 = vmaxq_f32(most_f32x4, products_f32x4[i]);
  const float largest = vmaxvq_f32(most_f32x4);
  const float inverse = largest > least_product ? weight_levels / largest : 0.0f;
  PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
    const int16x4_t lower = vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(products_f32x4[i * 2], inverse)));
    const int16x4_t upper = vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(products_f32x4[i * 2 + 1], inverse)));
    const uint32x2_t even = vreinterpret_u32_s16(vuzp1_s16(lower, upper));  // pairs (0, 2), (4, 6) of 8 tokens
    const uint32x2_t odd = vreinterpret_u32_s16(vuzp2_s16(lower, upper));   // (1, 3), (5, 7)
    // A row of dwords holds 4 tokens: the pair of its even ones, then that of its odd ones.
    pairs_i16x8[i * 4] = vreinterpretq_s16_u32(vdupq_lane_u32(even, 0));
    pairs_i16x8[i * 4 + 1] = vreinterpretq_s16_u32(vdupq_lane_u32(odd, 0));
    pairs_i16x8[i * 4 + 2] = vreinterpretq_s16_u32(vdupq_lane_u32(even, 1));
    pairs_i16x8[i * 4 + 3] = vreinterpretq_s16_u32(vdupq_lane_u32(odd, 1));
  }
  return largest / weight_levels;
}

inline void int8_accumulate(const std::byte* blocks, std::size_t block_count, std::size_t dim, std::size_t group,
                               const float* weights, std::size_t query_count, std::size_t stride,
                               float* outs, std::ptrdiff_t /*ahead*/) noexcept {
  constexpr std::size_t bits = 8;
  const uint16x8_t mask_u16x8 = vdupq_n_u16(255);
  const std::size_t groups = dim / group;
  for (std::size_t cell = 0; cell < block_count * groups; ++cell) {
    const std::size_t b = cell / groups, g = cell % groups;
    const std::byte* block = blocks + b * (groups * 128 + dim * 4 * bits);
    for_each_tile(query_count, [=]<std::size_t width>(Count<width>, std::size_t first) {
      const auto* scales = reinterpret_cast<const f16*>(block + g * 64);  // and offsets behind those of all groups
      int16x8_t pairs_i16x8[width][16];
      float steps[width], shifts[width];
      for (std::size_t q = 0; q < width; ++q) {
        float32x4_t products_f32x4[8], shift_f32x4 = vdupq_n_f32(0);
        PQKV_UNROLL for (std::size_t t = 0; t < 32; t += 4) {
          const float32x4_t weights_f32x4 = vld1q_f32(weights + (first + q) * stride + b * 32 + t);
          products_f32x4[t / 4] = vmulq_f32(weights_f32x4, load4(scales + t));
          shift_f32x4 = vfmaq_f32(shift_f32x4, weights_f32x4, load4(scales + groups * 32 + t));
        }
        steps[q] = quantise_weights(products_f32x4, pairs_i16x8[q]);
        shifts[q] = vaddvq_f32(shift_f32x4);
      }
      const auto* codes = reinterpret_cast<const std::uint8_t*>(block) + groups * 128 + g * group * 4 * bits;
      for (std::size_t d = g * group; d < (g + 1) * group; d += 8) {
        int32x4_t sums_i32x4[width * 4] = {};  // four of 2 channels per query, a channel in neighbouring lanes
        for (std::size_t first_pair = 0; first_pair < 16; first_pair += 16 / bits, codes += 32) {
          const uint16x8_t lower_u16x8 = vreinterpretq_u16_u8(vld1q_u8(codes));
          const uint16x8_t upper_u16x8 = vreinterpretq_u16_u8(vld1q_u8(codes + 16));
          PQKV_UNROLL for (std::size_t p = 0; p < 16 / bits; ++p) {
            const int16x8_t codes_i16x8[] = {vreinterpretq_s16_u16(lower_u16x8 >> p * bits & mask_u16x8),
                                             vreinterpretq_s16_u16(upper_u16x8 >> p * bits & mask_u16x8)};
            PQKV_UNROLL for (std::size_t i = 0; i < width * 2; ++i) {
              const int16x8_t half_i16x8 = codes_i16x8[i % 2], pair_i16x8 = pairs_i16x8[i / 2][first_pair + p];
              sums_i32x4[i * 2] = vmlal_s16(sums_i32x4[i * 2], vget_low_s16(half_i16x8), vget_low_s16(pair_i16x8));
              sums_i32x4[i * 2 + 1] = vmlal_high_s16(sums_i32x4[i * 2 + 1], half_i16x8, pair_i16x8);
            }
          }
        }
        PQKV_UNROLL for (std::size_t half = 0; half < width * 2; ++half) {
          const std::size_t q = half / 2;
          float* out = outs + (first + q) * dim + d + half % 2 * 4;
          const float32x4_t sums_f32x4 = vcvtq_f32_s32(vpaddq_s32(sums_i32x4[half * 2], sums_i32x4[half * 2 + 1]));
          const float32x4_t total_f32x4 = vaddq_f32(vmulq_n_f32(sums_f32x4, steps[q]), vdupq_n_f32(shifts[q]));
          vst1q_f32(out, vaddq_f32(vld1q_f32(out), total_f32x4));
        }
      }
    });
  }
}

/// One query's weights · scales of 32 tokens as bytes: vector i is tokens 4i … 4i + 3, four times.
struct ByteWeights {
  uint8x16_t weights_u8x16[8];
  float step;
  float shift;
};

template <std::size_t bits>
inline ByteWeights quantise_bytes(const f16* scales, const f16* offsets, const float* weights) noexcept {
  constexpr float middle = static_cast<float>((1 << bits) - 1) / 2;
  float32x4_t products_f32x4[8], shift_f32x4 = vdupq_n_f32(0);
  PQKV_UNROLL for (std::size_t i = 0; i < 8; ++i) {
    const float32x4_t weights_f32x4 = vld1q_f32(weights + i * 4), scales_f32x4 = load4(scales + i * 4);
    products_f32x4[i] = vmulq_f32(weights_f32x4, scales_f32x4);
    shift_f32x4 = vfmaq_f32(shift_f32x4, weights_f32x4, vfmaq_n_f32(load4(offsets + i * 4), scales_f32x4, middle));
  }
  float32x4_t most_f32x4 = products_f32x4[0];
  PQKV_UNROLL for (std::size_t i = 1; i < 8; ++i) most_f32x4 = vmaxq_f32(most_f32x4, products_f32x4[i]);
  const float largest = vmaxvq_f32(most_f32x4);
  const float inverse = largest > least_product ? byte_weight_levels / largest : 0.0f;
  ByteWeights out;
  uint32x4_t total_u32x4 = vdupq_n_u32(0);
  PQKV_UNROLL for (std::size_t i = 0; i < 8; ++i) {
    const uint32x4_t rounded_u32x4 = vcvtnq_u32_f32(vmulq_n_f32(products_f32x4[i], inverse));
    total_u32x4 = vaddq_u32(total_u32x4, rounded_u32x4);
    const uint16x4_t words = vmovn_u32(rounded_u32x4);
    const uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
    out.weights_u8x16[i] = vcombine_u8(bytes, bytes);
  }
  out.step = largest / byte_weight_levels;
  out.shift = vaddvq_f32(shift_f32x4) - out.step * middle * static_cast<float>(vaddvq_u32(total_u32x4));
  return out;
}

template <std::size_t bits>
inline void byte_accumulate(const std::byte* blocks, std::size_t block_count, std::size_t dim, std::size_t group,
                            const float* weights, std::size_t query_count, std::size_t stride, float* outs,
                            std::ptrdiff_t /*ahead*/) noexcept {
  constexpr std::size_t crumbs = 8 / bits;
  const uint8x16_t mask_u8x16 = vdupq_n_u8((1 << bits) - 1);
  const std::size_t groups = dim / group;
  for (std::size_t cell = 0; cell < block_count * groups; ++cell) {
    const std::size_t b = cell / groups, g = cell % groups;
    const std::byte* block = blocks + b * (groups * 128 + dim * 4 * bits);
    const auto* scales = reinterpret_cast<const f16*>(block + g * 64);  // and offsets behind those of all groups
    for_each_tile(query_count, [=]<std::size_t width>(Count<width>, std::size_t first) {
      ByteWeights quantised[width];
      for (std::size_t q = 0; q < width; ++q) {
        quantised[q] = quantise_bytes<bits>(scales, scales + groups * 32, weights + (first + q) * stride + b * 32);
      }
      const auto* codes = reinterpret_cast<const std::uint8_t*>(block) + groups * 128 + g * group * 4 * bits;
      for (std::size_t d = g * group; d < (g + 1) * group; d += 8) {
        uint16x8_t sums_u16x8[width * 4] = {};  // four of 2 channels per query, a channel in four neighbouring lanes
        for (std::size_t row = 0; row < bits; ++row, codes += 32) {
          const uint8x16_t dwords_u8x16[] = {vld1q_u8(codes), vld1q_u8(codes + 16)};
          PQKV_UNROLL for (std::size_t k = 0; k < crumbs; ++k) {
            PQKV_UNROLL for (std::size_t i = 0; i < width * 2; ++i) {
              const uint8x16_t codes_u8x16 = vandq_u8(dwords_u8x16[i % 2] >> k * bits, mask_u8x16);
              const uint8x16_t weights_u8x16 = quantised[i / 2].weights_u8x16[row * crumbs + k];
              sums_u16x8[i * 2] = vmlal_u8(sums_u16x8[i * 2], vget_low_u8(codes_u8x16), vget_low_u8(weights_u8x16));
              sums_u16x8[i * 2 + 1] = vmlal_high_u8(sums_u16x8[i * 2 + 1], codes_u8x16, weights_u8x16);
            }
          }
        }
        PQKV_UNROLL for (std::size_t half = 0; half < width * 2; ++half) {
          const std::size_t q = half / 2;
          float* out = outs + (first + q) * dim + d + half % 2 * 4;
          const uint32x4_t sums_u32x4 =
              vpaddq_u32(vpaddlq_u16(sums_u16x8[half * 2]), vpaddlq_u16(sums_u16x8[half * 2 + 1]));
          const float32x4_t total_f32x4 =
              vaddq_f32(vmulq_n_f32(vcvtq_f32_u32(sums_u32x4), quantised[q].step), vdupq_n_f32(quantised[q].shift));
          vst1q_f32(out, vaddq_f32(vld1q_f32(out), total_f32x4));
        }
      }
    });
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::neon

#endif
