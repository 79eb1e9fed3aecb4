// AVX2: tables as bytes, and scoring of 6-bit codes by four in-register tables per subspace. Layer 1. The set is assembled
// in avx2.hpp. Bound by the shuffle ports: four look-ups of 32 tokens per subspace and query.
#pragma once

#include "pqkv/isa/avx2_rows.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx2 {

inline float minimum_of(__m256 x) noexcept { return -maximum_of(_mm256_xor_ps(x, _mm256_set1_ps(-0.0f))); }

/// Of a distance from the least entry; not yet limited to 255.
inline __m256i level_of(__m256 above, __m256 inverse) noexcept {
  return _mm256_cvttps_epi32(_mm256_add_ps(_mm256_mul_ps(above, inverse), _mm256_set1_ps(0.5f)));
}

inline std::uint32_t byte_table(const float* table, std::size_t subspaces, std::size_t count, std::uint8_t* bytes, float* scale,
                                float* bias) noexcept {
  float leasts[256];
  float ranges[256 + 7];
  float widest = 0;
  float sum = 0;
  for (std::size_t s = 0; s < subspaces; ++s) {
    const float* entries = table + s * count;
    __m256 least_f32x8 = _mm256_loadu_ps(entries);
    __m256 most_f32x8 = least_f32x8;
    for (std::size_t i = 8; i < count; i += 8) {
      least_f32x8 = _mm256_min_ps(least_f32x8, _mm256_loadu_ps(entries + i));
      most_f32x8 = _mm256_max_ps(most_f32x8, _mm256_loadu_ps(entries + i));
    }
    leasts[s] = minimum_of(least_f32x8);
    ranges[s] = maximum_of(most_f32x8) - leasts[s];
    widest = std::max(widest, ranges[s]);
    sum += leasts[s];
  }
  const __m256 inverse_f32x8 = _mm256_set1_ps(widest > 0 ? 255.0f / widest : 0.0f);
  for (std::size_t s = 0; s < subspaces; ++s) {
    const __m256 least_f32x8 = _mm256_set1_ps(leasts[s]);
    for (std::size_t i = s * count; i < (s + 1) * count; i += 16) {
      __m256i level_i32x8[2];
      PQKV_UNROLL for (std::size_t half = 0; half < 2; ++half) {
        const __m256 above = _mm256_sub_ps(_mm256_loadu_ps(table + i + half * 8), least_f32x8);
        level_i32x8[half] = level_of(above, inverse_f32x8);
      }
      // Packing saturates at 255, and works on halves of a register.
      const __m256i words =
          _mm256_permute4x64_epi64(_mm256_packus_epi32(level_i32x8[0], level_i32x8[1]), 0xd8);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes + i),
                       _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    }
  }
  *scale = widest / 255.0f;
  *bias = sum;
  std::fill_n(ranges + subspaces, 7, 0.0f);
  __m256i most_i32x8 = _mm256_setzero_si256();
  for (std::size_t s = 0; s < subspaces; s += 8) {
    const __m256i level_i32x8 = level_of(_mm256_loadu_ps(ranges + s), inverse_f32x8);
    most_i32x8 = _mm256_add_epi32(most_i32x8, _mm256_min_epi32(level_i32x8, _mm256_set1_epi32(255)));
  }
  __m128i most_i32x4 = _mm_add_epi32(_mm256_castsi256_si128(most_i32x8), _mm256_extracti128_si256(most_i32x8, 1));
  most_i32x4 = _mm_hadd_epi32(most_i32x4, most_i32x4);
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_hadd_epi32(most_i32x4, most_i32x4)));
}

/// The 6-bit codes of 32 tokens in one subspace of a block, in the order of tokens.
inline __m256i pq6_codes(const std::uint8_t* codes) noexcept {
  const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  const __m256i nibbles_u8x32 = _mm256_and_si256(
      _mm256_inserti128_si256(_mm256_castsi128_si256(pairs), _mm_srli_epi16(pairs, 4), 1), _mm256_set1_epi8(15));
  const __m256i crumbs = _mm256_broadcastq_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + 16)));
  const __m256i upper_u8x32 =
      _mm256_and_si256(_mm256_srlv_epi64(crumbs, _mm256_setr_epi64x(0, 2, 4, 6)), _mm256_set1_epi8(3));
  return _mm256_or_si256(nibbles_u8x32, _mm256_slli_epi16(upper_u8x32, 4));
}

/// Scores of 32 tokens from their looked-up bytes' sums: `whole` (even + 256·odd token, modulo 2¹⁶) and `odd`.
inline void store_tokens(__m256i whole_u16x16, __m256i odd_u16x16, float scale, float bias, float* scores) noexcept {
  const __m256i even_u16x16 = _mm256_sub_epi16(whole_u16x16, _mm256_slli_epi16(odd_u16x16, 8));
  const __m256i first_u16x16 = _mm256_unpacklo_epi16(even_u16x16, odd_u16x16);   // tokens 0–7 | 16–23
  const __m256i second_u16x16 = _mm256_unpackhi_epi16(even_u16x16, odd_u16x16);  // tokens 8–15 | 24–31
  const __m128i parts[4] = {_mm256_castsi256_si128(first_u16x16), _mm256_castsi256_si128(second_u16x16),
                            _mm256_extracti128_si256(first_u16x16, 1), _mm256_extracti128_si256(second_u16x16, 1)};
  PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
    const __m256 sum_f32x8 = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(parts[i]));
    _mm256_storeu_ps(scores + i * 8, _mm256_fmadd_ps(sum_f32x8, _mm256_set1_ps(scale), _mm256_set1_ps(bias)));
  }
}

/// One block for `queries` queries. An index with its top bit set looks up 0, so that of the four tables of a subspace
/// each finds only the codes that are its own, and their results are added by "or".
template <std::size_t queries>
inline void pq6_block(const std::uint8_t* block, std::size_t subspaces, const std::uint8_t* tables, const float* scale,
                      const float* bias, float* scores, std::size_t stride) noexcept {
  __m256i whole_u16x16[queries];
  __m256i odd_u16x16[queries];
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) whole_u16x16[q] = odd_u16x16[q] = _mm256_setzero_si256();
  for (std::size_t s = 0; s < subspaces; ++s) {
    const __m256i codes_u8x32 = pq6_codes(block + s * 24);
    __m256i found_u8x32[queries];
    PQKV_UNROLL for (std::size_t quarter = 0; quarter < 4; ++quarter) {
      // 0 … 15 for codes of this quarter, more than 127 for others: subtract its first code, saturate upwards.
      const __m256i own = _mm256_sub_epi8(codes_u8x32, _mm256_set1_epi8(static_cast<char>(quarter * 16)));
      const __m256i index_u8x32 = _mm256_adds_epu8(own, _mm256_set1_epi8(112));
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        const __m256i table_u8x32 = _mm256_broadcastsi128_si256(_mm_loadu_si128(
            reinterpret_cast<const __m128i*>(tables + (q * subspaces + s) * 64 + quarter * 16)));
        const __m256i found = _mm256_shuffle_epi8(table_u8x32, index_u8x32);
        found_u8x32[q] = quarter == 0 ? found : _mm256_or_si256(found_u8x32[q], found);
      }
    }
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
      whole_u16x16[q] = _mm256_add_epi16(whole_u16x16[q], found_u8x32[q]);
      odd_u16x16[q] = _mm256_add_epi16(odd_u16x16[q], _mm256_srli_epi16(found_u8x32[q], 8));
    }
  }
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    store_tokens(whole_u16x16[q], odd_u16x16[q], scale[q], bias[q], scores + q * stride);
  }
}

inline void pq6_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                      const std::uint8_t* tables, std::size_t query_count, const float* scale, const float* bias,
                      float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  for (std::size_t b = 0; b < block_count; ++b) {
    const std::uint8_t* block = blocks + b * 24 * subspaces;
    prefetch(block, 24 * subspaces, ahead);
    float* out = scores + b * 32;
    std::size_t q = 0;
    for (; q + 2 <= query_count; q += 2) {
      pq6_block<2>(block, subspaces, tables + q * subspaces * 64, scale + q, bias + q, out + q * stride, stride);
    }
    if (q < query_count) {
      pq6_block<1>(block, subspaces, tables + q * subspaces * 64, scale + q, bias + q, out + q * stride, stride);
    }
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx2
PQKV_TARGET_END

#endif
