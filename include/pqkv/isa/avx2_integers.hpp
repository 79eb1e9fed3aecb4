// AVX2: sums of 8-bit values. Layer 1. The set is assembled in avx2.hpp; kernels.hpp draws the block.
// Per 32 bytes of codes and shift: shift, mask, vpmaddwd with a broadcast pair of weights, add.
#pragma once

#include "pqkv/isa/avx2_rows.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx2 {

/// `products` = weight · scale of 32 tokens → 15-bit weights in pairs as the codes want them: dword 2·i + p holds the two
/// tokens whose codes lie at shift 8·p of the 16-bit lanes of dword row i. Returns the step.
inline float quantise_weights(const __m256* products_f32x8, std::uint32_t* pairs) noexcept {
  const __m256 most_f32x8 = _mm256_max_ps(_mm256_max_ps(products_f32x8[0], products_f32x8[1]),
                                          _mm256_max_ps(products_f32x8[2], products_f32x8[3]));
  const float largest = maximum_of(most_f32x8);
  const __m256 inverse_f32x8 = _mm256_set1_ps(largest > least_product ? weight_levels / largest : 0.0f);
  // Inside 8 tokens: 0,2 | 1,3 | 4,6 | 5,7.
  const __m256i order =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
  PQKV_UNROLL for (std::size_t half = 0; half < 2; ++half) {
    const __m256i first = _mm256_cvtps_epi32(_mm256_mul_ps(products_f32x8[2 * half], inverse_f32x8));
    const __m256i second = _mm256_cvtps_epi32(_mm256_mul_ps(products_f32x8[2 * half + 1], inverse_f32x8));
    const __m256i tokens_i16x16 = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(pairs + half * 8), _mm256_shuffle_epi8(tokens_i16x16, order));
  }
  return largest / weight_levels;
}

/// Sums of `chunks` × 8 channels for `queries` queries over one block; the codes are unpacked once for all queries.
template <std::size_t chunks, std::size_t queries>
inline void integer_chunks(const std::uint8_t* codes, const std::uint32_t (*pairs)[16], const float* steps,
                           const float* offsets, float* outs, std::size_t dim, std::ptrdiff_t ahead) noexcept {
  constexpr std::size_t bits = 8, positions = 2, chunk_bytes = 256;
  const __m256i mask = _mm256_set1_epi16(255);
  __m256i sums_i32x8[chunks][queries];
  PQKV_UNROLL for (std::size_t c = 0; c < chunks; ++c) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) sums_i32x8[c][q] = _mm256_setzero_si256();
  }
  for (std::size_t row = 0; row < bits; ++row) {
    __m256i dwords[chunks];
    PQKV_UNROLL for (std::size_t c = 0; c < chunks; ++c) {
      const std::uint8_t* first = codes + c * chunk_bytes + row * 32;
      if (row % 2 == 0) prefetch(first, 64, ahead);
      dwords[c] = load_bytes(first);
    }
    PQKV_UNROLL for (std::size_t p = 0; p < positions; ++p) {
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        const __m256i weights_i16x16 = _mm256_set1_epi32(static_cast<int>(pairs[q][row * positions + p]));
        PQKV_UNROLL for (std::size_t c = 0; c < chunks; ++c) {
          __m256i codes_i16x16 = p == 0 ? dwords[c] : _mm256_srli_epi16(dwords[c], static_cast<int>(p * bits));
          if (p + 1 < positions) codes_i16x16 = _mm256_and_si256(codes_i16x16, mask);
          sums_i32x8[c][q] = _mm256_add_epi32(sums_i32x8[c][q], _mm256_madd_epi16(codes_i16x16, weights_i16x16));
        }
      }
    }
  }
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    PQKV_UNROLL for (std::size_t c = 0; c < chunks; ++c) {
      float* out = outs + q * dim + c * 8;
      const __m256 total_f32x8 = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums_i32x8[c][q]), _mm256_set1_ps(steps[q]),
                                                 _mm256_set1_ps(offsets[q]));
      _mm256_storeu_ps(out, _mm256_add_ps(_mm256_loadu_ps(out), total_f32x8));
    }
  }
}

/// One group of one block for `queries` queries.
template <std::size_t queries>
inline void integer_group(const std::byte* scales, const std::byte* offsets, const std::uint8_t* codes,
                          std::size_t chunks, const float* weights, std::size_t stride, float* outs,
                          std::size_t dim, std::ptrdiff_t ahead) noexcept {
  std::uint32_t pairs[queries][16];
  float steps[queries];
  float shifts[queries];
  for (std::size_t q = 0; q < queries; ++q) {
    __m256 products_f32x8[4];
    __m256 shift_f32x8 = _mm256_setzero_ps();
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
      const __m256 weights_f32x8 = _mm256_loadu_ps(weights + q * stride + i * 8);
      products_f32x8[i] = _mm256_mul_ps(weights_f32x8, load8(reinterpret_cast<const f16*>(scales) + i * 8));
      shift_f32x8 = _mm256_fmadd_ps(weights_f32x8, load8(reinterpret_cast<const f16*>(offsets) + i * 8), shift_f32x8);
    }
    steps[q] = quantise_weights(products_f32x8, pairs[q]);
    shifts[q] = sum_of(shift_f32x8);
  }
  std::size_t c = 0;
  constexpr std::size_t step = queries == 4 ? 2 : 4;  // sums for 8 registers
  for (; c + step <= chunks; c += step) {
    integer_chunks<step, queries>(codes + c * 256, pairs, steps, shifts, outs + c * 8, dim, ahead);
  }
  for (; c < chunks; ++c) {
    integer_chunks<1, queries>(codes + c * 256, pairs, steps, shifts, outs + c * 8, dim, ahead);
  }
}

inline void int8_accumulate(const std::byte* blocks, std::size_t block_count, std::size_t dim, std::size_t group,
                               const float* weights, std::size_t query_count, std::size_t stride,
                               float* outs, std::ptrdiff_t ahead) noexcept {
  const std::size_t groups = dim / group;
  const std::size_t block_bytes = groups * 128 + dim * 32;
  for (std::size_t b = 0; b < block_count; ++b) {
    const std::byte* block = blocks + b * block_bytes;
    prefetch(block, groups * 128, ahead);
    for (std::size_t g = 0; g < groups; ++g) {
      const std::byte* scales = block + g * 64;
      const std::byte* offsets = block + (groups + g) * 64;
      const auto* codes = reinterpret_cast<const std::uint8_t*>(block + groups * 128) + g * group * 32;
      std::ptrdiff_t asking = ahead;  // the first queries ask, for all
      std::size_t q = 0;
      for (; q + 4 <= query_count; q += 4, asking = 0) {
        integer_group<4>(scales, offsets, codes, group / 8, weights + q * stride + b * 32, stride,
                               outs + q * dim + g * group, dim, asking);
      }
      for (; q < query_count; ++q, asking = 0) {
        integer_group<1>(scales, offsets, codes, group / 8, weights + q * stride + b * 32, stride,
                               outs + q * dim + g * group, dim, asking);
      }
    }
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx2
PQKV_TARGET_END

#endif
