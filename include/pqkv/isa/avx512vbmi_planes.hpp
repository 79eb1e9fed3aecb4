// AVX-512 with VBMI: scoring of 8-bit codes by 16-bit tables in two planes of bytes. Layer 1. The set is assembled in
// avx512vbmi.hpp. 256 bytes are four registers: four masked vpermb look 64 codes up in a plane, eight in both, where loads
// would take 128. Bound by the port of vpermb: eight per 64 look-ups and query.
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

/// Two blocks, or with `single` one, for `queries` queries.
template <std::size_t queries, bool single>
inline void planes_blocks(const std::uint8_t* blocks, std::size_t subspaces, const std::uint8_t* planes,
                          const float* scale, const float* bias, float* scores, std::size_t stride) noexcept {
  constexpr auto octets = static_cast<__mmask8>(single ? 0x0f : 0xff);
  const __m512i places = _mm512_mullo_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7),
                                            _mm512_set1_epi64(static_cast<long long>(8 * subspaces)));
  ByteSums lower[queries];
  ByteSums upper[queries];
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    lower[q].whole_u16x32 = lower[q].odd_u16x32 = upper[q].whole_u16x32 = upper[q].odd_u16x32 = _mm512_setzero_si512();
  }
  for (std::size_t s = 0; s < subspaces; ++s) {
    const __m512i codes_u8x64 = _mm512_mask_i64gather_epi64(_mm512_setzero_si512(), octets, places, blocks + s * 8, 1);
    const __mmask64 bit7 = _mm512_movepi8_mask(codes_u8x64);
    const __mmask64 bit6 = _mm512_test_epi8_mask(codes_u8x64, _mm512_set1_epi8(64));
    const __mmask64 quarter[3] = {bit6 & ~bit7, bit7 & ~bit6, bit6 & bit7};
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
      const std::uint8_t* mine = planes + (q * subspaces + s) * 512;
      lower[q].add(look_up(mine, codes_u8x64, quarter));
      upper[q].add(look_up(mine + 256, codes_u8x64, quarter));
    }
  }
  alignas(64) static constexpr std::uint16_t order[2][32] = {
      {0,  32, 1,  33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
       8,  40, 9,  41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47},
      {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
       24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63}};
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    PQKV_UNROLL for (std::size_t block = 0; block < (single ? 1 : 2); ++block) {
      const __m512i in_order = _mm512_load_si512(order[block]);
      const __m512i low = _mm512_permutex2var_epi16(lower[q].even_u16x32(), in_order, lower[q].odd_u16x32);
      const __m512i high = _mm512_permutex2var_epi16(upper[q].even_u16x32(), in_order, upper[q].odd_u16x32);
      PQKV_UNROLL for (std::size_t half = 0; half < 2; ++half) {
        const __m512i low_i32x16 =
            _mm512_maskz_cvtepu16_epi32(0xffff, half == 0 ? avx512::lower_half(low) : avx512::upper_half(low));
        const __m512i high_i32x16 =
            _mm512_maskz_cvtepu16_epi32(0xffff, half == 0 ? avx512::lower_half(high) : avx512::upper_half(high));
        const __m512i sum_i32x16 = _mm512_add_epi32(_mm512_maskz_slli_epi32(0xffff, high_i32x16, 8), low_i32x16);
        _mm512_storeu_ps(scores + q * stride + block * 32 + half * 16,
                         _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(0xffff, sum_i32x16), _mm512_set1_ps(scale[q]),
                                         _mm512_set1_ps(bias[q])));
      }
    }
  }
}

template <std::size_t queries>
inline void planes_queries(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                           const std::uint8_t* planes, const float* scale, const float* bias, float* scores,
                           std::size_t stride) noexcept {
  std::size_t b = 0;
  for (; b + 2 <= block_count; b += 2) {
    avx2::prefetch(blocks + b * 32 * subspaces, 64 * subspaces);
    planes_blocks<queries, false>(blocks + b * 32 * subspaces, subspaces, planes, scale, bias, scores + b * 32, stride);
  }
  if (b < block_count) {
    planes_blocks<queries, true>(blocks + b * 32 * subspaces, subspaces, planes, scale, bias, scores + b * 32, stride);
  }
}

inline void pq8_planes_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                             const std::uint8_t* planes, std::size_t query_count, const float* scale, const float* bias,
                             float* scores, std::size_t stride) noexcept {
  std::size_t q = 0;
  for (; q + 4 <= query_count; q += 4) {
    planes_queries<4>(blocks, block_count, subspaces, planes + q * subspaces * 512, scale + q, bias + q,
                      scores + q * stride, stride);
  }
  for (; q < query_count; ++q) {
    planes_queries<1>(blocks, block_count, subspaces, planes + q * subspaces * 512, scale + q, bias + q,
                      scores + q * stride, stride);
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx512vbmi
PQKV_TARGET_END

#endif
