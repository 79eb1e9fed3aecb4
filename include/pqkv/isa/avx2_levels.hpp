// AVX2: codes of levels to floats. Layer 1. The set is assembled in avx2.hpp; kernels.hpp draws the units.
// vpermps looks 8 levels up 8 times at once and ignores all but 3 bits of its indices, so codes are shifted but not masked.
#pragma once

#include "pqkv/isa/avx2_rows.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx2 {

/// 8 bytes as 8 dwords.
inline __m256i bytes_as_dwords(const std::uint8_t* bytes) noexcept {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
}

/// Levels of codes 8·octet … + 7 of a unit. `low`: the first 8 levels (of 4: twice), `high`: the others of 16.
template <std::size_t bits>
[[gnu::always_inline]] inline __m256 octet_levels(const std::uint8_t* unit, std::size_t octet, __m256 low,
                                                  __m256 high) noexcept {
  if constexpr (bits == 4) {
    const __m256i bytes_i32x8 = bytes_as_dwords(unit + octet % 2 * 8);
    const __m256i codes_i32x8 = octet < 2 ? bytes_i32x8 : _mm256_srli_epi32(bytes_i32x8, 4);
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(codes_i32x8, 28));  // bit 3 as the sign
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, codes_i32x8), _mm256_permutevar8x32_ps(high, codes_i32x8), upper);
  } else {
    __m256i codes_i32x8 = _mm256_srli_epi32(bytes_as_dwords(unit), static_cast<int>(2 * octet));
    if constexpr (bits == 3) {
      const __m256i place = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
      const __m256i third = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(unit[8 + octet]), place), place);
      codes_i32x8 = _mm256_or_si256(_mm256_and_si256(codes_i32x8, _mm256_set1_epi32(3)),
                                    _mm256_and_si256(third, _mm256_set1_epi32(4)));
    }
    return _mm256_permutevar8x32_ps(low, codes_i32x8);
  }
}

template <std::size_t bits>
inline void levels_of(const std::uint8_t* codes, std::size_t stride, std::size_t units, const float* levels,
                      std::size_t level_stride, const float* scales, float* out) noexcept {
  for (std::size_t u = 0; u < units; ++u) {
    const float* mine = levels + u * level_stride;
    const __m256 low = bits == 2 ? _mm256_broadcast_ps(reinterpret_cast<const __m128*>(mine)) : _mm256_loadu_ps(mine);
    const __m256 high = bits == 4 ? _mm256_loadu_ps(mine + 8) : low;
    const __m256 scale_f32x8 = _mm256_set1_ps(scales == nullptr ? 1.0f : scales[u]);
    PQKV_UNROLL for (std::size_t octet = 0; octet < 4; ++octet) {
      const __m256 levels_f32x8 = octet_levels<bits>(codes + u * stride, octet, low, high);
      _mm256_storeu_ps(out + u * 32 + octet * 8, _mm256_mul_ps(scale_f32x8, levels_f32x8));
    }
  }
}

inline void scaled_bytes(const std::uint8_t* codes, std::size_t stride, std::size_t units, const float* scales,
                         float* out) noexcept {
  for (std::size_t u = 0; u < units; ++u) {
    const __m256 scale_f32x8 = _mm256_set1_ps(scales == nullptr ? 1.0f : scales[u]);
    PQKV_UNROLL for (std::size_t octet = 0; octet < 4; ++octet) {
      const auto* bytes = reinterpret_cast<const __m128i*>(codes + u * stride + octet * 8);
      const __m256 codes_f32x8 = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(bytes)));
      _mm256_storeu_ps(out + u * 32 + octet * 8, _mm256_mul_ps(scale_f32x8, codes_f32x8));
    }
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx2
PQKV_TARGET_END

#endif
