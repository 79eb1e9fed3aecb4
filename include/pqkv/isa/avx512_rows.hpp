// AVX-512: loads, conversions, exact rows and softmax. Layer 1. The set is assembled in avx512.hpp.
// Ends of rows are masked loads, which never touch memory outside the mask: no scalar tails.
#pragma once

#include "pqkv/isa/avx2_rows.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx512 {

/// The first `count` of 16 lanes.
inline __mmask16 first_lanes(std::size_t count) noexcept {
  return static_cast<__mmask16>(count >= 16 ? 0xffffu : (1u << count) - 1u);
}

inline __m512 load16(const float* x, __mmask16 lanes) noexcept { return _mm512_maskz_loadu_ps(lanes, x); }
inline __m512 load16(const f16* x, __mmask16 lanes) noexcept {
  return _mm512_maskz_cvtph_ps(lanes, _mm256_maskz_loadu_epi16(lanes, x));
}
inline __m512 load16(const bf16* x, __mmask16 lanes) noexcept {
  const __m512i wide = _mm512_maskz_cvtepu16_epi32(lanes, _mm256_maskz_loadu_epi16(lanes, x));
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(lanes, wide, 16));
}

// The masked forms throughout this set: GCC 12 warns of uninitialised registers inside the plain ones.
inline __m256 lower_half(__m512 x) noexcept { return _mm512_maskz_extractf32x8_ps(0xff, x, 0); }
inline __m256 upper_half(__m512 x) noexcept { return _mm512_maskz_extractf32x8_ps(0xff, x, 1); }
inline __m256i lower_half(__m512i x) noexcept { return _mm512_maskz_extracti32x8_epi32(0xff, x, 0); }
inline __m256i upper_half(__m512i x) noexcept { return _mm512_maskz_extracti32x8_epi32(0xff, x, 1); }
inline float sum_of(__m512 x) noexcept { return avx2::sum_of(_mm256_add_ps(lower_half(x), upper_half(x))); }
inline float maximum_of(__m512 x) noexcept { return avx2::maximum_of(_mm256_max_ps(lower_half(x), upper_half(x))); }

template <class T>
inline void to_f32(const T* in, std::size_t count, float* out) noexcept {
  for (std::size_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = first_lanes(count - i);
    _mm512_mask_storeu_ps(out + i, lanes, load16(in + i, lanes));
  }
}

// ---- exact rows --------------------------------------------------------------------------------------------------

/// `count` rows × `queries` queries.
template <std::size_t count, std::size_t queries, class T>
inline void dot_tile(const T* rows, std::size_t dim, const float* query, float* scores, std::size_t stride) noexcept {
  __m512 sums_f32x16[count][queries];
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) sums_f32x16[r][q] = _mm512_setzero_ps();
  }
  for (std::size_t d = 0; d < dim; d += 16) {
    const __mmask16 lanes = first_lanes(dim - d);
    __m512 query_f32x16[queries];
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) query_f32x16[q] = load16(query + q * dim + d, lanes);
    PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
      const __m512 row_f32x16 = load16(rows + r * dim + d, lanes);
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        sums_f32x16[r][q] = _mm512_fmadd_ps(row_f32x16, query_f32x16[q], sums_f32x16[r][q]);
      }
    }
  }
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) scores[q * stride + r] = sum_of(sums_f32x16[r][q]);
  }
}

template <class T>
inline void dot(const T* rows, std::size_t tokens, std::size_t dim, const float* queries, std::size_t query_count,
                float* scores, std::size_t stride) noexcept {
  std::size_t t = 0;
  for (; t + 4 <= tokens; t += 4) {
    const T* four = rows + t * dim;
    avx2::prefetch(four, 4 * dim * sizeof(T));
    std::size_t q = 0;
    for (; q + 4 <= query_count; q += 4) dot_tile<4, 4>(four, dim, queries + q * dim, scores + q * stride + t, stride);
    for (; q < query_count; ++q) dot_tile<4, 1>(four, dim, queries + q * dim, scores + q * stride + t, stride);
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
  __m512 weights_f32x16[count][queries];
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) weights_f32x16[r][q] = _mm512_set1_ps(weights[q * stride + r]);
  }
  for (std::size_t d = 0; d < dim; d += 16) {
    const __mmask16 lanes = first_lanes(dim - d);
    __m512 sums_f32x16[queries];
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) sums_f32x16[q] = load16(outs + q * dim + d, lanes);
    PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
      const __m512 row_f32x16 = load16(rows + r * dim + d, lanes);
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        sums_f32x16[q] = _mm512_fmadd_ps(row_f32x16, weights_f32x16[r][q], sums_f32x16[q]);
      }
    }
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) _mm512_mask_storeu_ps(outs + q * dim + d, lanes, sums_f32x16[q]);
  }
}

/// 64 columns of one or two queries through all rows, sums in registers.
template <std::size_t queries>
inline void product_columns(const float* rows, std::size_t tokens, std::size_t dim, const float* weights, std::size_t stride,
                               float* outs) noexcept {
  for (std::size_t d = 0; d < dim; d += 64) {
    __mmask16 lanes[4];
    __m512 sums_f32x16[queries][4];
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
      lanes[i] = d + i * 16 < dim ? first_lanes(dim - d - i * 16) : static_cast<__mmask16>(0);
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) sums_f32x16[q][i] = load16(outs + q * dim + d + i * 16, lanes[i]);
    }
    for (std::size_t t = 0; t < tokens; ++t) {
      PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
        const __m512 row_f32x16 = load16(rows + t * dim + d + i * 16, lanes[i]);
        PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
          sums_f32x16[q][i] = _mm512_fmadd_ps(row_f32x16, _mm512_set1_ps(weights[q * stride + t]), sums_f32x16[q][i]);
        }
      }
    }
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        _mm512_mask_storeu_ps(outs + q * dim + d + i * 16, lanes[i], sums_f32x16[q][i]);
      }
    }
  }
}

inline void product_f32(const float* rows, std::size_t tokens, std::size_t dim, const float* weights, std::size_t query_count,
                        std::size_t stride, float* outs) noexcept {
  std::size_t q = 0;
  for (; q + 2 <= query_count; q += 2) product_columns<2>(rows, tokens, dim, weights + q * stride, stride, outs + q * dim);
  if (q < query_count) product_columns<1>(rows, tokens, dim, weights + q * stride, stride, outs + q * dim);
}

template <class T>
inline void accumulate(const T* rows, std::size_t tokens, std::size_t dim, const float* weights,
                       std::size_t query_count, std::size_t stride, float* outs) noexcept {
  std::size_t t = 0;
  for (; t + 4 <= tokens; t += 4) {
    const T* four = rows + t * dim;
    avx2::prefetch(four, 4 * dim * sizeof(T));
    std::size_t q = 0;
    for (; q + 4 <= query_count; q += 4) {
      accumulate_tile<4, 4>(four, dim, weights + q * stride + t, stride, outs + q * dim);
    }
    for (; q < query_count; ++q) accumulate_tile<4, 1>(four, dim, weights + q * stride + t, stride, outs + q * dim);
  }
  for (; t < tokens; ++t) {
    for (std::size_t q = 0; q < query_count; ++q) {
      accumulate_tile<1, 1>(rows + t * dim, dim, weights + q * stride + t, stride, outs + q * dim);
    }
  }
}

// ---- softmax -----------------------------------------------------------------------------------------------------

inline float maximum(const float* x, std::size_t count) noexcept {
  __m512 most_f32x16 = _mm512_set1_ps(x[0]);
  for (std::size_t i = 0; i < count; i += 16) {
    most_f32x16 = _mm512_mask_max_ps(most_f32x16, first_lanes(count - i), most_f32x16,
                                     load16(x + i, first_lanes(count - i)));
  }
  return maximum_of(most_f32x16);
}

/// The polynomial of avx2::exponential_of; vscalefps multiplies by 2ⁿ.
inline __m512 exponential_of(__m512 x) noexcept {
  const __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.33f), _CMP_GE_OQ);
  const __m512 n = _mm512_maskz_roundscale_ps(normal, _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                              _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 sum = _mm512_set1_ps(1.0f / 5040);
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 720));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 120));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 24));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f / 6));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(0.5f));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f));
  sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(1.0f));
  return _mm512_maskz_scalef_ps(normal, sum, n);
}

inline float exponential(float* x, std::size_t count, float shift) noexcept {
  const __m512 shift_f32x16 = _mm512_set1_ps(shift);
  __m512 sum_f32x16 = _mm512_setzero_ps();
  for (std::size_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = first_lanes(count - i);
    const __m512 y = exponential_of(_mm512_sub_ps(load16(x + i, lanes), shift_f32x16));
    _mm512_mask_storeu_ps(x + i, lanes, y);
    sum_f32x16 = _mm512_mask_add_ps(sum_f32x16, lanes, sum_f32x16, y);
  }
  return sum_of(sum_f32x16);
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx512
PQKV_TARGET_END

#endif
