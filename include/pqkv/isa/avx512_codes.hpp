// AVX-512: product quantisation, tables, 4-bit scoring. Layer 1. The set is assembled in avx512.hpp.
#pragma once

#include "pqkv/isa/avx2_codes.hpp"
#include "pqkv/isa/avx2_tables.hpp"
#include "pqkv/isa/avx512_rows.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx512 {

/// `together` subspaces of 16 centroids, whose additions hide each other's latency.
template <std::size_t together>
inline void sixteen_dots(const float* query, std::size_t width, const float* centroids, const float* gains, float* table) noexcept {
  __m512 sums_f32x16[together];
  __m512 squares_f32x16[together];
  PQKV_UNROLL for (std::size_t i = 0; i < together; ++i) sums_f32x16[i] = squares_f32x16[i] = _mm512_setzero_ps();
  for (std::size_t d = 0; d < width; ++d) {
    PQKV_UNROLL for (std::size_t i = 0; i < together; ++i) {
      const __m512 x = _mm512_set1_ps(query[i * width + d]);
      sums_f32x16[i] = _mm512_fmadd_ps(x, _mm512_loadu_ps(centroids + (i * width + d) * 16), sums_f32x16[i]);
      squares_f32x16[i] = _mm512_fmadd_ps(x, x, squares_f32x16[i]);
    }
  }
  PQKV_UNROLL for (std::size_t i = 0; i < together; ++i) {
    if (gains != nullptr) sums_f32x16[i] = _mm512_fmadd_ps(squares_f32x16[i], _mm512_loadu_ps(gains + i * 16), sums_f32x16[i]);
    _mm512_storeu_ps(table + i * 16, sums_f32x16[i]);
  }
}

inline void centroid_dots(const float* query, std::size_t subspaces, std::size_t width, const float* centroids,
                          const float* gains, std::size_t count, float* table) noexcept {
  if (count == 16) {
    std::size_t s = 0;
    const auto gains_of = [&](std::size_t subspace) { return gains == nullptr ? nullptr : gains + subspace * 16; };
    for (; s + 4 <= subspaces; s += 4) {
      sixteen_dots<4>(query + s * width, width, centroids + s * width * 16, gains_of(s), table + s * 16);
    }
    for (; s < subspaces; ++s) {
      sixteen_dots<1>(query + s * width, width, centroids + s * width * 16, gains_of(s), table + s * 16);
    }
    return;
  }
  for (std::size_t s = 0; s < subspaces; ++s, query += width, centroids += width * count, table += count) {
    __m512 square_f32x16 = _mm512_setzero_ps();
    for (std::size_t d = 0; gains != nullptr && d < width; ++d) {
      square_f32x16 = _mm512_fmadd_ps(_mm512_set1_ps(query[d]), _mm512_set1_ps(query[d]), square_f32x16);
    }
    for (std::size_t c = 0; c < count; c += 16) {
      __m512 sum_f32x16 = _mm512_setzero_ps();
      for (std::size_t d = 0; d < width; ++d) {
        sum_f32x16 = _mm512_fmadd_ps(_mm512_set1_ps(query[d]), _mm512_loadu_ps(centroids + d * count + c), sum_f32x16);
      }
      if (gains != nullptr) sum_f32x16 = _mm512_fmadd_ps(square_f32x16, _mm512_loadu_ps(gains + s * count + c), sum_f32x16);
      _mm512_storeu_ps(table + c, sum_f32x16);
    }
  }
}

inline void centroid_sum(const float* buckets, std::size_t width, const float* centroids, std::size_t count,
                         float* row) noexcept {
  for (std::size_t d = 0; d < width; ++d) {
    __m512 sum_f32x16 = _mm512_setzero_ps();
    for (std::size_t c = 0; c < count; c += 16) {
      sum_f32x16 = _mm512_fmadd_ps(_mm512_loadu_ps(buckets + c), _mm512_loadu_ps(centroids + d * count + c), sum_f32x16);
    }
    row[d] += sum_of(sum_f32x16);
  }
}

inline __m512 lesser(__m512 x, __m512 y) noexcept { return _mm512_maskz_min_ps(0xffff, x, y); }
inline __m512 greater(__m512 x, __m512 y) noexcept { return _mm512_maskz_max_ps(0xffff, x, y); }
inline __m512 even_quarters(__m512 x, __m512 y) noexcept { return _mm512_maskz_shuffle_f32x4(0xffff, x, y, 0x88); }
inline __m512 odd_quarters(__m512 x, __m512 y) noexcept { return _mm512_maskz_shuffle_f32x4(0xffff, x, y, 0xdd); }

/// The best entry of each of four tables of 16, four times each: lanes 4·i … 4·i + 3 are table i's.
template <__m512 (*better)(__m512, __m512) noexcept>
inline __m512 best_of_four(const __m512* tables_f32x16) noexcept {
  const __m512* x = tables_f32x16;
  const __m512 first = better(even_quarters(x[0], x[1]), odd_quarters(x[0], x[1]));
  const __m512 second = better(even_quarters(x[2], x[3]), odd_quarters(x[2], x[3]));
  const __m512 four = better(even_quarters(first, second), odd_quarters(first, second));
  const __m512 two = better(four, _mm512_maskz_permute_ps(0xffff, four, 0x4e));
  return better(two, _mm512_maskz_permute_ps(0xffff, two, 0xb1));
}

/// Of a distance from the least entry; not yet limited to 255.
inline __m512i level_of(__m512 above, __m512 inverse) noexcept {
  return _mm512_maskz_cvttps_epi32(0xffff, _mm512_add_ps(_mm512_mul_ps(above, inverse), _mm512_set1_ps(0.5f)));
}

/// avx2::byte_table, tables of 16 entries by fours.
inline std::uint32_t byte_table(const float* table, std::size_t subspaces, std::size_t count, std::uint8_t* bytes, float* scale,
                                float* bias) noexcept {
  if (count != 16 || subspaces % 4 != 0) return avx2::byte_table(table, subspaces, count, bytes, scale, bias);
  alignas(64) float leasts[256][4];  // each four times
  alignas(64) float ranges[256][4];
  __m512 sum_f32x16 = _mm512_setzero_ps();
  __m512 widest_f32x16 = _mm512_setzero_ps();
  for (std::size_t s = 0; s < subspaces; s += 4) {
    __m512 tables_f32x16[4];
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) tables_f32x16[i] = _mm512_loadu_ps(table + (s + i) * 16);
    const __m512 least_f32x16 = best_of_four<lesser>(tables_f32x16);
    const __m512 range_f32x16 = _mm512_sub_ps(best_of_four<greater>(tables_f32x16), least_f32x16);
    _mm512_store_ps(leasts[s], least_f32x16);
    _mm512_store_ps(ranges[s], range_f32x16);
    sum_f32x16 = _mm512_add_ps(sum_f32x16, least_f32x16);
    widest_f32x16 = _mm512_maskz_max_ps(0xffff, widest_f32x16, range_f32x16);
  }
  const float widest = maximum_of(widest_f32x16);
  const __m512 inverse_f32x16 = _mm512_set1_ps(widest > 0 ? 255.0f / widest : 0.0f);
  __m512i most_i32x16 = _mm512_setzero_si512();
  for (std::size_t s = 0; s < subspaces; s += 4) {
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
      const __m512 above_f32x16 = _mm512_sub_ps(_mm512_loadu_ps(table + (s + i) * 16), _mm512_set1_ps(leasts[s + i][0]));
      const __m512i level_i32x16 = level_of(above_f32x16, inverse_f32x16);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes + (s + i) * 16), _mm512_maskz_cvtusepi32_epi8(0xffff, level_i32x16));
    }
    const __m512i largest_i32x16 = level_of(_mm512_load_ps(ranges[s]), inverse_f32x16);
    most_i32x16 = _mm512_add_epi32(most_i32x16, _mm512_maskz_min_epi32(0xffff, largest_i32x16, _mm512_set1_epi32(255)));
  }
  *scale = widest / 255.0f;
  *bias = sum_of(sum_f32x16) / 4;
  return static_cast<std::uint32_t>(sum_of(_mm512_maskz_cvtepi32_ps(0xffff, most_i32x16))) / 4;
}

/// One block for `queries` queries, four subspaces per 64 bytes; see avx2::pq4_block for the two sums of a byte pair.
template <std::size_t queries>
inline void pq4_block(const std::uint8_t* block, std::size_t subspaces, const std::uint8_t* tables, const float* scale,
                      const float* bias, float* scores, std::size_t stride) noexcept {
  __m512i sums_u16x32[queries][4];  // tokens 0–15 whole and odd, tokens 16–31 whole and odd
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) sums_u16x32[q][i] = _mm512_setzero_si512();
  }
  const __m512i nibble = _mm512_set1_epi8(15);
  for (std::size_t s = 0; s < subspaces; s += 4) {
    // Quadwords of the subspaces that are left; those behind have an all-zero table.
    const auto lanes = static_cast<__mmask8>(subspaces - s >= 4 ? 0xffu : (1u << (2 * (subspaces - s))) - 1u);
    const __m512i codes_u8x64 = _mm512_maskz_loadu_epi64(lanes, block + s * 16);
    const __m512i low_u8x64 = _mm512_and_si512(codes_u8x64, nibble);
    const __m512i high_u8x64 = _mm512_and_si512(_mm512_srli_epi16(codes_u8x64, 4), nibble);
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
      const __m512i table_u8x64 = _mm512_maskz_loadu_epi64(lanes, tables + (q * subspaces + s) * 16);
      const __m512i first = _mm512_shuffle_epi8(table_u8x64, low_u8x64);
      const __m512i second = _mm512_shuffle_epi8(table_u8x64, high_u8x64);
      sums_u16x32[q][0] = _mm512_add_epi16(sums_u16x32[q][0], first);
      sums_u16x32[q][1] = _mm512_add_epi16(sums_u16x32[q][1], _mm512_srli_epi16(first, 8));
      sums_u16x32[q][2] = _mm512_add_epi16(sums_u16x32[q][2], second);
      sums_u16x32[q][3] = _mm512_add_epi16(sums_u16x32[q][3], _mm512_srli_epi16(second, 8));
    }
  }
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    __m256i halves[4];
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
      halves[i] = _mm256_add_epi16(lower_half(sums_u16x32[q][i]), upper_half(sums_u16x32[q][i]));
    }
    const __m256 scale_f32x8 = _mm256_set1_ps(scale[q]);
    const __m256 bias_f32x8 = _mm256_set1_ps(bias[q]);
    avx2::store_scores(halves[0], halves[1], scale_f32x8, bias_f32x8, scores + q * stride);
    avx2::store_scores(halves[2], halves[3], scale_f32x8, bias_f32x8, scores + q * stride + 16);
  }
}

inline void pq4_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                      const std::uint8_t* tables, std::size_t query_count, const float* scale, const float* bias,
                      float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  for (std::size_t b = 0; b < block_count; ++b) {
    const std::uint8_t* block = blocks + b * 16 * subspaces;
    avx2::prefetch(block, 16 * subspaces, ahead);
    float* out = scores + b * 32;
    std::size_t q = 0;
    for (; q + 4 <= query_count; q += 4) {
      pq4_block<4>(block, subspaces, tables + q * subspaces * 16, scale + q, bias + q, out + q * stride, stride);
    }
    for (; q < query_count; ++q) {
      pq4_block<1>(block, subspaces, tables + q * subspaces * 16, scale + q, bias + q, out + q * stride, stride);
    }
  }
}

/// avx2::pq4_channels with 16 centroids in one register: a look-up of 16 tokens is one vpermps.
template <std::size_t channels, std::size_t queries>
inline void pq4_channels(const std::uint8_t* codes, std::size_t block_count, std::size_t block_bytes,
                         const float* centroids, const float* weights, std::size_t stride, float* outs,
                         std::size_t dim, std::ptrdiff_t ahead) noexcept {
  __m512 centroids_f32x16[channels];
  __m512 sums_f32x16[channels][queries];
  PQKV_UNROLL for (std::size_t d = 0; d < channels; ++d) {
    centroids_f32x16[d] = _mm512_loadu_ps(centroids + d * 16);
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) sums_f32x16[d][q] = _mm512_setzero_ps();
  }
  for (std::size_t b = 0; b < block_count; ++b) {
    if (ahead != 0) avx2::prefetch(codes + b * block_bytes, 64, ahead);
    const __m512i pairs_i32x16 = _mm512_maskz_cvtepu8_epi32(
        0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + b * block_bytes)));
    // The look-up reads four bits of an index.
    const __m512i tokens_i32x16[2] = {pairs_i32x16, _mm512_maskz_srli_epi32(0xffff, pairs_i32x16, 4)};
    PQKV_UNROLL for (std::size_t half = 0; half < 2; ++half) {
      PQKV_UNROLL for (std::size_t d = 0; d < channels; ++d) {
        const __m512 value_f32x16 = _mm512_maskz_permutexvar_ps(0xffff, tokens_i32x16[half], centroids_f32x16[d]);
        PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
          sums_f32x16[d][q] = _mm512_fmadd_ps(value_f32x16, _mm512_loadu_ps(weights + q * stride + b * 32 + half * 16),
                                              sums_f32x16[d][q]);
        }
      }
    }
  }
  PQKV_UNROLL for (std::size_t d = 0; d < channels; ++d) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) outs[q * dim + d] += sum_of(sums_f32x16[d][q]);
  }
}

template <std::size_t queries>
inline void pq4_subspace(const std::uint8_t* codes, std::size_t block_count, std::size_t block_bytes, std::size_t width,
                         const float* centroids, const float* weights, std::size_t stride, float* outs,
                         std::size_t dim, std::ptrdiff_t ahead) noexcept {
  std::size_t d = 0;
  for (; d + 4 <= width; d += 4) {
    pq4_channels<4, queries>(codes, block_count, block_bytes, centroids + d * 16, weights, stride, outs + d, dim,
                            d == 0 ? ahead : 0);
  }
  for (; d < width; ++d) {
    pq4_channels<1, queries>(codes, block_count, block_bytes, centroids + d * 16, weights, stride, outs + d, dim,
                            d == 0 ? ahead : 0);
  }
}

inline void pq4_accumulate(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, std::size_t width,
                           const float* centroids, const float* weights, std::size_t query_count, std::size_t stride,
                           float* outs, std::ptrdiff_t ahead) noexcept {
  const std::size_t dim = subspaces * width;
  for (std::size_t s = 0; s < subspaces; ++s) {
    const std::uint8_t* codes = blocks + s * 16;
    const float* mine = centroids + s * width * 16;
    float* out = outs + s * width;
    // A line holds four subspaces; the first queries ask, for all.
    std::ptrdiff_t asking = s % 4 == 0 ? ahead : 0;
    std::size_t q = 0;
    for (; q + 4 <= query_count; q += 4, asking = 0) {
      pq4_subspace<4>(codes, block_count, subspaces * 16, width, mine, weights + q * stride, stride, out + q * dim, dim,
                      asking);
    }
    for (; q < query_count; ++q, asking = 0) {
      pq4_subspace<1>(codes, block_count, subspaces * 16, width, mine, weights + q * stride, stride, out + q * dim, dim,
                      asking);
    }
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx512
PQKV_TARGET_END

#endif
