// AVX-512: near centroids. Layer 1. The set is assembled in avx512.hpp; avx2_nearest.hpp says what bounds them.
#pragma once

#include "pqkv/isa/avx2_nearest.hpp"
#include "pqkv/isa/avx512_rows.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx512 {

/// Of each of `count` rows the nearest of the centroids with the same c mod 16, as costs and indices.
template <std::size_t count>
struct NearestOfLanes {
  __m512 costs_f32x16[count];
  __m512i indices_i32x16[count];
};

/// `count` rows at once, so that each centroid is loaded once for all of them.
template <std::size_t count>
inline NearestOfLanes<count> lanes_tile(const float* rows, std::size_t stride, std::size_t width, const float* centroids,
                                        const float* half_norms, std::size_t centroid_count) noexcept {
  NearestOfLanes<count> nearest;
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    nearest.costs_f32x16[r] = _mm512_set1_ps(3.4e38f);
    nearest.indices_i32x16[r] = _mm512_setzero_si512();
  }
  __m512i index_i32x16 = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (std::size_t c = 0; c < centroid_count; c += 16) {
    __m512 cost_f32x16[count];
    PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) cost_f32x16[r] = _mm512_loadu_ps(half_norms + c);
    for (std::size_t d = 0; d < width; ++d) {
      const __m512 centroid_f32x16 = _mm512_loadu_ps(centroids + d * centroid_count + c);
      PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
        cost_f32x16[r] = _mm512_fnmadd_ps(_mm512_set1_ps(rows[r * stride + d]), centroid_f32x16, cost_f32x16[r]);
      }
    }
    PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
      const __mmask16 closer = _mm512_cmp_ps_mask(cost_f32x16[r], nearest.costs_f32x16[r], _CMP_LT_OQ);
      nearest.costs_f32x16[r] = _mm512_mask_mov_ps(nearest.costs_f32x16[r], closer, cost_f32x16[r]);
      nearest.indices_i32x16[r] = _mm512_mask_mov_epi32(nearest.indices_i32x16[r], closer, index_i32x16);
    }
    index_i32x16 = _mm512_add_epi32(index_i32x16, _mm512_set1_epi32(16));
  }
  return nearest;
}

template <std::size_t count>
inline void nearest_tile(const float* rows, std::size_t stride, std::size_t width, const float* centroids,
                         const float* half_norms, std::size_t centroid_count, std::uint8_t* codes) noexcept {
  const NearestOfLanes<count> nearest = lanes_tile<count>(rows, stride, width, centroids, half_norms, centroid_count);
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    // Centroids that are equally near: the first one.
    const __m512 costs_f32x16 = nearest.costs_f32x16[r];
    const __m512 least = _mm512_set1_ps(-maximum_of(_mm512_sub_ps(_mm512_setzero_ps(), costs_f32x16)));
    const __mmask16 equals = _mm512_cmp_ps_mask(costs_f32x16, least, _CMP_EQ_OQ);
    const __m512i candidates = _mm512_mask_mov_epi32(_mm512_set1_epi32(255), equals, nearest.indices_i32x16[r]);
    const __m256i eight = _mm256_min_epi32(lower_half(candidates), upper_half(candidates));
    __m128i four = _mm_min_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_min_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_min_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    codes[r] = static_cast<std::uint8_t>(_mm_cvtsi128_si32(four));
  }
}

/// The lanes of a part are p and p + 8.
template <std::size_t count>
inline void nearest_of_parts_tile(const float* rows, std::size_t stride, std::size_t width, const float* centroids,
                                  const float* half_norms, std::size_t centroid_count, float* costs,
                                  std::uint8_t* codes) noexcept {
  const NearestOfLanes<count> nearest = lanes_tile<count>(rows, stride, width, centroids, half_norms, centroid_count);
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    const __m256 costs_f32x8[] = {lower_half(nearest.costs_f32x16[r]), upper_half(nearest.costs_f32x16[r])};
    const __m256i indices_i32x8[] = {lower_half(nearest.indices_i32x16[r]), upper_half(nearest.indices_i32x16[r])};
    // Of equals the first.
    const auto equal = static_cast<unsigned>(_mm256_cmp_ps_mask(costs_f32x8[1], costs_f32x8[0], _CMP_EQ_OQ));
    const auto before = static_cast<unsigned>(_mm256_cmplt_epi32_mask(indices_i32x8[1], indices_i32x8[0]));
    const auto less = static_cast<unsigned>(_mm256_cmp_ps_mask(costs_f32x8[1], costs_f32x8[0], _CMP_LT_OQ));
    const __m256i index_i32x8 =
        _mm256_mask_mov_epi32(indices_i32x8[0], static_cast<__mmask8>(less | (equal & before)), indices_i32x8[1]);
    _mm256_storeu_ps(costs + r * 8, _mm256_min_ps(costs_f32x8[1], costs_f32x8[0]));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(codes + r * 8), _mm256_maskz_cvtepi32_epi8(0xff, index_i32x8));
  }
}

inline void nearest_of_parts(const float* rows, std::size_t row_count, std::size_t stride, std::size_t width,
                             const float* centroids, const float* half_norms, std::size_t count, float* costs,
                             std::uint8_t* codes) noexcept {
  std::size_t r = 0;
  for (; r + 8 <= row_count; r += 8) {
    nearest_of_parts_tile<8>(rows + r * stride, stride, width, centroids, half_norms, count, costs + r * 8, codes + r * 8);
  }
  for (; r < row_count; ++r) {
    nearest_of_parts_tile<1>(rows + r * stride, stride, width, centroids, half_norms, count, costs + r * 8, codes + r * 8);
  }
}

/// avx2::nearest_of_few for 16 rows and 16 centroids.
inline void nearest_of_sixteen(const float* rows, std::size_t stride, std::size_t width, const float* centroids,
                               const float* half_norms, std::uint8_t* codes) noexcept {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i places_i32x16 = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(static_cast<int>(stride)));
  __m512 distance_f32x16[16];
  PQKV_UNROLL for (std::size_t c = 0; c < 16; ++c) distance_f32x16[c] = _mm512_set1_ps(half_norms[c]);
  for (std::size_t d = 0; d < width; ++d) {
    const __m512 rows_f32x16 =
        _mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, places_i32x16, rows + d, 4);
    PQKV_UNROLL for (std::size_t c = 0; c < 16; ++c) {
      distance_f32x16[c] = _mm512_fnmadd_ps(rows_f32x16, _mm512_set1_ps(centroids[d * 16 + c]), distance_f32x16[c]);
    }
  }
  __m512 best_f32x16 = distance_f32x16[0];
  __m512i nearest_i32x16 = _mm512_setzero_si512();
  PQKV_UNROLL for (std::size_t c = 1; c < 16; ++c) {
    const __mmask16 closer = _mm512_cmp_ps_mask(distance_f32x16[c], best_f32x16, _CMP_LT_OQ);
    best_f32x16 = _mm512_mask_mov_ps(best_f32x16, closer, distance_f32x16[c]);
    nearest_i32x16 = _mm512_mask_mov_epi32(nearest_i32x16, closer, _mm512_set1_epi32(static_cast<int>(c)));
  }
  _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm512_maskz_cvtepi32_epi8(0xffff, nearest_i32x16));
}

inline void nearest_centroid(const float* rows, std::size_t row_count, std::size_t stride, std::size_t width,
                             const float* centroids, const float* half_norms, std::size_t count,
                             std::uint8_t* codes) noexcept {
  std::size_t r = 0;
  for (; count == 16 && r + 16 <= row_count; r += 16) {
    nearest_of_sixteen(rows + r * stride, stride, width, centroids, half_norms, codes + r);
  }
  for (; r + 8 <= row_count; r += 8) {
    nearest_tile<8>(rows + r * stride, stride, width, centroids, half_norms, count, codes + r);
  }
  for (; r < row_count; ++r) {
    nearest_tile<1>(rows + r * stride, stride, width, centroids, half_norms, count, codes + r);
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx512
PQKV_TARGET_END

#endif
