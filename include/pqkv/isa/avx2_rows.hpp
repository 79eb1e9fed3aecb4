// AVX2: loads, conversions, exact rows and softmax. Layer 1. The set is assembled in avx2.hpp.
#pragma once

#include "pqkv/base/config.hpp"

#if defined(PQKV_X86)
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "pqkv/isa/scalar.hpp"
#include "pqkv/isa/target.hpp"

PQKV_TARGET_BEGIN("avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx2 {

/// How far ahead rows are asked for, which come one behind the other.
inline constexpr std::ptrdiff_t prefetch_ahead = 3072;

/// ask_ahead without its question: asking for what is being read costs less than a branch.
inline void prefetch(const void* first, std::size_t bytes, std::ptrdiff_t ahead = prefetch_ahead) noexcept {
  ask_memory(static_cast<const char*>(first) + ahead, bytes);
}

inline __m256 load8(const float* x) noexcept { return _mm256_loadu_ps(x); }
inline __m256 load8(const f16* x) noexcept {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}
inline __m256 load8(const bf16* x) noexcept {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
inline __m256i load_bytes(const void* x) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(x)); }

inline float sum_of(__m256 x) noexcept {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float maximum_of(__m256 x) noexcept {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// ---- conversions -------------------------------------------------------------------------------------------------

template <class T>
inline void to_f32(const T* in, std::size_t count, float* out) noexcept {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) _mm256_storeu_ps(out + i, load8(in + i));
  for (; i < count; ++i) out[i] = to_float(in[i]);
}

inline void f32_to_f16(const float* in, std::size_t count, f16* out) noexcept {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
  }
  for (; i < count; ++i) out[i] = to_f16(in[i]);
}

inline void f32_to_bf16(const float* in, std::size_t count, bf16* out) noexcept {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i bits = load_bytes(in + i);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
    const __m256i nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7f800000));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i upper = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(upper, upper), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm256_castsi256_si128(packed));
  }
  for (; i < count; ++i) out[i] = to_bf16(in[i]);
}

// ---- exact rows --------------------------------------------------------------------------------------------------

/// `count` rows × `queries` queries.
template <std::size_t count, std::size_t queries, class T>
inline void dot_tile(const T* rows, std::size_t dim, const float* query, float* scores, std::size_t stride) noexcept {
  __m256 sums_f32x8[count][queries];
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) sums_f32x8[r][q] = _mm256_setzero_ps();
  }
  std::size_t d = 0;
  for (; d + 8 <= dim; d += 8) {
    PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
      const __m256 row_f32x8 = load8(rows + r * dim + d);
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        sums_f32x8[r][q] = _mm256_fmadd_ps(row_f32x8, _mm256_loadu_ps(query + q * dim + d), sums_f32x8[r][q]);
      }
    }
  }
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
      float sum = sum_of(sums_f32x8[r][q]);
      for (std::size_t i = d; i < dim; ++i) sum += to_float(rows[r * dim + i]) * query[q * dim + i];
      scores[q * stride + r] = sum;
    }
  }
}

template <class T>
inline void dot(const T* rows, std::size_t tokens, std::size_t dim, const float* queries, std::size_t query_count,
                float* scores, std::size_t stride) noexcept {
  std::size_t t = 0;
  for (; t + 4 <= tokens; t += 4) {
    const T* four = rows + t * dim;
    prefetch(four, 4 * dim * sizeof(T));
    std::size_t q = 0;
    for (; q + 2 <= query_count; q += 2) dot_tile<4, 2>(four, dim, queries + q * dim, scores + q * stride + t, stride);
    if (q < query_count) dot_tile<4, 1>(four, dim, queries + q * dim, scores + q * stride + t, stride);
  }
  for (; t < tokens; ++t) {
    for (std::size_t q = 0; q < query_count; ++q) {
      dot_tile<1, 1>(rows + t * dim, dim, queries + q * dim, scores + q * stride + t, stride);
    }
  }
}

/// `count` rows into the sums of `queries` queries.
template <std::size_t count, std::size_t queries, class T>
inline void accumulate_tile(const T* rows, std::size_t dim, const float* weights, std::size_t stride,
                            float* outs) noexcept {
  __m256 weights_f32x8[count][queries];
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) weights_f32x8[r][q] = _mm256_set1_ps(weights[q * stride + r]);
  }
  std::size_t d = 0;
  for (; d + 8 <= dim; d += 8) {
    __m256 sums_f32x8[queries];
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) sums_f32x8[q] = _mm256_loadu_ps(outs + q * dim + d);
    PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
      const __m256 row_f32x8 = load8(rows + r * dim + d);
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        sums_f32x8[q] = _mm256_fmadd_ps(row_f32x8, weights_f32x8[r][q], sums_f32x8[q]);
      }
    }
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) _mm256_storeu_ps(outs + q * dim + d, sums_f32x8[q]);
  }
  for (; d < dim; ++d) {
    for (std::size_t q = 0; q < queries; ++q) {
      for (std::size_t r = 0; r < count; ++r) outs[q * dim + d] += weights[q * stride + r] * to_float(rows[r * dim + d]);
    }
  }
}

template <class T>
inline void accumulate(const T* rows, std::size_t tokens, std::size_t dim, const float* weights,
                       std::size_t query_count, std::size_t stride, float* outs) noexcept {
  std::size_t t = 0;
  for (; t + 4 <= tokens; t += 4) {
    const T* four = rows + t * dim;
    prefetch(four, 4 * dim * sizeof(T));
    std::size_t q = 0;
    for (; q + 2 <= query_count; q += 2) {
      accumulate_tile<4, 2>(four, dim, weights + q * stride + t, stride, outs + q * dim);
    }
    if (q < query_count) accumulate_tile<4, 1>(four, dim, weights + q * stride + t, stride, outs + q * dim);
  }
  for (; t < tokens; ++t) {
    for (std::size_t q = 0; q < query_count; ++q) {
      accumulate_tile<1, 1>(rows + t * dim, dim, weights + q * stride + t, stride, outs + q * dim);
    }
  }
}

/// `vectors` × 8 columns of `queries` queries through all rows of the matrix, sums in registers.
template <std::size_t queries, std::size_t vectors>
inline void product_columns(const float* matrix, std::size_t row_stride, std::size_t rows, const float* weights,
                            std::size_t weight_stride, float* outs, std::size_t out_stride) noexcept {
  __m256 sums_f32x8[queries][vectors];
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    PQKV_UNROLL for (std::size_t i = 0; i < vectors; ++i) sums_f32x8[q][i] = _mm256_loadu_ps(outs + q * out_stride + i * 8);
  }
  for (std::size_t r = 0; r < rows; ++r) {
    __m256 weights_f32x8[queries];
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) weights_f32x8[q] = _mm256_broadcast_ss(weights + q * weight_stride + r);
    PQKV_UNROLL for (std::size_t i = 0; i < vectors; ++i) {
      const __m256 row_f32x8 = _mm256_loadu_ps(matrix + r * row_stride + i * 8);
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        sums_f32x8[q][i] = _mm256_fmadd_ps(row_f32x8, weights_f32x8[q], sums_f32x8[q][i]);
      }
    }
  }
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    PQKV_UNROLL for (std::size_t i = 0; i < vectors; ++i) _mm256_storeu_ps(outs + q * out_stride + i * 8, sums_f32x8[q][i]);
  }
}

/// All columns of `queries` queries: as many sums as hide the latency of an addition, then what is left.
template <std::size_t queries>
inline void product_queries(const float* matrix, std::size_t row_stride, std::size_t rows, std::size_t columns,
                            const float* weights, std::size_t weight_stride, float* outs, std::size_t out_stride) noexcept {
  constexpr std::size_t vectors = queries == 2 ? 5 : 8;
  std::size_t c = 0;
  for (; c + 8 * vectors <= columns; c += 8 * vectors) {
    product_columns<queries, vectors>(matrix + c, row_stride, rows, weights, weight_stride, outs + c, out_stride);
  }
  for (; c + 32 <= columns; c += 32) {
    product_columns<queries, 4>(matrix + c, row_stride, rows, weights, weight_stride, outs + c, out_stride);
  }
  for (; c + 16 <= columns; c += 16) {
    product_columns<queries, 2>(matrix + c, row_stride, rows, weights, weight_stride, outs + c, out_stride);
  }
  for (; c + 8 <= columns; c += 8) {
    product_columns<queries, 1>(matrix + c, row_stride, rows, weights, weight_stride, outs + c, out_stride);
  }
  if (c < columns) {
    scalar::product_f32(matrix + c, row_stride, rows, columns - c, weights, weight_stride, queries, outs + c, out_stride);
  }
}

inline void product_f32(const float* matrix, std::size_t row_stride, std::size_t rows, std::size_t columns,
                        const float* weights, std::size_t weight_stride, std::size_t query_count, float* outs,
                        std::size_t out_stride) noexcept {
  std::size_t q = 0;
  for (; q + 2 <= query_count; q += 2) {
    product_queries<2>(matrix, row_stride, rows, columns, weights + q * weight_stride, weight_stride, outs + q * out_stride,
                       out_stride);
  }
  if (q < query_count) {
    product_queries<1>(matrix, row_stride, rows, columns, weights + q * weight_stride, weight_stride, outs + q * out_stride,
                       out_stride);
  }
}

// ---- softmax -----------------------------------------------------------------------------------------------------

inline float maximum(const float* x, std::size_t count) noexcept {
  if (count < 8) return scalar::maximum(x, count);
  __m256 most_f32x8[4];  // four, because a maximum takes four cycles
  PQKV_UNROLL for (std::size_t j = 0; j < 4; ++j) most_f32x8[j] = _mm256_loadu_ps(x + count - 8);
  std::size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    PQKV_UNROLL for (std::size_t j = 0; j < 4; ++j) {
      most_f32x8[j] = _mm256_max_ps(most_f32x8[j], _mm256_loadu_ps(x + i + j * 8));
    }
  }
  for (; i + 8 <= count; i += 8) most_f32x8[0] = _mm256_max_ps(most_f32x8[0], _mm256_loadu_ps(x + i));
  return maximum_of(_mm256_max_ps(_mm256_max_ps(most_f32x8[0], most_f32x8[1]), _mm256_max_ps(most_f32x8[2], most_f32x8[3])));
}

/// exp of x ≤ 0: 2ⁿ·e^r with n the nearest integer to x/ln 2, |r| ≤ ln 2 / 2, and a Taylor polynomial of degree 7 for
/// e^r (its remainder is below 1e-8); 0 below −87.33, where the result would be subnormal.
inline __m256 exponential_of(__m256 x) noexcept {
  const __m256 normal = _mm256_cmp_ps(x, _mm256_set1_ps(-87.33f), _CMP_GE_OQ);
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // ln 2 in two parts: the first has trailing zeros, so that n times it is exact.
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 sum = _mm256_set1_ps(1.0f / 5040);
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f / 720));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f / 120));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f / 24));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f / 6));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(0.5f));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f));
  sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(1.0f));
  const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_and_ps(_mm256_mul_ps(sum, _mm256_castsi256_ps(power)), normal);
}

inline float exponential(float* x, std::size_t count, float shift) noexcept {
  const __m256 shift_f32x8 = _mm256_set1_ps(shift);
  __m256 sum_f32x8 = _mm256_setzero_ps();
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256 y = exponential_of(_mm256_sub_ps(_mm256_loadu_ps(x + i), shift_f32x8));
    _mm256_storeu_ps(x + i, y);
    sum_f32x8 = _mm256_add_ps(sum_f32x8, y);
  }
  if (i < count) {
    alignas(32) float rest[8] = {};
    std::memcpy(rest, x + i, (count - i) * sizeof(float));
    _mm256_store_ps(rest, exponential_of(_mm256_sub_ps(_mm256_load_ps(rest), shift_f32x8)));
    std::memcpy(x + i, rest, (count - i) * sizeof(float));
    std::memset(rest + (count - i), 0, (8 - (count - i)) * sizeof(float));
    sum_f32x8 = _mm256_add_ps(sum_f32x8, _mm256_load_ps(rest));
  }
  return sum_of(sum_f32x8);
}

inline void mass_bounds(const float* x, std::size_t block_count, float shift, float* bounds) noexcept {
  const __m256 shift_f32x8 = _mm256_set1_ps(shift), unit = _mm256_set1_ps(scalar::exponent_unit);
  const __m256 slope = _mm256_set1_ps(scalar::exponent_slope), start = _mm256_set1_ps(scalar::exponent_start);
  for (std::size_t b = 0; b < block_count; ++b) {
    __m256 sum_f32x8 = _mm256_setzero_ps();
    PQKV_UNROLL for (std::size_t i = 0; i < 32; i += 8) {
      const __m256 bits = _mm256_fmadd_ps(_mm256_sub_ps(_mm256_loadu_ps(x + b * 32 + i), shift_f32x8), slope, start);
      const __m256 y = _mm256_castsi256_ps(_mm256_cvttps_epi32(bits));
      sum_f32x8 = _mm256_add_ps(sum_f32x8, _mm256_and_ps(y, _mm256_cmp_ps(bits, unit, _CMP_GE_OQ)));
    }
    bounds[b] = sum_of(sum_f32x8);
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx2
PQKV_TARGET_END

#endif
