// AVX-512: codes of levels to floats. Layer 1. The set is assembled in avx512.hpp; kernels.hpp draws the units.
// vpermps looks 16 levels up 16 times at once and ignores all but 4 bits of its indices: fewer levels lie in it repeatedly.
#pragma once

#include "pqkv/isa/avx512_rows.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx512 {

/// Codes 16·half … + 15 of a unit in the low bits of dwords.
template <std::size_t bits>
[[gnu::always_inline]] inline __m512i half_codes(const std::uint8_t* unit, std::size_t half) noexcept {
  if constexpr (bits == 4) {
    const __m512i bytes = _mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(unit)));
    return half == 0 ? bytes : _mm512_maskz_srli_epi32(0xffff, bytes, 4);
  } else {
    const __m128i crumbs = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(unit));
    const __m512i bytes = _mm512_maskz_cvtepu8_epi32(0xffff, _mm_unpacklo_epi64(crumbs, crumbs));
    const int shift = static_cast<int>(4 * half);
    const __m512i shifts = _mm512_setr_epi32(shift, shift, shift, shift, shift, shift, shift, shift, shift + 2, shift + 2,
                                             shift + 2, shift + 2, shift + 2, shift + 2, shift + 2, shift + 2);
    const __m512i lower = _mm512_maskz_srlv_epi32(0xffff, bytes, shifts);
    if constexpr (bits == 2) return lower;
    const auto third = static_cast<__mmask16>(unit[8 + 2 * half] | unit[9 + 2 * half] << 8);
    const __m512i two = _mm512_maskz_and_epi32(0xffff, lower, _mm512_set1_epi32(3));
    return _mm512_mask_or_epi32(two, third, two, _mm512_set1_epi32(4));
  }
}

template <std::size_t bits>
inline void levels_of(const std::uint8_t* codes, std::size_t stride, std::size_t units, const float* levels,
                      std::size_t level_stride, const float* scales, float* out) noexcept {
  for (std::size_t u = 0; u < units; ++u) {
    const float* mine = levels + u * level_stride;
    __m512 table;
    if constexpr (bits == 4) table = _mm512_loadu_ps(mine);
    if constexpr (bits == 3) table = _mm512_maskz_broadcast_f32x8(0xffff, _mm256_loadu_ps(mine));
    if constexpr (bits == 2) table = _mm512_maskz_broadcast_f32x4(0xffff, _mm_loadu_ps(mine));
    const __m512 scale_f32x16 = _mm512_set1_ps(scales == nullptr ? 1.0f : scales[u]);
    PQKV_UNROLL for (std::size_t half = 0; half < 2; ++half) {
      const __m512 levels_f32x16 =
          _mm512_maskz_permutexvar_ps(0xffff, half_codes<bits>(codes + u * stride, half), table);
      _mm512_storeu_ps(out + u * 32 + half * 16, _mm512_mul_ps(scale_f32x16, levels_f32x16));
    }
  }
}

inline void scaled_bytes(const std::uint8_t* codes, std::size_t stride, std::size_t units, const float* scales,
                         float* out) noexcept {
  for (std::size_t u = 0; u < units; ++u) {
    const __m512 scale_f32x16 = _mm512_set1_ps(scales == nullptr ? 1.0f : scales[u]);
    PQKV_UNROLL for (std::size_t half = 0; half < 2; ++half) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + u * stride + half * 16));
      const __m512 codes_f32x16 = _mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, bytes));
      _mm512_storeu_ps(out + u * 32 + half * 16, _mm512_mul_ps(scale_f32x16, codes_f32x16));
    }
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx512
PQKV_TARGET_END

#endif
