// AVX-512 with VBMI: scoring of 8-bit codes by 16-bit tables in two planes of bytes. Layer 1. The set is assembled in
// avx512vbmi.hpp. 256 bytes are four registers: four masked vpermb look 64 codes up in a plane, eight in both, where loads
// would take 128. Bound by the port of vpermb: eight per 64 look-ups and query, three shuffles that transpose the codes, and one
// mask.
#pragma once

#include "pqkv/isa/avx512.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx512vbmi,avx512vnni,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx512vbmi {

inline void plane_table(const float* table, std::size_t subspaces, std::uint8_t* planes, float* scale,
                        float* bias) noexcept {
  float leasts[256];
  float widest = 0;
  float sum = 0;
  for (std::size_t s = 0; s < subspaces; ++s) {
    const float* entries = table + s * 256;
    __m512 least_f32x16 = _mm512_loadu_ps(entries);
    __m512 most_f32x16 = least_f32x16;
    for (std::size_t c = 16; c < 256; c += 16) {
      const __m512 entries_f32x16 = _mm512_loadu_ps(entries + c);
      least_f32x16 = _mm512_maskz_min_ps(0xffff, least_f32x16, entries_f32x16);
      most_f32x16 = _mm512_maskz_max_ps(0xffff, most_f32x16, entries_f32x16);
    }
    leasts[s] = -avx512::maximum_of(_mm512_sub_ps(_mm512_setzero_ps(), least_f32x16));
    widest = std::max(widest, avx512::maximum_of(most_f32x16) - leasts[s]);
    sum += leasts[s];
  }
  const __m512 inverse = _mm512_set1_ps(widest > 0 ? 65535.0f / widest : 0.0f);
  for (std::size_t s = 0; s < subspaces; ++s) {
    const __m512 least = _mm512_set1_ps(leasts[s]);
    for (std::size_t c = 0; c < 256; c += 16) {
      const __m512 level = _mm512_fmadd_ps(_mm512_sub_ps(_mm512_loadu_ps(table + s * 256 + c), least), inverse,
                                           _mm512_set1_ps(0.5f));
      const __m512i entry_i32x16 =
          _mm512_maskz_cvttps_epi32(0xffff, _mm512_maskz_min_ps(0xffff, level, _mm512_set1_ps(65535.0f)));
      std::uint8_t* lower = planes + s * 512 + c;
      _mm_storeu_si128(reinterpret_cast<__m128i*>(lower), _mm512_maskz_cvtepi32_epi8(0xffff, entry_i32x16));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(lower + 256),
                       _mm512_maskz_cvtepi32_epi8(0xffff, _mm512_maskz_srli_epi32(0xffff, entry_i32x16, 8)));
    }
  }
  *scale = widest / 65535.0f;
  *bias = sum;
}

/// The bytes of one plane [256] that 64 codes name; `quarter[i]` has the codes of 64·(i + 1) … 64·(i + 1) + 63.
inline __m512i look_up(const std::uint8_t* plane, __m512i codes_u8x64, const __mmask64* quarter) noexcept {
  __m512i found = _mm512_maskz_permutexvar_epi8(~__mmask64{0}, codes_u8x64, _mm512_loadu_si512(plane));
  PQKV_UNROLL for (std::size_t i = 0; i < 3; ++i) {
    found = _mm512_mask_permutexvar_epi8(found, quarter[i], codes_u8x64, _mm512_loadu_si512(plane + 64 * (i + 1)));
  }
  return found;
}

/// Sums of bytes of 64 tokens in 16-bit lanes: as they are (even + 256·odd token, modulo 2¹⁶), and the odd ones alone.
struct ByteSums {
  __m512i whole_u16x32;
  __m512i odd_u16x32;

  void add(__m512i bytes) noexcept {
    whole_u16x32 = _mm512_add_epi16(whole_u16x32, bytes);
    odd_u16x32 = _mm512_add_epi16(odd_u16x32, _mm512_srli_epi16(bytes, 8));
  }
  [[nodiscard]] __m512i even_u16x32() const noexcept {
    return _mm512_sub_epi16(whole_u16x32, _mm512_slli_epi16(odd_u16x32, 8));
  }
};

/// codes[i]: those of 64 tokens in the i-th of up to eight subspaces. Rows of `octets` are loaded, `octet_bytes` apart, of
/// which `columns` are subspaces wanted, and transposed by 24 shuffles: gathering them took 20 cycles per subspace instead of 3.
inline void transpose_octets(const std::uint8_t* first, std::size_t octet_bytes, std::size_t octets, __mmask8 columns,
                             __m512i* codes) noexcept {
  __m512i rows[8];
  PQKV_UNROLL for (std::size_t i = 0; i < 8; ++i) {
    rows[i] = i < octets ? _mm512_maskz_loadu_epi64(columns, first + i * octet_bytes) : _mm512_setzero_si512();
  }
  __m512i pairs[2][4];  // [odd column][pair of rows], lane i: columns 2·i or 2·i + 1
  PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
    pairs[0][i] = _mm512_maskz_unpacklo_epi64(0xff, rows[2 * i], rows[2 * i + 1]);
    pairs[1][i] = _mm512_maskz_unpackhi_epi64(0xff, rows[2 * i], rows[2 * i + 1]);
  }
  PQKV_UNROLL for (std::size_t odd = 0; odd < 2; ++odd) {
    const __m512i first_04 = _mm512_maskz_shuffle_i64x2(0xff, pairs[odd][0], pairs[odd][1], 0x88);
    const __m512i second_04 = _mm512_maskz_shuffle_i64x2(0xff, pairs[odd][2], pairs[odd][3], 0x88);
    const __m512i first_26 = _mm512_maskz_shuffle_i64x2(0xff, pairs[odd][0], pairs[odd][1], 0xdd);
    const __m512i second_26 = _mm512_maskz_shuffle_i64x2(0xff, pairs[odd][2], pairs[odd][3], 0xdd);
    codes[odd] = _mm512_maskz_shuffle_i64x2(0xff, first_04, second_04, 0x88);
    codes[odd + 2] = _mm512_maskz_shuffle_i64x2(0xff, first_26, second_26, 0x88);
    codes[odd + 4] = _mm512_maskz_shuffle_i64x2(0xff, first_04, second_04, 0xdd);
    codes[odd + 6] = _mm512_maskz_shuffle_i64x2(0xff, first_26, second_26, 0xdd);
  }
}

inline __m512i dword_half(__m512i dwords, std::size_t upper) noexcept {
  return upper != 0 ? _mm512_maskz_srli_epi32(0xffff, dwords, 16) : _mm512_and_si512(dwords, _mm512_set1_epi32(0xffff));
}

/// 32 numbers of one of two blocks: number 4·j + i of both is lane j of classes[i].
inline void store_in_order(const __m512* classes, std::size_t block, float* out) noexcept {
  alignas(64) static constexpr std::int32_t single[2][16] = {{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23},
                                                             {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31}};
  alignas(64) static constexpr std::int64_t twice[2][8] = {{0, 8, 1, 9, 2, 10, 3, 11}, {4, 12, 5, 13, 6, 14, 7, 15}};
  const __m512i by_one = _mm512_load_si512(single[block]);
  const __m512d first = _mm512_castps_pd(_mm512_permutex2var_ps(classes[0], by_one, classes[1]));
  const __m512d second = _mm512_castps_pd(_mm512_permutex2var_ps(classes[2], by_one, classes[3]));
  PQKV_UNROLL for (std::size_t half = 0; half < 2; ++half) {
    _mm512_storeu_pd(out + half * 16, _mm512_permutex2var_pd(first, _mm512_load_si512(twice[half]), second));
  }
}

/// Two blocks, or with `single` one, for `queries` queries.
template <std::size_t queries, bool single>
inline void planes_blocks(const std::uint8_t* blocks, std::size_t subspaces, const std::uint8_t* planes,
                          const float* scale, const float* bias, float* scores, std::size_t stride) noexcept {
  ByteSums lower[queries];
  ByteSums upper[queries];
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    lower[q].whole_u16x32 = lower[q].odd_u16x32 = upper[q].whole_u16x32 = upper[q].odd_u16x32 = _mm512_setzero_si512();
  }
  for (std::size_t first = 0; first < subspaces; first += 8) {
    const std::size_t count = std::min<std::size_t>(8, subspaces - first);
    __m512i codes_u8x64[8];
    transpose_octets(blocks + first * 8, 8 * subspaces, single ? 4 : 8, static_cast<__mmask8>((1u << count) - 1), codes_u8x64);
    for (std::size_t i = 0; i < count; ++i) {
      const __mmask64 bit7 = _mm512_movepi8_mask(codes_u8x64[i]);
      const __mmask64 bit6 = _mm512_test_epi8_mask(codes_u8x64[i], _mm512_set1_epi8(64));
      const __mmask64 quarter[3] = {bit6 & ~bit7, bit7 & ~bit6, bit6 & bit7};
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        const std::uint8_t* mine = planes + (q * subspaces + first + i) * 512;
        lower[q].add(look_up(mine, codes_u8x64[i], quarter));
        upper[q].add(look_up(mine + 256, codes_u8x64[i], quarter));
      }
    }
  }
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    const __m512i low_u16x32[2] = {lower[q].even_u16x32(), lower[q].odd_u16x32};
    const __m512i high_u16x32[2] = {upper[q].even_u16x32(), upper[q].odd_u16x32};
    __m512 scores_f32x16[4];  // [i], lane j: token 4·j + i
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
      const __m512i low = dword_half(low_u16x32[i % 2], i / 2);
      const __m512i high = dword_half(high_u16x32[i % 2], i / 2);
      const __m512i sum_i32x16 = _mm512_add_epi32(_mm512_maskz_slli_epi32(0xffff, high, 8), low);
      scores_f32x16[i] = _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(0xffff, sum_i32x16), _mm512_set1_ps(scale[q]),
                                         _mm512_set1_ps(bias[q]));
    }
    PQKV_UNROLL for (std::size_t block = 0; block < (single ? 1 : 2); ++block) {
      store_in_order(scores_f32x16, block, scores + q * stride + block * 32);
    }
  }
}

template <std::size_t queries>
inline void planes_queries(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                           const std::uint8_t* planes, const float* scale, const float* bias, float* scores,
                           std::size_t stride,
                           std::ptrdiff_t ahead) noexcept {
  std::size_t b = 0;
  for (; b + 2 <= block_count; b += 2) {
    avx2::prefetch(blocks + b * 32 * subspaces, 64 * subspaces, ahead);
    planes_blocks<queries, false>(blocks + b * 32 * subspaces, subspaces, planes, scale, bias, scores + b * 32, stride);
  }
  if (b < block_count) {
    planes_blocks<queries, true>(blocks + b * 32 * subspaces, subspaces, planes, scale, bias, scores + b * 32, stride);
  }
}

inline void pq8_planes_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                             const std::uint8_t* planes, std::size_t query_count, const float* scale, const float* bias,
                             float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  std::size_t q = 0;
  for (; q + 2 <= query_count; q += 2) {
    planes_queries<2>(blocks, block_count, subspaces, planes + q * subspaces * 512, scale + q, bias + q,
                      scores + q * stride, stride, ahead);
  }
  if (q < query_count) {
    planes_queries<1>(blocks, block_count, subspaces, planes + q * subspaces * 512, scale + q, bias + q,
                      scores + q * stride, stride, ahead);
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx512vbmi
PQKV_TARGET_END

#endif
