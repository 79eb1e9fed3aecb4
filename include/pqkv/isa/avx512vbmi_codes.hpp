// AVX-512 with VBMI and VNNI: scoring of 4-bit and 6-bit codes. Layer 1. The set is assembled in avx512vbmi.hpp.
#pragma once

#include "pqkv/isa/avx512.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx512vbmi,avx512vnni,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx512vbmi {

/// Byte 4·j + i of a register ← byte 16·i + j: what lies subspace by subspace comes to lie token by token.
alignas(64) inline constexpr std::uint8_t token_order[64] = {
    0, 16, 32, 48, 1, 17, 33, 49, 2,  18, 34, 50, 3,  19, 35, 51, 4,  20, 36, 52, 5,  21, 37, 53, 6,  22, 38, 54, 7,  23, 39, 55,
    8, 24, 40, 56, 9, 25, 41, 57, 10, 26, 42, 58, 11, 27, 43, 59, 12, 28, 44, 60, 13, 29, 45, 61, 14, 30, 46, 62, 15, 31, 47, 63};

/// `together` blocks for `queries` queries, four subspaces at a time: their tables are one register of 64 entries, a dword of
/// indices is one token's four codes, and one vpdpbusd adds what they find to the token's sum. Bound by vpermb: two per
/// four subspaces and query, and one to bring the codes into order. Four blocks of one query hide the latency of its additions.
template <std::size_t together, std::size_t queries>
inline void pq4_blocks(const std::uint8_t* blocks, std::size_t subspaces, const std::uint8_t* tables, const float* scale,
                       const float* bias, float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  __m512i sums_i32x16[together][queries][2];
  PQKV_UNROLL for (std::size_t b = 0; b < together; ++b) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
      sums_i32x16[b][q][0] = sums_i32x16[b][q][1] = _mm512_setzero_si512();
    }
  }
  const __m512i order = _mm512_load_si512(token_order);
  const __m512i nibble = _mm512_set1_epi8(15);
  const __m512i which_table = _mm512_set1_epi32(0x30201000);
  const __m512i ones = _mm512_set1_epi8(1);
  const auto add = [&](std::size_t s, __mmask8 lanes) {  // quadwords of the subspaces that are left
    __m512i table_u8x64[queries];
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
      table_u8x64[q] = _mm512_maskz_loadu_epi64(lanes, tables + (q * subspaces + s) * 16);
    }
    PQKV_UNROLL for (std::size_t b = 0; b < together; ++b) {
      const std::uint8_t* stored = blocks + (b * subspaces + s) * 16;
      avx2::prefetch(stored, 64, ahead);  // line by line: a burst of sixteen cost a twentieth of the bandwidth
      const __m512i codes = _mm512_maskz_permutexvar_epi8(~__mmask64{0}, order, _mm512_maskz_loadu_epi64(lanes, stored));
      constexpr int select = 0xea;  // (codes & nibble) | which_table
      const __m512i index_u8x64[2] = {_mm512_ternarylogic_epi32(codes, nibble, which_table, select),
                                      _mm512_ternarylogic_epi32(_mm512_srli_epi16(codes, 4), nibble, which_table, select)};
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        PQKV_UNROLL for (std::size_t half = 0; half < 2; ++half) {
          const __m512i found = _mm512_maskz_permutexvar_epi8(~__mmask64{0}, index_u8x64[half], table_u8x64[q]);
          sums_i32x16[b][q][half] = _mm512_dpbusd_epi32(sums_i32x16[b][q][half], found, ones);
        }
      }
    }
  };
  std::size_t s = 0;
  for (; s + 4 <= subspaces; s += 4) add(s, 0xff);
  if (s < subspaces) add(s, static_cast<__mmask8>((1u << (2 * (subspaces - s))) - 1u));  // the others' tables are zero
  PQKV_UNROLL for (std::size_t b = 0; b < together; ++b) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
      PQKV_UNROLL for (std::size_t half = 0; half < 2; ++half) {
        _mm512_storeu_ps(scores + q * stride + b * 32 + half * 16,
                         _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(0xffff, sums_i32x16[b][q][half]), _mm512_set1_ps(scale[q]),
                                         _mm512_set1_ps(bias[q])));
      }
    }
  }
}

template <std::size_t together>
inline void pq4_queries(const std::uint8_t* blocks, std::size_t subspaces, const std::uint8_t* tables, std::size_t query_count,
                        const float* scale, const float* bias, float* scores, std::size_t stride,
                        std::ptrdiff_t ahead) noexcept {
  std::size_t q = 0;
  if constexpr (together == 1) {
    for (; q + 8 <= query_count; q += 8) {
      pq4_blocks<1, 8>(blocks, subspaces, tables + q * subspaces * 16, scale + q, bias + q, scores + q * stride, stride,
                       ahead);
    }
    for (; q + 4 <= query_count; q += 4) {
      pq4_blocks<1, 4>(blocks, subspaces, tables + q * subspaces * 16, scale + q, bias + q, scores + q * stride, stride,
                       ahead);
    }
  }
  for (; q < query_count; ++q) {
    pq4_blocks<together, 1>(blocks, subspaces, tables + q * subspaces * 16, scale + q, bias + q, scores + q * stride, stride,
                            ahead);
  }
}

inline void pq4_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                      const std::uint8_t* tables, std::size_t query_count, const float* scale, const float* bias,
                      float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  std::size_t b = 0;
  for (; query_count < 4 && b + 4 <= block_count; b += 4) {
    pq4_queries<4>(blocks + b * 16 * subspaces, subspaces, tables, query_count, scale, bias, scores + b * 32, stride,
                   ahead);
  }
  for (; b < block_count; ++b) {
    pq4_queries<1>(blocks + b * 16 * subspaces, subspaces, tables, query_count, scale, bias, scores + b * 32, stride, ahead);
  }
}

/// One block for `queries` queries: a look-up of 32 tokens is one vpermb of half a register.
template <std::size_t queries>
inline void pq6_block(const std::uint8_t* block, std::size_t subspaces, const std::uint8_t* tables, const float* scale,
                      const float* bias, float* scores, std::size_t stride) noexcept {
  __m256i whole_u16x16[queries];  // even + 256·odd tokens' sums, and odd ones': see avx2::store_scores
  __m256i odd_u16x16[queries];
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) whole_u16x16[q] = odd_u16x16[q] = _mm256_setzero_si256();
  for (std::size_t s = 0; s < subspaces; ++s) {
    const __m512i codes_u8x64 = _mm512_castsi256_si512(avx2::pq6_codes(block + s * 24));
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
      const __m512i table_u8x64 = _mm512_loadu_si512(tables + (q * subspaces + s) * 64);
      const __m256i found =
          avx512::lower_half(_mm512_maskz_permutexvar_epi8(0xffffffffu, codes_u8x64, table_u8x64));
      whole_u16x16[q] = _mm256_add_epi16(whole_u16x16[q], found);
      odd_u16x16[q] = _mm256_add_epi16(odd_u16x16[q], _mm256_srli_epi16(found, 8));
    }
  }
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    avx2::store_tokens(whole_u16x16[q], odd_u16x16[q], scale[q], bias[q], scores + q * stride);
  }
}

inline void pq6_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                      const std::uint8_t* tables, std::size_t query_count, const float* scale, const float* bias,
                      float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  for (std::size_t b = 0; b < block_count; ++b) {
    const std::uint8_t* block = blocks + b * 24 * subspaces;
    avx2::prefetch(block, 24 * subspaces, ahead);
    float* out = scores + b * 32;
    std::size_t q = 0;
    for (; q + 4 <= query_count; q += 4) {
      pq6_block<4>(block, subspaces, tables + q * subspaces * 64, scale + q, bias + q, out + q * stride, stride);
    }
    for (; q < query_count; ++q) {
      pq6_block<1>(block, subspaces, tables + q * subspaces * 64, scale + q, bias + q, out + q * stride, stride);
    }
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx512vbmi
PQKV_TARGET_END

#endif
