// NEON: codes of levels to floats. Layer 1. The set is assembled in neon.hpp; kernels.hpp draws the units.
// 16 floats are a table of 64 bytes in four registers, which TBL looks up byte by byte: four bytes in a row per float.
#pragma once

#include "pqkv/base/config.hpp"

#if defined(PQKV_ARM64)
#include "pqkv/isa/neon_rows.hpp"

namespace pqkv::inline PQKV_ABI::isa::neon {

/// Codes 16·half … + 15 of a unit, a byte each.
template <std::size_t bits>
inline uint8x16_t half_codes(const std::uint8_t* unit, std::size_t half) noexcept {
  if constexpr (bits == 4) {
    const uint8x16_t bytes = vld1q_u8(unit);
    return half == 0 ? vandq_u8(bytes, vdupq_n_u8(15)) : vshrq_n_u8(bytes, 4);
  } else {
    const uint8x8_t crumbs = vld1_u8(unit);
    const auto right = [half](int by) { return vdup_n_s8(static_cast<std::int8_t>(-4 * static_cast<int>(half) - by)); };
    const int8x16_t shifts = vcombine_s8(right(0), right(2));
    const uint8x16_t lower = vandq_u8(vshlq_u8(vcombine_u8(crumbs, crumbs), shifts), vdupq_n_u8(3));
    if constexpr (bits == 2) return lower;
    const uint8x8_t places = vcreate_u8(0x8040201008040201u);
    const uint8x16_t third = vtstq_u8(vcombine_u8(vdup_n_u8(unit[8 + 2 * half]), vdup_n_u8(unit[9 + 2 * half])),
                                      vcombine_u8(places, places));
    return vorrq_u8(lower, vandq_u8(third, vdupq_n_u8(4)));
  }
}

template <std::size_t bits>
inline void levels_of(const std::uint8_t* codes, std::size_t stride, std::size_t units, const float* levels,
                      std::size_t level_stride, const float* scales, float* out) noexcept {
  constexpr std::size_t registers = bits == 4 ? 4 : bits == 3 ? 2 : 1;
  uint8x16x4_t table = {{vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0)}};
  const uint8x16_t first = vcombine_u8(vcreate_u8(0x0101010100000000u), vcreate_u8(0x0303030302020202u));
  const uint8x16_t within = vreinterpretq_u8_u32(vdupq_n_u32(0x03020100u));
  for (std::size_t u = 0; u < units; ++u) {
    const float* mine = levels + u * level_stride;
    PQKV_UNROLL for (std::size_t i = 0; i < registers; ++i) table.val[i] = vreinterpretq_u8_f32(vld1q_f32(mine + 4 * i));
    const float32x4_t scale_f32x4 = vdupq_n_f32(scales == nullptr ? 1.0f : scales[u]);
    PQKV_UNROLL for (std::size_t half = 0; half < 2; ++half) {
      const uint8x16_t codes_u8x16 = half_codes<bits>(codes + u * stride, half);
      PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
        const uint8x16_t repeated = vqtbl1q_u8(codes_u8x16, vaddq_u8(first, vdupq_n_u8(static_cast<std::uint8_t>(4 * i))));
        const uint8x16_t places = vaddq_u8(vshlq_n_u8(repeated, 2), within);
        const float32x4_t levels_f32x4 = vreinterpretq_f32_u8(vqtbl4q_u8(table, places));
        vst1q_f32(out + u * 32 + half * 16 + i * 4, vmulq_f32(scale_f32x4, levels_f32x4));
      }
    }
  }
}

inline void scaled_bytes(const std::uint8_t* codes, std::size_t stride, std::size_t units, const float* scales,
                         float* out) noexcept {
  for (std::size_t u = 0; u < units; ++u) {
    const float32x4_t scale_f32x4 = vdupq_n_f32(scales == nullptr ? 1.0f : scales[u]);
    PQKV_UNROLL for (std::size_t octet = 0; octet < 4; ++octet) {
      const int16x8_t codes_i16x8 = vmovl_s8(vreinterpret_s8_u8(vld1_u8(codes + u * stride + octet * 8)));
      float* place = out + u * 32 + octet * 8;
      vst1q_f32(place, vmulq_f32(scale_f32x4, vcvtq_f32_s32(vmovl_s16(vget_low_s16(codes_i16x8)))));
      vst1q_f32(place + 4, vmulq_f32(scale_f32x4, vcvtq_f32_s32(vmovl_s16(vget_high_s16(codes_i16x8)))));
    }
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::neon

#endif
