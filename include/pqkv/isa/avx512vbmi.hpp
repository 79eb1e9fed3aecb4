// AVX-512 with VBMI and VNNI: sums of grouped integer values by byte products. Layer 1. Ice Lake (2019), Zen 4 (2022).
//
//   instruction      leaned on for                                                    per cycle (Golden Cove)
//   vpdpbusd zmm     64 codes × 64 signed weight bytes, four products added per lane  2
//   vpermb zmm       bytes of 32 weights brought to where the codes want them         1
//
// A weight is 256·high + low in signed bytes, so the sum is 256·Σ code·high + Σ code·low: exactly the specification's
// integer. Codes need no widening: each crumb of a byte is masked out in place, and the four bytes of a dword are four
// consecutive tokens. Half the instructions of the 16-bit way.
#pragma once

#include "pqkv/isa/avx512.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx512vbmi,avx512vnni,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx512vbmi {

using avx512::load16;

/// The weights of one group, block and query: [row pair · crumbs + crumb], lower half for the even dword row, upper half
/// for the odd one.
struct ByteWeights {
  __m512i high_i8x64[4];
  __m512i low_i8x64[4];
  float step;
  float offset;
};

/// Lane g of the result: the largest of all lanes of x[g].
inline __m128 maximum_of_four(const __m512* x) noexcept {
  __m256 folded[4];
  PQKV_UNROLL for (std::size_t g = 0; g < 4; ++g) {
    folded[g] = _mm256_max_ps(avx512::lower_half(x[g]), avx512::upper_half(x[g]));
  }
  const __m256 first = _mm256_max_ps(_mm256_unpacklo_ps(folded[0], folded[1]), _mm256_unpackhi_ps(folded[0], folded[1]));
  const __m256 second = _mm256_max_ps(_mm256_unpacklo_ps(folded[2], folded[3]), _mm256_unpackhi_ps(folded[2], folded[3]));
  const __m256 all = _mm256_max_ps(_mm256_shuffle_ps(first, second, 0x44), _mm256_shuffle_ps(first, second, 0xee));
  return _mm_max_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

/// Lane g of the result: the sum of all lanes of x[g].
inline __m128 sum_of_four(const __m512* x) noexcept {
  __m256 folded[4];
  PQKV_UNROLL for (std::size_t g = 0; g < 4; ++g) {
    folded[g] = _mm256_add_ps(avx512::lower_half(x[g]), avx512::upper_half(x[g]));
  }
  const __m256 first = _mm256_add_ps(_mm256_unpacklo_ps(folded[0], folded[1]), _mm256_unpackhi_ps(folded[0], folded[1]));
  const __m256 second = _mm256_add_ps(_mm256_unpacklo_ps(folded[2], folded[3]), _mm256_unpackhi_ps(folded[2], folded[3]));
  const __m256 all = _mm256_add_ps(_mm256_shuffle_ps(first, second, 0x44), _mm256_shuffle_ps(first, second, 0xee));
  return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

/// Which byte of 32 packed 16-bit weights goes where, for each of the four weight registers of a bit width. Packing two
/// registers of 32-bit weights interleaves them by 128-bit lane: token t lies at word t / 4 % 4 · 8 + t / 16 · 4 + t % 4.
template <std::size_t bits>
struct ByteOrder {
  std::uint8_t low[4][64];
  std::uint8_t high[4][64];
};
template <std::size_t bits>
constexpr ByteOrder<bits> make_byte_order() noexcept {
  constexpr std::size_t crumbs = 8 / bits;
  ByteOrder<bits> order{};
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t byte = 0; byte < 64; ++byte) {
      const std::size_t row = i / crumbs * 2 + byte / 32;
      const std::size_t token = row * 4 * crumbs + i % crumbs * 4 + byte % 4;
      const std::size_t word = token / 4 % 4 * 8 + token / 16 * 4 + token % 4;
      order.low[i][byte] = static_cast<std::uint8_t>(2 * word);
      order.high[i][byte] = static_cast<std::uint8_t>(2 * word + 1);
    }
  }
  return order;
}
template <std::size_t bits>
alignas(64) inline constexpr ByteOrder<bits> byte_order = make_byte_order<bits>();

/// Weights · scales of `groups` ≤ 4 neighbouring groups as integers (scalar::quantise_weights), cut into bytes;
/// Σ weights · offsets.
template <std::size_t bits, std::size_t groups>
inline void quantise_weights(const f16* scales, const f16* offsets, const float* weights, ByteWeights* out) noexcept {
  const __m512 weights_f32x16[2] = {_mm512_loadu_ps(weights), _mm512_loadu_ps(weights + 16)};
  __m512 products_f32x16[4][2];
  __m512 largest_f32x16[4];
  __m512 offsets_f32x16[4];
  PQKV_UNROLL for (std::size_t g = 0; g < 4; ++g) {
    if (g >= groups) {
      largest_f32x16[g] = _mm512_setzero_ps();
      offsets_f32x16[g] = _mm512_setzero_ps();
      continue;
    }
    const f16* scale = scales + g * 32;
    const f16* offset = offsets + g * 32;
    products_f32x16[g][0] = _mm512_mul_ps(weights_f32x16[0], load16(scale, 0xffff));
    products_f32x16[g][1] = _mm512_mul_ps(weights_f32x16[1], load16(scale + 16, 0xffff));
    largest_f32x16[g] = _mm512_maskz_max_ps(0xffff, products_f32x16[g][0], products_f32x16[g][1]);
    offsets_f32x16[g] = _mm512_fmadd_ps(weights_f32x16[0], load16(offset, 0xffff),
                                        _mm512_mul_ps(weights_f32x16[1], load16(offset + 16, 0xffff)));
  }
  const __m128 largest = maximum_of_four(largest_f32x16);
  const __m128 positive = _mm_cmp_ps(largest, _mm_set1_ps(least_product), _CMP_GT_OQ);
  alignas(16) float inverses[4];
  alignas(16) float steps[4];
  alignas(16) float shifts[4];
  _mm_store_ps(inverses, _mm_and_ps(positive, _mm_div_ps(_mm_set1_ps(weight_levels), largest)));
  _mm_store_ps(steps, _mm_div_ps(largest, _mm_set1_ps(weight_levels)));
  _mm_store_ps(shifts, sum_of_four(offsets_f32x16));
  PQKV_UNROLL for (std::size_t g = 0; g < groups; ++g) {
    const __m512 inverse = _mm512_set1_ps(inverses[g]);
    const __m512i packed_u16x32 =
        _mm512_packus_epi32(_mm512_maskz_cvtps_epi32(0xffff, _mm512_mul_ps(products_f32x16[g][0], inverse)),
                            _mm512_maskz_cvtps_epi32(0xffff, _mm512_mul_ps(products_f32x16[g][1], inverse)));
    // The low byte is signed, so the high one is that of the weight rounded up by half a low byte.
    const __m512i rounded_u16x32 = _mm512_add_epi16(packed_u16x32, _mm512_set1_epi16(128));
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
      out[g].low_i8x64[i] = _mm512_maskz_permutexvar_epi8(~__mmask64{0}, _mm512_load_si512(byte_order<bits>.low[i]),
                                                          packed_u16x32);
      out[g].high_i8x64[i] = _mm512_maskz_permutexvar_epi8(~__mmask64{0}, _mm512_load_si512(byte_order<bits>.high[i]),
                                                           rounded_u16x32);
    }
    out[g].step = steps[g];
    out[g].offset = shifts[g];
  }
}

/// Sums of 16 channels (two chunks) for `queries` queries; `single` for a last chunk of 8 channels alone.
template <std::size_t bits, std::size_t queries, bool single>
inline void integer_chunks(const std::uint8_t* codes, const ByteWeights* weights, float* outs,
                           std::size_t dim) noexcept {
  constexpr std::size_t crumbs = 8 / bits;
  constexpr std::size_t chunk_bytes = 32 * bits;
  constexpr std::size_t chunks = single ? 1 : 2;
  const __m512i mask = _mm512_set1_epi8(static_cast<char>((1u << bits) - 1u));
  __m512i high_i32x16[2][queries];
  __m512i low_i32x16[2][queries];
  PQKV_UNROLL for (std::size_t c = 0; c < 2; ++c) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
      high_i32x16[c][q] = _mm512_setzero_si512();
      low_i32x16[c][q] = _mm512_setzero_si512();
    }
  }
  PQKV_UNROLL for (std::size_t row_pair = 0; row_pair < bits / 2; ++row_pair) {
    PQKV_UNROLL for (std::size_t c = 0; c < chunks; ++c) {
      const __m512i bytes = _mm512_loadu_si512(codes + c * chunk_bytes + row_pair * 64);
      PQKV_UNROLL for (std::size_t k = 0; k < crumbs; ++k) {
        __m512i codes_u8x64 = k == 0 ? bytes : _mm512_srli_epi16(bytes, static_cast<unsigned>(k * bits));
        if (bits < 8) codes_u8x64 = _mm512_and_si512(codes_u8x64, mask);
        PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
          const std::size_t i = row_pair * crumbs + k;
          high_i32x16[c][q] = _mm512_dpbusd_epi32(high_i32x16[c][q], codes_u8x64, weights[q].high_i8x64[i]);
          low_i32x16[c][q] = _mm512_dpbusd_epi32(low_i32x16[c][q], codes_u8x64, weights[q].low_i8x64[i]);
        }
      }
    }
  }
  constexpr auto lanes = static_cast<__mmask16>(single ? 0xff : 0xffff);
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    __m512i sums_i32x16[2];
    PQKV_UNROLL for (std::size_t c = 0; c < 2; ++c) {
      sums_i32x16[c] = _mm512_add_epi32(_mm512_maskz_slli_epi32(0xffff, high_i32x16[c][q], 8), low_i32x16[c][q]);
    }
    // Even rows' sums plus odd rows' sums: chunk 0 in the lower half, chunk 1 in the upper.
    const __m512i even = _mm512_maskz_shuffle_i64x2(0xff, sums_i32x16[0], sums_i32x16[1], 0x44);
    const __m512i odd = _mm512_maskz_shuffle_i64x2(0xff, sums_i32x16[0], sums_i32x16[1], 0xee);
    const __m512 total = _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(0xffff, _mm512_add_epi32(even, odd)),
                                         _mm512_set1_ps(weights[q].step), _mm512_set1_ps(weights[q].offset));
    _mm512_mask_storeu_ps(outs + q * dim, lanes, _mm512_add_ps(load16(outs + q * dim, lanes), total));
  }
}

/// `groups` ≤ 4 neighbouring groups of one block for `queries` queries.
template <std::size_t bits, std::size_t groups, std::size_t queries>
inline void integer_groups(const f16* scales, const f16* offsets, const std::uint8_t* codes, std::size_t chunks,
                           const float* weights, std::size_t stride, float* outs, std::size_t dim) noexcept {
  ByteWeights quantised[queries][4];
  for (std::size_t q = 0; q < queries; ++q) {
    quantise_weights<bits, groups>(scales, offsets, weights + q * stride, quantised[q]);
  }
  for (std::size_t g = 0; g < groups; ++g) {
    ByteWeights mine[queries];
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) mine[q] = quantised[q][g];
    for (std::size_t c = 0; c < chunks; c += 2) {
      const std::size_t chunk = g * chunks + c;
      avx2::prefetch(codes + chunk * 32 * bits, 64 * bits);
      if (c + 2 <= chunks) {
        integer_chunks<bits, queries, false>(codes + chunk * 32 * bits, mine, outs + chunk * 8, dim);
      } else {
        integer_chunks<bits, queries, true>(codes + chunk * 32 * bits, mine, outs + chunk * 8, dim);
      }
    }
  }
}

/// One block for `queries` queries.
template <std::size_t bits, std::size_t queries>
inline void integer_block(const std::byte* block, std::size_t dim, std::size_t group, const float* weights,
                          std::size_t stride, float* outs) noexcept {
  const std::size_t groups = dim / group;
  const auto* scales = reinterpret_cast<const f16*>(block);
  const auto* offsets = scales + groups * 32;
  const auto* codes = reinterpret_cast<const std::uint8_t*>(block + groups * 128);
  std::size_t g = 0;
  for (; g + 4 <= groups; g += 4) {
    integer_groups<bits, 4, queries>(scales + g * 32, offsets + g * 32, codes + g * group * 4 * bits, group / 8, weights,
                                     stride, outs + g * group, dim);
  }
  for (; g + 2 <= groups; g += 2) {
    integer_groups<bits, 2, queries>(scales + g * 32, offsets + g * 32, codes + g * group * 4 * bits, group / 8, weights,
                                     stride, outs + g * group, dim);
  }
  if (g < groups) {
    integer_groups<bits, 1, queries>(scales + g * 32, offsets + g * 32, codes + g * group * 4 * bits, group / 8, weights,
                                     stride, outs + g * group, dim);
  }
}

template <std::size_t bits>
inline void integer_accumulate(const std::byte* blocks, std::size_t block_count, std::size_t dim, std::size_t group,
                               const float* weights, std::size_t query_count, std::size_t stride,
                               float* outs) noexcept {
  const std::size_t block_bytes = dim / group * 128 + dim * 4 * bits;
  for (std::size_t b = 0; b < block_count; ++b) {
    const std::byte* block = blocks + b * block_bytes;
    avx2::prefetch(block, dim / group * 128);
    const float* line = weights + b * 32;
    std::size_t q = 0;
    for (; q + 4 <= query_count; q += 4) {
      integer_block<bits, 4>(block, dim, group, line + q * stride, stride, outs + q * dim);
    }
    for (; q < query_count; ++q) integer_block<bits, 1>(block, dim, group, line + q * stride, stride, outs + q * dim);
  }
}

[[nodiscard]] inline KernelSet kernels() noexcept {
  KernelSet set = avx512::kernels();
  set.name = "avx512vbmi";
  set.int8_accumulate = integer_accumulate<8>;
  set.int4_accumulate = integer_accumulate<4>;
  set.int2_accumulate = integer_accumulate<2>;
  return set;
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx512vbmi
PQKV_TARGET_END

#endif
