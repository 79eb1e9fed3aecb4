// AVX2: sums of 4-bit and 2-bit values. Layer 1. The set is assembled in avx2.hpp; kernels.hpp draws the block.
// A dword of codes is four tokens of one channel, a dword of weights the same four tokens: vpmaddubsw multiplies 32 pairs
// of bytes and adds them in twos. Bound by the two multipliers: per query and 32 tokens, dim multiplications.
#pragma once

#include "pqkv/isa/avx2_rows.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx2 {

/// A group's scales, and its offsets moved to the middle of the codes, of 32 tokens.
struct GroupScales {
  float scale[32];
  float middle[32];
};

template <std::size_t bits>
inline void load_scales(const f16* scales, const f16* offsets, GroupScales& out) noexcept {
  const __m256 middle_f32x8 = _mm256_set1_ps(static_cast<float>((1 << bits) - 1) / 2);
  PQKV_UNROLL for (std::size_t i = 0; i < 32; i += 8) {
    const __m256 scale_f32x8 = load8(scales + i);
    _mm256_storeu_ps(out.scale + i, scale_f32x8);
    _mm256_storeu_ps(out.middle + i, _mm256_fmadd_ps(scale_f32x8, middle_f32x8, load8(offsets + i)));
  }
}

/// One query's weights · scales of 32 tokens as bytes (scalar::quantise_weights).
struct ByteWeights {
  std::uint8_t weights[32];
  float step;
  float shift;
};

template <std::size_t bits>
inline void quantise_bytes(const GroupScales& group, const float* weights, ByteWeights& out) noexcept {
  __m256 products_f32x8[4];
  __m256 shift_f32x8 = _mm256_setzero_ps();
  PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
    const __m256 weights_f32x8 = _mm256_loadu_ps(weights + i * 8);
    products_f32x8[i] = _mm256_mul_ps(weights_f32x8, _mm256_loadu_ps(group.scale + i * 8));
    shift_f32x8 = _mm256_fmadd_ps(weights_f32x8, _mm256_loadu_ps(group.middle + i * 8), shift_f32x8);
  }
  const float largest = maximum_of(_mm256_max_ps(_mm256_max_ps(products_f32x8[0], products_f32x8[1]),
                                                 _mm256_max_ps(products_f32x8[2], products_f32x8[3])));
  const __m256 inverse_f32x8 = _mm256_set1_ps(largest > least_product ? byte_weight_levels / largest : 0.0f);
  __m256i rounded_i32x8[4];
  PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
    rounded_i32x8[i] = _mm256_cvtps_epi32(_mm256_mul_ps(products_f32x8[i], inverse_f32x8));
  }
  const __m256i total_i32x8 = _mm256_add_epi32(_mm256_add_epi32(rounded_i32x8[0], rounded_i32x8[1]),
                                               _mm256_add_epi32(rounded_i32x8[2], rounded_i32x8[3]));
  out.step = largest / byte_weight_levels;
  const __m256 back_f32x8 = _mm256_set1_ps(out.step * (static_cast<float>((1 << bits) - 1) / 2));
  out.shift = sum_of(_mm256_fnmadd_ps(back_f32x8, _mm256_cvtepi32_ps(total_i32x8), shift_f32x8));
  // Packing works on halves of a register; the last permutation puts dwords of four tokens in order.
  const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(rounded_i32x8[0], rounded_i32x8[1]),
                                            _mm256_packs_epi32(rounded_i32x8[2], rounded_i32x8[3]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.weights),
                      _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}

/// Sums of `chunks` × 8 channels for `queries` queries over one block; the codes are unpacked once for all queries.
template <std::size_t bits, std::size_t chunks, std::size_t queries>
inline void byte_chunks(const std::uint8_t* codes, const ByteWeights* weights, float* outs, std::size_t dim,
                        std::ptrdiff_t ahead) noexcept {
  constexpr std::size_t crumbs = 8 / bits;
  constexpr std::size_t chunk_bytes = 32 * bits;
  const __m256i mask = _mm256_set1_epi8((1 << bits) - 1);
  __m256i sums_u16x16[chunks][queries];  // two per channel
  PQKV_UNROLL for (std::size_t c = 0; c < chunks; ++c) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) sums_u16x16[c][q] = _mm256_setzero_si256();
  }
  PQKV_UNROLL for (std::size_t row = 0; row < bits; ++row) {
    __m256i dwords[chunks];
    PQKV_UNROLL for (std::size_t c = 0; c < chunks; ++c) {
      const std::uint8_t* first = codes + c * chunk_bytes + row * 32;
      if (row % 2 == 0) prefetch(first, 64, ahead);  // by bursts, a block at a time, arithmetic would wait for them
      dwords[c] = load_bytes(first);
    }
    PQKV_UNROLL for (std::size_t k = 0; k < crumbs; ++k) {
      __m256i codes_i8x32[chunks];
      PQKV_UNROLL for (std::size_t c = 0; c < chunks; ++c) {
        codes_i8x32[c] = _mm256_and_si256(_mm256_srli_epi16(dwords[c], static_cast<int>(k * bits)), mask);
      }
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        std::int32_t four = 0;
        std::memcpy(&four, weights[q].weights + (row * crumbs + k) * 4, sizeof four);
        const __m256i weights_u8x32 = _mm256_set1_epi32(four);
        PQKV_UNROLL for (std::size_t c = 0; c < chunks; ++c) {
          sums_u16x16[c][q] = _mm256_add_epi16(sums_u16x16[c][q], _mm256_maddubs_epi16(weights_u8x32, codes_i8x32[c]));
        }
      }
    }
  }
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    const __m256 step_f32x8 = _mm256_set1_ps(weights[q].step);
    const __m256 shift_f32x8 = _mm256_set1_ps(weights[q].shift);
    PQKV_UNROLL for (std::size_t c = 0; c < chunks; ++c) {
      float* out = outs + q * dim + c * 8;
      const __m256i sum_i32x8 = _mm256_add_epi32(_mm256_srli_epi32(sums_u16x16[c][q], 16),
                                                 _mm256_and_si256(sums_u16x16[c][q], _mm256_set1_epi32(0xffff)));
      _mm256_storeu_ps(out, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum_i32x8), step_f32x8,
                                            _mm256_add_ps(_mm256_loadu_ps(out), shift_f32x8)));
    }
  }
}

/// One group of one block for `queries` queries.
template <std::size_t bits, std::size_t queries>
inline void byte_group(const GroupScales& scales, const std::uint8_t* codes, std::size_t chunks, const float* weights,
                       std::size_t stride, float* outs, std::size_t dim, std::ptrdiff_t ahead) noexcept {
  ByteWeights quantised[queries];
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    quantise_bytes<bits>(scales, weights + q * stride, quantised[q]);
  }
  std::size_t c = 0;
  constexpr std::size_t step = queries == 4 ? 2 : 4;  // sums for 8 registers
  for (; c + step <= chunks; c += step) {
    byte_chunks<bits, step, queries>(codes + c * 32 * bits, quantised, outs + c * 8, dim, ahead);
  }
  for (; c < chunks; ++c) byte_chunks<bits, 1, queries>(codes + c * 32 * bits, quantised, outs + c * 8, dim, ahead);
}

template <std::size_t bits>
inline void byte_accumulate(const std::byte* blocks, std::size_t block_count, std::size_t dim, std::size_t group,
                            const float* weights, std::size_t query_count, std::size_t stride, float* outs,
                            std::ptrdiff_t ahead) noexcept {
  const std::size_t groups = dim / group;
  const std::size_t block_bytes = groups * 128 + dim * 4 * bits;
  for (std::size_t b = 0; b < block_count; ++b) {
    const std::byte* block = blocks + b * block_bytes;
    prefetch(block, groups * 128, ahead);
    for (std::size_t g = 0; g < groups; ++g) {
      GroupScales scales;
      load_scales<bits>(reinterpret_cast<const f16*>(block + g * 64),
                        reinterpret_cast<const f16*>(block + (groups + g) * 64), scales);
      const auto* codes = reinterpret_cast<const std::uint8_t*>(block + groups * 128) + g * group * 4 * bits;
      const float* line = weights + b * 32;
      float* out = outs + g * group;
      std::ptrdiff_t asking = ahead;  // the first queries ask, for all
      std::size_t q = 0;
      for (; q + 4 <= query_count; q += 4, asking = 0) {
        byte_group<bits, 4>(scales, codes, group / 8, line + q * stride, stride, out + q * dim, dim, asking);
      }
      for (; q < query_count; ++q, asking = 0) {
        byte_group<bits, 1>(scales, codes, group / 8, line + q * stride, stride, out + q * dim, dim, asking);
      }
    }
  }
}

inline void integer_encode(const float* row, std::size_t dim, std::size_t group, std::uint32_t levels, f16* scales,
                           f16* offsets, std::uint8_t* codes) noexcept {
  const __m256 levels_f32x8 = _mm256_set1_ps(static_cast<float>(levels));
  for (std::size_t g = 0; g < dim / group; ++g) {  // groups are multiples of 8
    const float* first = row + g * group;
    __m256 least_f32x8 = _mm256_loadu_ps(first);
    __m256 most_f32x8 = least_f32x8;
    for (std::size_t d = 8; d < group; d += 8) {
      least_f32x8 = _mm256_min_ps(least_f32x8, _mm256_loadu_ps(first + d));
      most_f32x8 = _mm256_max_ps(most_f32x8, _mm256_loadu_ps(first + d));
    }
    const float least = -maximum_of(_mm256_xor_ps(least_f32x8, _mm256_set1_ps(-0.0f)));
    const float inverse = scalar::integer_range(least, maximum_of(most_f32x8), levels, scales[g], offsets[g]);
    const __m256 inverse_f32x8 = _mm256_set1_ps(inverse);
    const __m256 offset_f32x8 = _mm256_set1_ps(to_float(offsets[g]));
    for (std::size_t d = 0; d < group; d += 8) {
      const __m256 level = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(first + d), offset_f32x8), inverse_f32x8);
      const __m256i code_i32x8 =
          _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(level, _mm256_setzero_ps()), levels_f32x8));
      const __m128i code_i16x8 =
          _mm_packus_epi32(_mm256_castsi256_si128(code_i32x8), _mm256_extracti128_si256(code_i32x8, 1));
      _mm_storel_epi64(reinterpret_cast<__m128i*>(codes + g * group + d), _mm_packus_epi16(code_i16x8, code_i16x8));
    }
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx2
PQKV_TARGET_END

#endif
