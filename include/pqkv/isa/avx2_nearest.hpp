// AVX2: near centroids. Layer 1. The set is assembled in avx2.hpp. Bound by the two multipliers: width products per
// row and centroid, as in a matrix product, and for narrow subspaces by as many comparisons and choices.
#pragma once

#include "pqkv/isa/avx2_rows.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx2 {

/// Of each of `count` rows the nearest centroid of each of eight parts (c mod 8), as costs and indices.
template <std::size_t count>
struct NearestOfParts {
  __m256 costs_f32x8[count];
  __m256i indices_i32x8[count];
};

/// `count` rows at once against 16 centroids at once: enough sums to hide the latency of the multiplications, and each
/// centroid is loaded once for all rows.
template <std::size_t count>
inline NearestOfParts<count> parts_tile(const float* rows, std::size_t stride, std::size_t width, const float* centroids,
                                        const float* half_norms, std::size_t centroid_count) noexcept {
  NearestOfParts<count> nearest;
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    nearest.costs_f32x8[r] = _mm256_set1_ps(3.4e38f);
    nearest.indices_i32x8[r] = _mm256_setzero_si256();
  }
  const __m256i eight_i32x8 = _mm256_set1_epi32(8);
  __m256i index_i32x8 = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (std::size_t c = 0; c < centroid_count; c += 16) {
    __m256 first_f32x8[count];
    __m256 second_f32x8[count];
    PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
      first_f32x8[r] = _mm256_loadu_ps(half_norms + c);
      second_f32x8[r] = _mm256_loadu_ps(half_norms + c + 8);
    }
    for (std::size_t d = 0; d < width; ++d) {
      const __m256 low_f32x8 = _mm256_loadu_ps(centroids + d * centroid_count + c);
      const __m256 high_f32x8 = _mm256_loadu_ps(centroids + d * centroid_count + c + 8);
      PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
        const __m256 row_f32x8 = _mm256_broadcast_ss(rows + r * stride + d);
        first_f32x8[r] = _mm256_fnmadd_ps(row_f32x8, low_f32x8, first_f32x8[r]);
        second_f32x8[r] = _mm256_fnmadd_ps(row_f32x8, high_f32x8, second_f32x8[r]);
      }
    }
    const __m256i later_i32x8 = _mm256_add_epi32(index_i32x8, eight_i32x8);
    PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
      const __m256 later = _mm256_cmp_ps(second_f32x8[r], first_f32x8[r], _CMP_LT_OQ);
      const __m256 less_f32x8 = _mm256_min_ps(second_f32x8[r], first_f32x8[r]);
      const __m256i which_i32x8 = _mm256_blendv_epi8(index_i32x8, later_i32x8, _mm256_castps_si256(later));
      const __m256 closer = _mm256_cmp_ps(less_f32x8, nearest.costs_f32x8[r], _CMP_LT_OQ);
      nearest.costs_f32x8[r] = _mm256_min_ps(less_f32x8, nearest.costs_f32x8[r]);
      nearest.indices_i32x8[r] = _mm256_blendv_epi8(nearest.indices_i32x8[r], which_i32x8, _mm256_castps_si256(closer));
    }
    index_i32x8 = _mm256_add_epi32(later_i32x8, eight_i32x8);
  }
  return nearest;
}

template <std::size_t count>
inline void nearest_tile(const float* rows, std::size_t stride, std::size_t width, const float* centroids,
                         const float* half_norms, std::size_t centroid_count, std::uint8_t* codes) noexcept {
  const NearestOfParts<count> nearest = parts_tile<count>(rows, stride, width, centroids, half_norms, centroid_count);
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    // Among the lanes of the least distance, the least index.
    const __m256 costs_f32x8 = nearest.costs_f32x8[r];
    const __m256 least = _mm256_set1_ps(-maximum_of(_mm256_xor_ps(costs_f32x8, _mm256_set1_ps(-0.0f))));
    const __m256 farther = _mm256_cmp_ps(costs_f32x8, least, _CMP_NEQ_UQ);
    const __m256i candidates = _mm256_or_si256(nearest.indices_i32x8[r], _mm256_castps_si256(farther));
    __m128i four = _mm_min_epu32(_mm256_castsi256_si128(candidates), _mm256_extracti128_si256(candidates, 1));
    four = _mm_min_epu32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_min_epu32(four, _mm_shuffle_epi32(four, 0xb1));
    codes[r] = static_cast<std::uint8_t>(_mm_cvtsi128_si32(four));
  }
}

/// Eight 32-bit numbers below 256 as bytes.
inline void store_bytes(__m256i numbers_i32x8, std::uint8_t* bytes) noexcept {
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(numbers_i32x8), _mm256_extracti128_si256(numbers_i32x8, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(bytes), _mm_packus_epi16(words, words));
}

template <std::size_t count>
inline void nearest_of_parts_tile(const float* rows, std::size_t stride, std::size_t width, const float* centroids,
                                  const float* half_norms, std::size_t centroid_count, float* costs,
                                  std::uint8_t* codes) noexcept {
  const NearestOfParts<count> nearest = parts_tile<count>(rows, stride, width, centroids, half_norms, centroid_count);
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    _mm256_storeu_ps(costs + r * 8, nearest.costs_f32x8[r]);
    store_bytes(nearest.indices_i32x8[r], codes + r * 8);
  }
}

inline void nearest_of_parts(const float* rows, std::size_t row_count, std::size_t stride, std::size_t width,
                             const float* centroids, const float* half_norms, std::size_t count, float* costs,
                             std::uint8_t* codes) noexcept {
  std::size_t r = 0;
  for (; r + 4 <= row_count; r += 4) {
    nearest_of_parts_tile<4>(rows + r * stride, stride, width, centroids, half_norms, count, costs + r * 8, codes + r * 8);
  }
  for (; r < row_count; ++r) {
    nearest_of_parts_tile<1>(rows + r * stride, stride, width, centroids, half_norms, count, costs + r * 8, codes + r * 8);
  }
}

/// Eight rows against few centroids, a row per lane, so that nothing is searched across lanes: the rows are turned on
/// their side first.
inline void nearest_of_few(const float* rows, std::size_t stride, std::size_t width, const float* centroids,
                           const float* half_norms, std::size_t centroid_count, std::uint8_t* codes) noexcept {
  const __m256i places_i32x8 = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                                                  _mm256_set1_epi32(static_cast<int>(stride)));
  __m256 best_f32x8 = _mm256_set1_ps(3.4e38f);
  __m256i nearest_i32x8 = _mm256_setzero_si256();
  for (std::size_t c = 0; c < centroid_count; c += 8) {
    __m256 distance_f32x8[8];
    PQKV_UNROLL for (std::size_t i = 0; i < 8; ++i) distance_f32x8[i] = _mm256_broadcast_ss(half_norms + c + i);
    for (std::size_t d = 0; d < width; ++d) {
      const __m256 rows_f32x8 = _mm256_i32gather_ps(rows + d, places_i32x8, 4);
      PQKV_UNROLL for (std::size_t i = 0; i < 8; ++i) {
        const __m256 centroid = _mm256_broadcast_ss(centroids + d * centroid_count + c + i);
        distance_f32x8[i] = _mm256_fnmadd_ps(rows_f32x8, centroid, distance_f32x8[i]);
      }
    }
    PQKV_UNROLL for (std::size_t i = 0; i < 8; ++i) {
      const __m256 closer = _mm256_cmp_ps(distance_f32x8[i], best_f32x8, _CMP_LT_OQ);
      best_f32x8 = _mm256_min_ps(distance_f32x8[i], best_f32x8);
      nearest_i32x8 = _mm256_blendv_epi8(nearest_i32x8, _mm256_set1_epi32(static_cast<int>(c + i)),
                                         _mm256_castps_si256(closer));
    }
  }
  store_bytes(nearest_i32x8, codes);
}

inline void nearest_centroid(const float* rows, std::size_t row_count, std::size_t stride, std::size_t width,
                             const float* centroids, const float* half_norms, std::size_t count,
                             std::uint8_t* codes) noexcept {
  std::size_t r = 0;
  for (; count == 16 && r + 8 <= row_count; r += 8) {
    nearest_of_few(rows + r * stride, stride, width, centroids, half_norms, count, codes + r);
  }
  for (; r + 4 <= row_count; r += 4) {
    nearest_tile<4>(rows + r * stride, stride, width, centroids, half_norms, count, codes + r);
  }
  for (; r < row_count; ++r) {
    nearest_tile<1>(rows + r * stride, stride, width, centroids, half_norms, count, codes + r);
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx2
PQKV_TARGET_END

#endif
