// AVX-512: loads, conversions, exact rows and softmax. Layer 1. The set is assembled in avx512.hpp.
// Ends of rows are masked loads, which never touch memory outside the mask: no scalar tails.
#pragma once

#include "pqkv/isa/avx2_rows.hpp"

#if defined(PQKV_X86)

PQKV_TARGET_BEGIN("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")
namespace pqkv::inline PQKV_ABI::isa::avx512 {

/// A number for templates.
template <std::size_t n>
using Count = std::integral_constant<std::size_t, n>;

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

/// `vectors` × 16 columns of `queries` queries through all rows of the matrix, sums in registers; `lanes` of the last vector.
template <std::size_t queries, std::size_t vectors>
inline void product_columns(const float* matrix, std::size_t row_stride, std::size_t rows, __mmask16 lanes,
                            const float* weights, std::size_t weight_stride, float* outs, std::size_t out_stride) noexcept {
  const auto lanes_of = [=](std::size_t i) { return i + 1 == vectors ? lanes : static_cast<__mmask16>(0xffff); };
  __m512 sums_f32x16[queries][vectors];
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    PQKV_UNROLL for (std::size_t i = 0; i < vectors; ++i) sums_f32x16[q][i] = load16(outs + q * out_stride + i * 16, lanes_of(i));
  }
  for (std::size_t r = 0; r < rows; ++r) {
    __m512 weights_f32x16[queries];
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) weights_f32x16[q] = _mm512_set1_ps(weights[q * weight_stride + r]);
    PQKV_UNROLL for (std::size_t i = 0; i < vectors; ++i) {
      const __m512 row_f32x16 = load16(matrix + r * row_stride + i * 16, lanes_of(i));
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        sums_f32x16[q][i] = _mm512_fmadd_ps(row_f32x16, weights_f32x16[q], sums_f32x16[q][i]);
      }
    }
  }
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    PQKV_UNROLL for (std::size_t i = 0; i < vectors; ++i) {
      _mm512_mask_storeu_ps(outs + q * out_stride + i * 16, lanes_of(i), sums_f32x16[q][i]);
    }
  }
}

/// All columns of `queries` queries. One vector of two queries takes as long as four: fewer than eight sums wait for the
/// additions. So columns are dealt evenly to as few passes of up to `most` vectors as will do.
template <std::size_t queries>
inline void product_queries(const float* matrix, std::size_t row_stride, std::size_t rows, std::size_t columns,
                            const float* weights, std::size_t weight_stride, float* outs, std::size_t out_stride) noexcept {
  constexpr std::size_t most = queries == 1 ? 8 : queries == 2 ? 6 : 4;
  std::size_t left = (columns + 15) / 16;
  for (std::size_t passes = (left + most - 1) / most; passes > 0; --passes) {
    const std::size_t vectors = (left + passes - 1) / passes;
    const __mmask16 lanes = first_lanes(columns - (vectors - 1) * 16);
    const auto go = [&]<std::size_t count>(Count<count>) {
      product_columns<queries, count>(matrix, row_stride, rows, lanes, weights, weight_stride, outs, out_stride);
    };
    switch (vectors) {
      case 1: go(Count<1>{}); break;
      case 2: go(Count<2>{}); break;
      case 3: go(Count<3>{}); break;
      case 4: go(Count<4>{}); break;
      case 5: if constexpr (most > 4) go(Count<5>{}); break;
      case 6: if constexpr (most > 4) go(Count<6>{}); break;
      case 7: if constexpr (most > 6) go(Count<7>{}); break;
      default: if constexpr (most > 6) go(Count<8>{}); break;
    }
    matrix += vectors * 16;
    outs += vectors * 16;
    columns -= std::min(columns, vectors * 16);
    left -= vectors;
  }
}

inline void product_f32(const float* matrix, std::size_t row_stride, std::size_t rows, std::size_t columns,
                        const float* weights, std::size_t weight_stride, std::size_t query_count, float* outs,
                        std::size_t out_stride) noexcept {
  const auto go = [&]<std::size_t count>(Count<count>, std::size_t q) {
    product_queries<count>(matrix, row_stride, rows, columns, weights + q * weight_stride, weight_stride, outs + q * out_stride,
                           out_stride);
  };
  std::size_t q = 0;
  for (; q + 4 <= query_count; q += 4) go(Count<4>{}, q);
  for (; q + 2 <= query_count; q += 2) go(Count<2>{}, q);
  if (q < query_count) go(Count<1>{}, q);
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
  __m512 most_f32x16[4];  // four, because a maximum takes four cycles
  PQKV_UNROLL for (std::size_t j = 0; j < 4; ++j) most_f32x16[j] = _mm512_set1_ps(x[0]);
  std::size_t i = 0;
  for (; i + 64 <= count; i += 64) {
    PQKV_UNROLL for (std::size_t j = 0; j < 4; ++j) {
      most_f32x16[j] = _mm512_maskz_max_ps(0xffff, most_f32x16[j], load16(x + i + j * 16, 0xffff));
    }
  }
  for (; i < count; i += 16) {
    const __mmask16 lanes = first_lanes(count - i);
    most_f32x16[0] = _mm512_mask_max_ps(most_f32x16[0], lanes, most_f32x16[0], load16(x + i, lanes));
  }
  return maximum_of(_mm512_maskz_max_ps(0xffff, _mm512_maskz_max_ps(0xffff, most_f32x16[0], most_f32x16[1]),
                                        _mm512_maskz_max_ps(0xffff, most_f32x16[2], most_f32x16[3])));
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

inline void mass_bounds(const float* x, std::size_t block_count, float shift, float* bounds) noexcept {
  const __m512 shift_f32x16 = _mm512_set1_ps(shift), unit = _mm512_set1_ps(scalar::exponent_unit);
  const __m512 slope = _mm512_set1_ps(scalar::exponent_slope), start = _mm512_set1_ps(scalar::exponent_start);
  for (std::size_t b = 0; b < block_count; ++b) {
    __m512 halves_f32x16[2];
    PQKV_UNROLL for (std::size_t i = 0; i < 2; ++i) {
      const __m512 bits = _mm512_fmadd_ps(_mm512_sub_ps(load16(x + b * 32 + i * 16, 0xffff), shift_f32x16), slope, start);
      const __mmask16 counts = _mm512_cmp_ps_mask(bits, unit, _CMP_GE_OQ);
      halves_f32x16[i] = _mm512_castsi512_ps(_mm512_maskz_cvttps_epi32(counts, bits));
    }
    bounds[b] = sum_of(_mm512_add_ps(halves_f32x16[0], halves_f32x16[1]));
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::avx512
PQKV_TARGET_END

#endif
