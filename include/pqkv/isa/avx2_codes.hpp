// AVX2: product quantisation, tables, encoding, scoring. Layer 1. The set is assembled in avx2.hpp.
#pragma once

#include "pqkv/isa/avx2_rows.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx2 {

inline void centroid_dots(const float* query, std::size_t subspaces, std::size_t width, const float* centroids,
                          const float* gains, std::size_t count, float* table) noexcept {
  for (std::size_t s = 0; s < subspaces; ++s, query += width, centroids += width * count, table += count) {
    __m256 square_f32x8 = _mm256_setzero_ps();
    for (std::size_t d = 0; gains != nullptr && d < width; ++d) {
      const __m256 x = _mm256_broadcast_ss(query + d);
      square_f32x8 = _mm256_fmadd_ps(x, x, square_f32x8);
    }
    for (std::size_t c = 0; c < count; c += 16) {
      __m256 first_f32x8 = _mm256_setzero_ps();
      __m256 second_f32x8 = _mm256_setzero_ps();
      for (std::size_t d = 0; d < width; ++d) {
        const __m256 x = _mm256_broadcast_ss(query + d);
        first_f32x8 = _mm256_fmadd_ps(x, _mm256_loadu_ps(centroids + d * count + c), first_f32x8);
        second_f32x8 = _mm256_fmadd_ps(x, _mm256_loadu_ps(centroids + d * count + c + 8), second_f32x8);
      }
      if (gains != nullptr) {
        first_f32x8 = _mm256_fmadd_ps(square_f32x8, _mm256_loadu_ps(gains + s * count + c), first_f32x8);
        second_f32x8 = _mm256_fmadd_ps(square_f32x8, _mm256_loadu_ps(gains + s * count + c + 8), second_f32x8);
      }
      _mm256_storeu_ps(table + c, first_f32x8);
      _mm256_storeu_ps(table + c + 8, second_f32x8);
    }
  }
}

inline void centroid_dots4(const float* queries, std::size_t dim, std::size_t width, const float* centroids,
                           std::size_t count, float* table) noexcept {
  for (std::size_t c = 0; c < count; c += 8) {
    __m256 sums_f32x8[4];
    PQKV_UNROLL for (std::size_t q = 0; q < 4; ++q) sums_f32x8[q] = _mm256_setzero_ps();
    for (std::size_t d = 0; d < width; ++d) {
      const __m256 centroids_f32x8 = _mm256_loadu_ps(centroids + d * count + c);
      PQKV_UNROLL for (std::size_t q = 0; q < 4; ++q) {
        sums_f32x8[q] = _mm256_fmadd_ps(_mm256_broadcast_ss(queries + q * dim + d), centroids_f32x8, sums_f32x8[q]);
      }
    }
    const __m256 a = _mm256_unpacklo_ps(sums_f32x8[0], sums_f32x8[1]);  // queries 0, 1 of centroids 0, 1 | 4, 5
    const __m256 b = _mm256_unpackhi_ps(sums_f32x8[0], sums_f32x8[1]);
    const __m256 e = _mm256_unpacklo_ps(sums_f32x8[2], sums_f32x8[3]);
    const __m256 f = _mm256_unpackhi_ps(sums_f32x8[2], sums_f32x8[3]);
    const __m256 quads[4] = {_mm256_shuffle_ps(a, e, 0x44), _mm256_shuffle_ps(a, e, 0xee), _mm256_shuffle_ps(b, f, 0x44),
                             _mm256_shuffle_ps(b, f, 0xee)};  // centroids i | i + 4
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
      _mm_storeu_ps(table + (c + i) * 4, _mm256_castps256_ps128(quads[i]));
      _mm_storeu_ps(table + (c + i + 4) * 4, _mm256_extractf128_ps(quads[i], 1));
    }
  }
}

inline void centroid_sum(const float* buckets, std::size_t width, const float* centroids, std::size_t count,
                         float* row) noexcept {
  for (std::size_t d = 0; d < width; ++d) {
    __m256 first_f32x8 = _mm256_setzero_ps();
    __m256 second_f32x8 = _mm256_setzero_ps();
    for (std::size_t c = 0; c < count; c += 16) {
      first_f32x8 = _mm256_fmadd_ps(_mm256_loadu_ps(buckets + c), _mm256_loadu_ps(centroids + d * count + c), first_f32x8);
      second_f32x8 = _mm256_fmadd_ps(_mm256_loadu_ps(buckets + c + 8), _mm256_loadu_ps(centroids + d * count + c + 8),
                                     second_f32x8);
    }
    row[d] += sum_of(_mm256_add_ps(first_f32x8, second_f32x8));
  }
}

/// Two subspaces' looked-up bytes summed per token, as floats: even tokens' sums are what `whole` (even + 256·odd) has
/// beyond `odd`.
inline void store_scores(__m256i whole_u16x16, __m256i odd_u16x16, __m256 scale, __m256 bias, float* scores) noexcept {
  const __m256i even_u16x16 = _mm256_sub_epi16(whole_u16x16, _mm256_slli_epi16(odd_u16x16, 8));
  const __m128i even = _mm_add_epi16(_mm256_castsi256_si128(even_u16x16), _mm256_extracti128_si256(even_u16x16, 1));
  const __m128i odd = _mm_add_epi16(_mm256_castsi256_si128(odd_u16x16), _mm256_extracti128_si256(odd_u16x16, 1));
  const __m256 low = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_unpacklo_epi16(even, odd)));
  const __m256 high = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_unpackhi_epi16(even, odd)));
  _mm256_storeu_ps(scores, _mm256_fmadd_ps(low, scale, bias));
  _mm256_storeu_ps(scores + 8, _mm256_fmadd_ps(high, scale, bias));
}

/// 16 bytes of each of two subspaces, or of the last one.
inline __m256i load_subspaces(const std::uint8_t* bytes, bool pair) noexcept {
  return pair ? load_bytes(bytes) : _mm256_zextsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
}

/// `together` blocks for `queries` queries. Bytes are summed in 16-bit lanes without unpacking: once as they are (even byte +
/// 256·odd byte, modulo 2¹⁶) and once shifted (odd byte alone).
template <std::size_t together, std::size_t queries>
inline void pq4_blocks(const std::uint8_t* blocks, std::size_t subspaces, const std::uint8_t* tables, const float* scale,
                       const float* bias, float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  constexpr std::size_t cells = together * queries;
  __m256i sums_u16x16[cells][4];  // tokens 0–15 whole and odd, tokens 16–31 whole and odd
  PQKV_UNROLL for (std::size_t i = 0; i < cells; ++i) {
    PQKV_UNROLL for (std::size_t j = 0; j < 4; ++j) sums_u16x16[i][j] = _mm256_setzero_si256();
  }
  const __m256i nibble = _mm256_set1_epi8(15);
  for (std::size_t s = 0; s < subspaces; s += 2) {
    const bool pair = s + 2 <= subspaces;
    PQKV_UNROLL for (std::size_t b = 0; b < together; ++b) {
      const std::uint8_t* codes = blocks + (b * subspaces + s) * 16;
      if (s % 4 == 0) prefetch(codes, 64, ahead);
      const __m256i codes_u8x32 = load_subspaces(codes, pair);
      const __m256i low_u8x32 = _mm256_and_si256(codes_u8x32, nibble);
      const __m256i high_u8x32 = _mm256_and_si256(_mm256_srli_epi16(codes_u8x32, 4), nibble);
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        __m256i* sums = sums_u16x16[b * queries + q];
        const __m256i table_u8x32 = load_subspaces(tables + (q * subspaces + s) * 16, pair);
        const __m256i first = _mm256_shuffle_epi8(table_u8x32, low_u8x32);
        const __m256i second = _mm256_shuffle_epi8(table_u8x32, high_u8x32);
        sums[0] = _mm256_add_epi16(sums[0], first);
        sums[1] = _mm256_add_epi16(sums[1], _mm256_srli_epi16(first, 8));
        sums[2] = _mm256_add_epi16(sums[2], second);
        sums[3] = _mm256_add_epi16(sums[3], _mm256_srli_epi16(second, 8));
      }
    }
  }
  PQKV_UNROLL for (std::size_t i = 0; i < cells; ++i) {
    const std::size_t q = i % queries;
    float* out = scores + q * stride + i / queries * 32;
    const __m256 scale_f32x8 = _mm256_set1_ps(scale[q]);
    const __m256 bias_f32x8 = _mm256_set1_ps(bias[q]);
    store_scores(sums_u16x16[i][0], sums_u16x16[i][1], scale_f32x8, bias_f32x8, out);
    store_scores(sums_u16x16[i][2], sums_u16x16[i][3], scale_f32x8, bias_f32x8, out + 16);
  }
}

inline void pq4_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                      const std::uint8_t* tables, std::size_t query_count, const float* scale, const float* bias,
                      float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  std::size_t b = 0;
  for (; query_count == 1 && b + 2 <= block_count; b += 2) {
    pq4_blocks<2, 1>(blocks + b * 16 * subspaces, subspaces, tables, scale, bias, scores + b * 32, stride, ahead);
  }
  for (; b < block_count; ++b) {
    const std::uint8_t* block = blocks + b * 16 * subspaces;
    std::ptrdiff_t asking = ahead;  // the first queries ask, for all
    std::size_t q = 0;
    for (; q + 2 <= query_count; q += 2, asking = 0) {
      pq4_blocks<1, 2>(block, subspaces, tables + q * subspaces * 16, scale + q, bias + q, scores + q * stride + b * 32, stride,
                       asking);
    }
    if (q < query_count) {
      pq4_blocks<1, 1>(block, subspaces, tables + q * subspaces * 16, scale + q, bias + q, scores + q * stride + b * 32, stride,
                       asking);
    }
  }
}

// Eight sums at once hide the latency of the additions.
inline void pq8_score4(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* table,
                       float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  for (std::size_t octet = 0; octet < block_count * 4; ++octet) {
    const std::uint8_t* codes = blocks + octet * 8 * subspaces;
    prefetch(codes, 8 * subspaces, ahead);
    __m128 sums_f32x4[8];  // per token, a lane per query
    PQKV_UNROLL for (std::size_t t = 0; t < 8; ++t) sums_f32x4[t] = _mm_setzero_ps();
    for (std::size_t s = 0; s < subspaces; ++s) {
      const float* entries = table + s * 1024;
      PQKV_UNROLL for (std::size_t t = 0; t < 8; ++t) {
        sums_f32x4[t] = _mm_add_ps(sums_f32x4[t], _mm_loadu_ps(entries + codes[s * 8 + t] * 4u));
      }
    }
    _MM_TRANSPOSE4_PS(sums_f32x4[0], sums_f32x4[1], sums_f32x4[2], sums_f32x4[3]);
    _MM_TRANSPOSE4_PS(sums_f32x4[4], sums_f32x4[5], sums_f32x4[6], sums_f32x4[7]);
    PQKV_UNROLL for (std::size_t q = 0; q < 4; ++q) {
      _mm_storeu_ps(scores + q * stride + octet * 8, sums_f32x4[q]);
      _mm_storeu_ps(scores + q * stride + octet * 8 + 4, sums_f32x4[q + 4]);
    }
  }
}

/// Subspaces outside, so that their sums stay in registers while the codes of a tile, which the first-level cache holds,
/// pass by: `channels` × `queries` sums. 16 centroids are two registers, looked up by the low three bits of a code and
/// chosen by its fourth.
template <std::size_t channels, std::size_t queries>
inline void pq4_channels(const std::uint8_t* codes, std::size_t block_count, std::size_t block_bytes,
                         const float* centroids, const float* weights, std::size_t stride, float* outs,
                         std::size_t dim, std::ptrdiff_t ahead) noexcept {
  __m256 sums_f32x8[channels][queries];
  PQKV_UNROLL for (std::size_t d = 0; d < channels; ++d) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) sums_f32x8[d][q] = _mm256_setzero_ps();
  }
  for (std::size_t b = 0; b < block_count; ++b) {
    if (ahead != 0) prefetch(codes + b * block_bytes, 64, ahead);
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {  // tokens 8·i … 8·i + 7
      std::uint64_t pairs = 0;
      std::memcpy(&pairs, codes + b * block_bytes + i % 2 * 8, sizeof pairs);
      const __m256i wide = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(pairs)));
      const __m256i code_i32x8 = i < 2 ? wide : _mm256_srli_epi32(wide, 4);
      const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(code_i32x8, 28));  // bit 3 becomes the sign
      __m256 weights_f32x8[queries];
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        weights_f32x8[q] = _mm256_loadu_ps(weights + q * stride + b * 32 + i * 8);
      }
      PQKV_UNROLL for (std::size_t d = 0; d < channels; ++d) {
        const __m256 value_f32x8 =
            _mm256_blendv_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(centroids + d * 16), code_i32x8),
                             _mm256_permutevar8x32_ps(_mm256_loadu_ps(centroids + d * 16 + 8), code_i32x8), upper);
        PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
          sums_f32x8[d][q] = _mm256_fmadd_ps(value_f32x8, weights_f32x8[q], sums_f32x8[d][q]);
        }
      }
    }
  }
  PQKV_UNROLL for (std::size_t d = 0; d < channels; ++d) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) outs[q * dim + d] += sum_of(sums_f32x8[d][q]);
  }
}

template <std::size_t queries>
inline void pq4_subspace(const std::uint8_t* codes, std::size_t block_count, std::size_t block_bytes, std::size_t width,
                         const float* centroids, const float* weights, std::size_t stride, float* outs,
                         std::size_t dim, std::ptrdiff_t ahead) noexcept {
  std::size_t d = 0;
  constexpr std::size_t step = queries == 4 ? 2 : 4;
  for (; d + step <= width; d += step) {
    pq4_channels<step, queries>(codes, block_count, block_bytes, centroids + d * 16, weights, stride, outs + d, dim,
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

// One load, addition and store serve four queries.
inline void pq8_fill4(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* weights,
                      std::size_t stride, float* buckets, std::ptrdiff_t ahead) noexcept {
  for (std::size_t octet = 0; octet < block_count * 4; ++octet) {
    const std::uint8_t* codes = blocks + octet * 8 * subspaces;
    prefetch(codes, 8 * subspaces, ahead);
    const float* line = weights + octet * 8;
    for (std::size_t t = 0; t < 8; ++t) {
      const __m128 weights_f32x4 =
          _mm_setr_ps(line[t], line[stride + t], line[2 * stride + t], line[3 * stride + t]);
      for (std::size_t s = 0; s < subspaces; ++s) {
        float* bucket = buckets + (s * 256 + codes[s * 8 + t]) * 4;
        _mm_storeu_ps(bucket, _mm_add_ps(_mm_loadu_ps(bucket), weights_f32x4));
      }
    }
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx2
PQKV_TARGET_END

#endif
