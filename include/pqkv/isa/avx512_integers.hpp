// AVX-512: sums of 8-bit values. Layer 1. The set is assembled in avx512.hpp; kernels.hpp draws the block.
// A register holds two dword rows of a chunk, so that all weights of 32 tokens are 8 registers, which stay where they are
// while the chunks of a group pass by.
#pragma once

#include "pqkv/isa/avx512_rows.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx512 {

/// The weights of one group, block and query: weights_i16x32[row pair · 2 + position], lower half for the even
/// row, upper half for the odd one.
struct IntegerWeights {
  __m512i weights_i16x32[8];
  float step;
  float offset;
};

/// Weights · scales as 15-bit integers (scalar::quantise_weights), in the order of the codes; Σ weights · offsets.
inline void quantise_weights(const f16* scales, const f16* offsets, const float* weights,
                             IntegerWeights& out) noexcept {
  const __m512 first_f32x16 = _mm512_loadu_ps(weights);
  const __m512 second_f32x16 = _mm512_loadu_ps(weights + 16);
  const __m512 first = _mm512_mul_ps(first_f32x16, load16(scales, 0xffff));
  const __m512 second = _mm512_mul_ps(second_f32x16, load16(scales + 16, 0xffff));
  out.offset = sum_of(_mm512_fmadd_ps(first_f32x16, load16(offsets, 0xffff),
                                      _mm512_mul_ps(second_f32x16, load16(offsets + 16, 0xffff))));
  const float largest = maximum_of(_mm512_maskz_max_ps(0xffff, first, second));
  out.step = largest / weight_levels;
  const __m512 inverse = _mm512_set1_ps(largest > least_product ? weight_levels / largest : 0.0f);
  const __m256i low = _mm512_maskz_cvtepi32_epi16(0xffff, _mm512_maskz_cvtps_epi32(0xffff, _mm512_mul_ps(first, inverse)));
  const __m256i high =
      _mm512_maskz_cvtepi32_epi16(0xffff, _mm512_maskz_cvtps_epi32(0xffff, _mm512_mul_ps(second, inverse)));
  const __m512i tokens_i16x32 = _mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(low), high, 1);

  // Dword j of `pairs` is tokens t and t + 2 of row j / 2 at shift j % 2 · 8.
  alignas(64) static constexpr auto order = [] {
    struct { std::uint16_t token[32]; } indices{};
    for (std::size_t j = 0; j < 16; ++j) {
      const std::size_t token = j / 2 * 4 + j % 2;
      indices.token[2 * j] = static_cast<std::uint16_t>(token);
      indices.token[2 * j + 1] = static_cast<std::uint16_t>(token + 2);
    }
    return indices;
  }();
  const __m512i pairs = _mm512_maskz_permutexvar_epi16(0xffffffffu, _mm512_load_si512(order.token), tokens_i16x32);
  const __m512i odd_row = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2);
  PQKV_UNROLL for (std::size_t i = 0; i < 8; ++i) {
    const auto even_row = static_cast<int>(i / 2 * 4 + i % 2);
    out.weights_i16x32[i] =
        _mm512_maskz_permutexvar_epi32(0xffff, _mm512_add_epi32(odd_row, _mm512_set1_epi32(even_row)), pairs);
  }
}

/// Sums of 16 channels (two chunks) for `queries` queries; `single` for a last chunk of 8 channels alone.
template <std::size_t queries, bool single>
inline void integer_chunks(const std::uint8_t* codes, const IntegerWeights* weights, float* outs, std::size_t dim,
                           std::ptrdiff_t ahead) noexcept {
  constexpr std::size_t bits = 8, positions = 2, chunk_bytes = 256;
  constexpr std::size_t chunks = single ? 1 : 2;
  const __m512i mask = _mm512_set1_epi16((1 << bits) - 1);
  __m512i sums_i32x16[2][queries];
  PQKV_UNROLL for (std::size_t c = 0; c < 2; ++c) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) sums_i32x16[c][q] = _mm512_setzero_si512();
  }
  PQKV_UNROLL for (std::size_t row_pair = 0; row_pair < bits / 2; ++row_pair) {
    PQKV_UNROLL for (std::size_t c = 0; c < chunks; ++c) {
      avx2::prefetch(codes + c * chunk_bytes + row_pair * 64, 64, ahead);
      const __m512i dwords = _mm512_loadu_si512(codes + c * chunk_bytes + row_pair * 64);
      PQKV_UNROLL for (std::size_t p = 0; p < positions; ++p) {
        __m512i codes_i16x32 = p == 0 ? dwords : _mm512_srli_epi16(dwords, static_cast<unsigned>(p * bits));
        if (p + 1 < positions) codes_i16x32 = _mm512_and_si512(codes_i16x32, mask);
        PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
          sums_i32x16[c][q] = _mm512_add_epi32(
              sums_i32x16[c][q], _mm512_madd_epi16(codes_i16x32, weights[q].weights_i16x32[row_pair * positions + p]));
        }
      }
    }
  }
  constexpr auto lanes = static_cast<__mmask16>(single ? 0xff : 0xffff);
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    // Even rows' sums plus odd rows' sums: chunk 0 in the lower half, chunk 1 in the upper.
    const __m512i even = _mm512_maskz_shuffle_i64x2(0xff, sums_i32x16[0][q], sums_i32x16[1][q], 0x44);
    const __m512i odd = _mm512_maskz_shuffle_i64x2(0xff, sums_i32x16[0][q], sums_i32x16[1][q], 0xee);
    const __m512 total = _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(0xffff, _mm512_add_epi32(even, odd)),
                                         _mm512_set1_ps(weights[q].step), _mm512_set1_ps(weights[q].offset));
    _mm512_mask_storeu_ps(outs + q * dim, lanes, _mm512_add_ps(load16(outs + q * dim, lanes), total));
  }
}

/// One group of one block for `queries` queries.
template <std::size_t queries>
inline void integer_group(const f16* scales, const f16* offsets, const std::uint8_t* codes, std::size_t chunks,
                          const float* weights, std::size_t stride, float* outs, std::size_t dim,
                          std::ptrdiff_t ahead) noexcept {
  IntegerWeights quantised[queries];
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    quantise_weights(scales, offsets, weights + q * stride, quantised[q]);
  }
  std::size_t c = 0;
  for (; c + 2 <= chunks; c += 2) {
    integer_chunks<queries, false>(codes + c * 256, quantised, outs + c * 8, dim, ahead);
  }
  if (c < chunks) integer_chunks<queries, true>(codes + c * 256, quantised, outs + c * 8, dim, ahead);
}

inline void int8_accumulate(const std::byte* blocks, std::size_t block_count, std::size_t dim, std::size_t group,
                               const float* weights, std::size_t query_count, std::size_t stride,
                               float* outs, std::ptrdiff_t ahead) noexcept {
  const std::size_t groups = dim / group;
  const std::size_t block_bytes = groups * 128 + dim * 32;
  for (std::size_t b = 0; b < block_count; ++b) {
    const std::byte* block = blocks + b * block_bytes;
    avx2::prefetch(block, groups * 128, ahead);
    for (std::size_t g = 0; g < groups; ++g) {
      const auto* scales = reinterpret_cast<const f16*>(block + g * 64);
      const auto* offsets = reinterpret_cast<const f16*>(block + (groups + g) * 64);
      const auto* codes = reinterpret_cast<const std::uint8_t*>(block + groups * 128) + g * group * 32;
      const float* line = weights + b * 32;
      float* out = outs + g * group;
      std::ptrdiff_t asking = ahead;  // the first queries ask, for all
      std::size_t q = 0;
      for (; q + 4 <= query_count; q += 4, asking = 0) {
        integer_group<4>(scales, offsets, codes, group / 8, line + q * stride, stride, out + q * dim, dim, asking);
      }
      for (; q < query_count; ++q, asking = 0) {
        integer_group<1>(scales, offsets, codes, group / 8, line + q * stride, stride, out + q * dim, dim, asking);
      }
    }
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx512
PQKV_TARGET_END

#endif
