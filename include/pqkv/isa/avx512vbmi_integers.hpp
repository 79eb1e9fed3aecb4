// AVX-512 VNNI: sums of grouped integer values by byte products. Layer 1.
//
// A dword of codes is four tokens of one channel, a dword of weights the same four tokens. 4-bit and 2-bit codes meet one
// byte of weight; 8-bit codes meet 256·high + low in signed bytes, so that the sum is 256·Σ code·high + Σ code·low, the
// specification's integer. Bound by the two multipliers: per query and 32 tokens dim/2 products, and as much again for
// bringing weights and sums in and out of them.
#pragma once

#include "pqkv/isa/avx512.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx512vbmi,avx512vnni,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx512vbmi {

using avx512::load16;

/// Groups whose weights are quantised together, because four sums across a register cost little more than one.
inline constexpr std::size_t most_groups = 4;

/// The scales, and the offsets at the middle of the codes, of up to four groups of one block, as floats.
struct Scales {
  alignas(64) float scale[most_groups][32];
  alignas(64) float middle[most_groups][32];
};

/// The weights of one query in up to four groups: dword i of a group is tokens 4i … 4i + 3.
template <std::size_t bits>
struct Weights {
  alignas(64) std::uint8_t low[most_groups][32];
  alignas(64) std::uint8_t high[bits == 8 ? most_groups : 1][32];
  alignas(16) float step[most_groups];
  alignas(16) float shift[most_groups];
};

// Always inlined, here and below: a call would carry eight registers through memory (a tenth of one query's time).

/// Lane g of the result: the largest of all lanes of x[g].
[[gnu::always_inline]] inline __m128 maximum_of_four(const __m512* x) noexcept {
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
[[gnu::always_inline]] inline __m128 sum_of_four(const __m512* x) noexcept {
  __m256 folded[4];
  PQKV_UNROLL for (std::size_t g = 0; g < 4; ++g) {
    folded[g] = _mm256_add_ps(avx512::lower_half(x[g]), avx512::upper_half(x[g]));
  }
  const __m256 first = _mm256_add_ps(_mm256_unpacklo_ps(folded[0], folded[1]), _mm256_unpackhi_ps(folded[0], folded[1]));
  const __m256 second = _mm256_add_ps(_mm256_unpacklo_ps(folded[2], folded[3]), _mm256_unpackhi_ps(folded[2], folded[3]));
  const __m256 all = _mm256_add_ps(_mm256_shuffle_ps(first, second, 0x44), _mm256_shuffle_ps(first, second, 0xee));
  return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

template <std::size_t bits, std::size_t groups>
[[gnu::always_inline]] inline void load_scales(const f16* scales, const f16* offsets, Scales& out) noexcept {
  const __m512 middle = _mm512_set1_ps(bits == 8 ? 0.0f : static_cast<float>((1u << bits) - 1u) / 2);
  PQKV_UNROLL for (std::size_t i = 0; i < groups * 32; i += 16) {
    const __m512 scale_f32x16 = load16(scales + i, 0xffff);
    _mm512_store_ps(out.scale[i / 32] + i % 32, scale_f32x16);
    _mm512_store_ps(out.middle[i / 32] + i % 32, _mm512_fmadd_ps(scale_f32x16, middle, load16(offsets + i, 0xffff)));
  }
}

inline void store_bytes(std::uint8_t* out, __m512i tokens_i32x16) noexcept {
  _mm_store_si128(reinterpret_cast<__m128i*>(out), _mm512_maskz_cvtepi32_epi8(0xffff, tokens_i32x16));
}

/// Weights · scales of `groups` ≤ 4 neighbouring groups as integers (scalar::quantise_weights), and what is added besides.
template <std::size_t bits, std::size_t groups>
[[gnu::always_inline]] inline void quantise_weights(const Scales& scales, const float* weights, Weights<bits>& out) noexcept {
  const __m512 weights_f32x16[2] = {_mm512_loadu_ps(weights), _mm512_loadu_ps(weights + 16)};
  __m512 products_f32x16[4][2];
  __m512 largest_f32x16[4];
  __m512 shift_f32x16[4];
  PQKV_UNROLL for (std::size_t g = 0; g < 4; ++g) {
    largest_f32x16[g] = shift_f32x16[g] = _mm512_setzero_ps();
    if (g >= groups) continue;
    products_f32x16[g][0] = _mm512_mul_ps(weights_f32x16[0], _mm512_load_ps(scales.scale[g]));
    products_f32x16[g][1] = _mm512_mul_ps(weights_f32x16[1], _mm512_load_ps(scales.scale[g] + 16));
    largest_f32x16[g] = _mm512_maskz_max_ps(0xffff, products_f32x16[g][0], products_f32x16[g][1]);
    shift_f32x16[g] = _mm512_fmadd_ps(weights_f32x16[0], _mm512_load_ps(scales.middle[g]),
                                      _mm512_mul_ps(weights_f32x16[1], _mm512_load_ps(scales.middle[g] + 16)));
  }
  const __m128 largest = maximum_of_four(largest_f32x16);
  const __m128 levels = _mm_set1_ps(bits == 8 ? weight_levels : byte_weight_levels);
  const __m128 positive = _mm_cmp_ps(largest, _mm_set1_ps(least_product), _CMP_GT_OQ);
  alignas(16) float inverses[4];
  _mm_store_ps(inverses, _mm_and_ps(positive, _mm_div_ps(levels, largest)));
  _mm_store_ps(out.step, _mm_div_ps(largest, levels));
  PQKV_UNROLL for (std::size_t g = 0; g < groups; ++g) {
    const __m512 inverse = _mm512_set1_ps(inverses[g]);
    const __m512i first = _mm512_maskz_cvtps_epi32(0xffff, _mm512_mul_ps(products_f32x16[g][0], inverse));
    const __m512i second = _mm512_maskz_cvtps_epi32(0xffff, _mm512_mul_ps(products_f32x16[g][1], inverse));
    store_bytes(out.low[g], first);
    store_bytes(out.low[g] + 16, second);
    if constexpr (bits == 8) {  // the low byte is signed, so the high one is that of the weight rounded up by half of it
      const __m512i half = _mm512_set1_epi32(128);
      store_bytes(out.high[g], _mm512_maskz_srli_epi32(0xffff, _mm512_add_epi32(first, half), 8));
      store_bytes(out.high[g] + 16, _mm512_maskz_srli_epi32(0xffff, _mm512_add_epi32(second, half), 8));
    } else {
      const __m512 back = _mm512_set1_ps(out.step[g] * (static_cast<float>((1u << bits) - 1u) / 2));
      shift_f32x16[g] = _mm512_fnmadd_ps(back, _mm512_maskz_cvtepi32_ps(0xffff, _mm512_add_epi32(first, second)),
                                         shift_f32x16[g]);
    }
  }
  _mm_store_ps(out.shift, sum_of_four(shift_f32x16));
}

inline __m512i broadcast_dword(const std::uint8_t* bytes) noexcept {
  std::int32_t dword = 0;
  std::memcpy(&dword, bytes, sizeof dword);
  return _mm512_set1_epi32(dword);
}

/// Sums of `pairs` × 16 channels (two chunks each) in group `g` for `queries` queries; `single`: the last pair is one
/// chunk. A register takes the same dword row of two chunks, so that a lane is a channel from the load to the store. What
/// comes next is asked for line by line: by bursts, a block at a time, reading hardly overlaps with arithmetic.
template <std::size_t bits, std::size_t queries, std::size_t pairs, bool single>
inline void integer_chunks(const std::uint8_t* codes, std::ptrdiff_t ahead, const Weights<bits>* weights, std::size_t g,
                           float* outs, std::size_t dim) noexcept {
  constexpr std::size_t crumbs = 8 / bits;
  constexpr std::size_t chunk_bytes = 32 * bits;
  const __m512i mask = _mm512_set1_epi8(static_cast<char>((1u << bits) - 1u));
  __m512i low_i32x16[pairs][queries];
  __m512i high_i32x16[pairs][queries];
  PQKV_UNROLL for (std::size_t c = 0; c < pairs; ++c) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
      low_i32x16[c][q] = high_i32x16[c][q] = _mm512_setzero_si512();
    }
  }
  PQKV_UNROLL for (std::size_t row = 0; row < bits; ++row) {
    __m512i bytes[pairs];
    PQKV_UNROLL for (std::size_t c = 0; c < pairs; ++c) {
      const std::uint8_t* first = codes + 2 * c * chunk_bytes + row * 32;
      if (row % 2 == 0) {
        avx2::prefetch(first, 64, ahead);
        if (!single) avx2::prefetch(first + chunk_bytes, 64, ahead);
      }
      bytes[c] = _mm512_maskz_broadcast_i64x4(0x0f, avx2::load_bytes(first));
      if (!single) {
        bytes[c] = _mm512_maskz_inserti64x4(0xff, bytes[c], avx2::load_bytes(first + chunk_bytes), 1);
      }
    }
    PQKV_UNROLL for (std::size_t k = 0; k < crumbs; ++k) {
      __m512i codes_u8x64[pairs];
      PQKV_UNROLL for (std::size_t c = 0; c < pairs; ++c) {
        codes_u8x64[c] = k == 0 ? bytes[c] : _mm512_srli_epi16(bytes[c], static_cast<unsigned>(k * bits));
        if (bits < 8) codes_u8x64[c] = _mm512_and_si512(codes_u8x64[c], mask);
      }
      const std::size_t dword = (row * crumbs + k) * 4;
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        const __m512i low = broadcast_dword(weights[q].low[g] + dword);
        PQKV_UNROLL for (std::size_t c = 0; c < pairs; ++c) {
          if constexpr (bits == 8) {
            const __m512i high = broadcast_dword(weights[q].high[g] + dword);
            low_i32x16[c][q] = _mm512_dpbusd_epi32(low_i32x16[c][q], codes_u8x64[c], low);
            high_i32x16[c][q] = _mm512_dpbusd_epi32(high_i32x16[c][q], codes_u8x64[c], high);
          } else {  // the unsigned factor is the weight
            low_i32x16[c][q] = _mm512_dpbusd_epi32(low_i32x16[c][q], low, codes_u8x64[c]);
          }
        }
      }
    }
  }
  constexpr auto lanes = static_cast<__mmask16>(single ? 0xff : 0xffff);
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    const __m512 step = _mm512_set1_ps(weights[q].step[g]);
    const __m512 shift = _mm512_set1_ps(weights[q].shift[g]);
    PQKV_UNROLL for (std::size_t c = 0; c < pairs; ++c) {
      __m512i sum_i32x16 = low_i32x16[c][q];
      if constexpr (bits == 8) {
        sum_i32x16 = _mm512_add_epi32(_mm512_maskz_slli_epi32(0xffff, high_i32x16[c][q], 8), sum_i32x16);
      }
      float* out = outs + q * dim + c * 16;
      const __m512 before = _mm512_add_ps(load16(out, lanes), shift);
      _mm512_mask_storeu_ps(out, lanes, _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(0xffff, sum_i32x16), step, before));
    }
  }
}

/// `groups` ≤ 4 neighbouring groups of one block for `queries` queries.
template <std::size_t bits, std::size_t groups, std::size_t queries>
inline void integer_groups(const Scales& scales, const std::uint8_t* codes, std::ptrdiff_t ahead, std::size_t chunks,
                           const float* weights, std::size_t stride, float* outs, std::size_t dim) noexcept {
  Weights<bits> quantised[queries];
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    quantise_weights<bits, groups>(scales, weights + q * stride, quantised[q]);
  }
  constexpr std::size_t chunk_bytes = 32 * bits;
  for (std::size_t g = 0; g < groups; ++g) {
    const std::uint8_t* mine = codes + g * chunks * chunk_bytes;
    float* out = outs + g * chunks * 8;
    std::size_t c = 0;
    for (; c + 4 <= chunks; c += 4) {
      integer_chunks<bits, queries, 2, false>(mine + c * chunk_bytes, ahead, quantised, g, out + c * 8, dim);
    }
    if (c + 2 <= chunks) {
      integer_chunks<bits, queries, 1, false>(mine + c * chunk_bytes, ahead, quantised, g, out + c * 8, dim);
      c += 2;
    }
    if (c < chunks) integer_chunks<bits, queries, 1, true>(mine + c * chunk_bytes, ahead, quantised, g, out + c * 8, dim);
  }
}

/// `groups` ≤ 4 neighbouring groups of one block for all queries.
template <std::size_t bits, std::size_t groups>
inline void integer_queries(const f16* scale_line, const f16* offset_line, const std::uint8_t* codes, std::ptrdiff_t ahead,
                            std::size_t chunks, const float* weights, std::size_t query_count, std::size_t stride, float* outs,
                            std::size_t dim) noexcept {
  Scales scales;
  load_scales<bits, groups>(scale_line, offset_line, scales);
  std::size_t q = 0;
  for (; q + 4 <= query_count; q += 4, ahead = 0) {  // the first queries ask, for all
    integer_groups<bits, groups, 4>(scales, codes, ahead, chunks, weights + q * stride, stride, outs + q * dim, dim);
  }
  for (; q < query_count; ++q, ahead = 0) {
    integer_groups<bits, groups, 1>(scales, codes, ahead, chunks, weights + q * stride, stride, outs + q * dim, dim);
  }
}

template <std::size_t bits>
inline void integer_accumulate(const std::byte* blocks, std::size_t block_count, std::size_t dim, std::size_t group,
                               const float* weights, std::size_t query_count, std::size_t stride,
                               float* outs, std::ptrdiff_t ahead) noexcept {
  const std::size_t groups = dim / group;
  const std::size_t chunks = group / 8;
  const std::size_t block_bytes = groups * 128 + dim * 4 * bits;
  for (std::size_t b = 0; b < block_count; ++b) {
    const std::byte* block = blocks + b * block_bytes;
    avx2::prefetch(block, groups * 128, ahead);
    const auto* scales = reinterpret_cast<const f16*>(block);
    const auto* offsets = scales + groups * 32;
    const auto* codes = reinterpret_cast<const std::uint8_t*>(block + groups * 128);
    const float* line = weights + b * 32;
    std::size_t g = 0;
    for (; g + 4 <= groups; g += 4) {
      integer_queries<bits, 4>(scales + g * 32, offsets + g * 32, codes + g * group * 4 * bits, ahead, chunks, line,
                               query_count, stride, outs + g * group, dim);
    }
    for (; g + 2 <= groups; g += 2) {
      integer_queries<bits, 2>(scales + g * 32, offsets + g * 32, codes + g * group * 4 * bits, ahead, chunks, line,
                               query_count, stride, outs + g * group, dim);
    }
    if (g < groups) {
      integer_queries<bits, 1>(scales + g * 32, offsets + g * 32, codes + g * group * 4 * bits, ahead, chunks, line,
                               query_count, stride, outs + g * group, dim);
    }
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx512vbmi
PQKV_TARGET_END

#endif
