// NEON kernels: every AArch64 since ARMv8.0, so the whole file is baseline code. Layer 1.
//
//   instruction     leaned on for
//   TBL, UADDW      pq4, pq6: a table of 16 or 64 bytes looked up 16 times at once, the bytes added into 16-bit sums
//   LDR, ST4        pq8: the entries of four queries by one load, tokens' sums into rows of queries
//   FMLA, FMLS      exact rows, query tables, distances, the exponential's polynomial
//   FCVTL, FCVTN    f16 rows and scales; to nearest, ties to even
//   UMLAL           4-bit and 2-bit values: bytes of weights × codes into 16-bit sums
//   SMLAL           8-bit values: 16-bit codes × 15-bit weights into 32-bit sums
//   FCVTNS, UZP     quantised weights: ties to even as the specification's nearbyint; 15-bit ones into the codes' order
#pragma once

#include "pqkv/base/config.hpp"

#if defined(PQKV_ARM64)
#include "pqkv/isa/neon_integers.hpp"
#include "pqkv/isa/neon_levels.hpp"
#include "pqkv/isa/neon_nearest.hpp"

namespace pqkv::inline PQKV_ABI::isa::neon {

// ---- conversions -------------------------------------------------------------------------------------------------
template <class T>
inline void to_f32(const T* in, std::size_t count, float* out) noexcept {
  std::size_t i = 0;
  for (; i + 4 <= count; i += 4) vst1q_f32(out + i, load4(in + i));
  for (; i < count; ++i) out[i] = to_float(in[i]);
}

inline uint16x4_t f16_of(float32x4_t x) noexcept { return vreinterpret_u16_f16(vcvt_f16_f32(x)); }
inline uint16x4_t bf16_of(float32x4_t x) noexcept {
  const uint32x4_t bits = vreinterpretq_u32_f32(x);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));  // rounding could carry a NaN into infinity
  return vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), rounded, quiet), 16);
}

template <class T, uint16x4_t (*four)(float32x4_t) noexcept, T (*one)(float) noexcept>
inline void from_f32(const float* in, std::size_t count, T* out) noexcept {
  std::size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    vst1_u8(reinterpret_cast<std::uint8_t*>(out + i), vreinterpret_u8_u16(four(vld1q_f32(in + i))));
  }
  for (; i < count; ++i) out[i] = one(in[i]);
}

// ---- exact rows: tiles of up to 4 rows × 4 queries; scalar where vectors of 4 do not divide a row ----------------
template <class T>
inline void dot(const T* rows, std::size_t tokens, std::size_t dim, const float* queries, std::size_t query_count,
                float* scores, std::size_t stride) noexcept {
  if (dim % 4 != 0) return scalar::dot(rows, tokens, dim, queries, query_count, scores, stride);
  for_each_tile(tokens, [=]<std::size_t height>(Count<height>, std::size_t t) {
    for_each_tile(query_count, [=]<std::size_t width>(Count<width>, std::size_t first) {
      const T* row = rows + t * dim;
      const float* query = queries + first * dim;
      float32x4_t sums_f32x4[height * width] = {};
      for (std::size_t d = 0; d < dim; d += 4, row += 4, query += 4) {
        float32x4_t rows_f32x4[height], queries_f32x4[width];
        PQKV_UNROLL for (std::size_t r = 0; r < height; ++r) rows_f32x4[r] = load4(row + r * dim);
        PQKV_UNROLL for (std::size_t q = 0; q < width; ++q) queries_f32x4[q] = vld1q_f32(query + q * dim);
        PQKV_UNROLL for (std::size_t i = 0; i < height * width; ++i) {
          sums_f32x4[i] = vfmaq_f32(sums_f32x4[i], rows_f32x4[i / width], queries_f32x4[i % width]);
        }
      }
      PQKV_UNROLL for (std::size_t i = 0; i < height * width; ++i) {
        scores[(first + i % width) * stride + t + i / width] = vaddvq_f32(sums_f32x4[i]);
      }
    });
  });
}

template <class T>
inline void accumulate(const T* rows, std::size_t tokens, std::size_t dim, const float* weights,
                       std::size_t query_count, std::size_t stride, float* outs) noexcept {
  if (dim % 4 != 0) return scalar::accumulate(rows, tokens, dim, weights, query_count, stride, outs);
  for_each_tile(tokens, [=]<std::size_t height>(Count<height>, std::size_t t) {
    for_each_tile(query_count, [=]<std::size_t width>(Count<width>, std::size_t first) {
      const T* row = rows + t * dim;
      const float* weight = weights + first * stride + t;
      float* out = outs + first * dim;
      float32x4_t weights_f32x4[height * width];
      PQKV_UNROLL for (std::size_t i = 0; i < height * width; ++i) {
        weights_f32x4[i] = vdupq_n_f32(weight[i % width * stride + i / width]);
      }
      for (std::size_t d = 0; d < dim; d += 4, row += 4, out += 4) {
        float32x4_t rows_f32x4[height], sums_f32x4[width];
        PQKV_UNROLL for (std::size_t r = 0; r < height; ++r) rows_f32x4[r] = load4(row + r * dim);
        PQKV_UNROLL for (std::size_t q = 0; q < width; ++q) sums_f32x4[q] = vld1q_f32(out + q * dim);
        PQKV_UNROLL for (std::size_t i = 0; i < height * width; ++i) {
          sums_f32x4[i % width] = vfmaq_f32(sums_f32x4[i % width], rows_f32x4[i / width], weights_f32x4[i]);
        }
        PQKV_UNROLL for (std::size_t q = 0; q < width; ++q) vst1q_f32(out + q * dim, sums_f32x4[q]);
      }
    });
  });
}

/// 16 columns of up to four queries through all rows of the matrix, sums in registers.
inline void product_f32(const float* matrix, std::size_t row_stride, std::size_t rows, std::size_t columns,
                        const float* weights, std::size_t weight_stride, std::size_t query_count, float* outs,
                        std::size_t out_stride) noexcept {
  for_each_tile(query_count, [=]<std::size_t queries>(Count<queries>, std::size_t first) {
    const float* weight = weights + first * weight_stride;
    for_each_tile(columns / 4, [=]<std::size_t vectors>(Count<vectors>, std::size_t at) {
      const float* row = matrix + at * 4;
      float* out = outs + first * out_stride + at * 4;
      float32x4_t sums_f32x4[queries * vectors];
      PQKV_UNROLL for (std::size_t i = 0; i < queries * vectors; ++i) {
        sums_f32x4[i] = vld1q_f32(out + i / vectors * out_stride + i % vectors * 4);
      }
      for (std::size_t r = 0; r < rows; ++r, row += row_stride) {
        float32x4_t rows_f32x4[vectors];
        PQKV_UNROLL for (std::size_t i = 0; i < vectors; ++i) rows_f32x4[i] = vld1q_f32(row + i * 4);
        PQKV_UNROLL for (std::size_t i = 0; i < queries * vectors; ++i) {
          sums_f32x4[i] = vfmaq_n_f32(sums_f32x4[i], rows_f32x4[i % vectors], weight[i / vectors * weight_stride + r]);
        }
      }
      PQKV_UNROLL for (std::size_t i = 0; i < queries * vectors; ++i) {
        vst1q_f32(out + i / vectors * out_stride + i % vectors * 4, sums_f32x4[i]);
      }
    });
  });
  const std::size_t done = columns / 4 * 4;
  if (done < columns) {
    scalar::product_f32(matrix + done, row_stride, rows, columns - done, weights, weight_stride, query_count, outs + done,
                        out_stride);
  }
}

// ---- product quantisation: to centroids of one subspace, dimensions are rows --------------------------------------
inline void centroid_dots(const float* query, std::size_t subspaces, std::size_t width, const float* centroids,
                          const float* gains, std::size_t count, float* table) noexcept {
  std::fill_n(table, subspaces * count, 0.0f);
  for (std::size_t s = 0; s < subspaces; ++s, query += width, table += count) {
    product_f32(centroids + s * width * count, count, width, count, query, width, 1, table, count);
    if (gains == nullptr) continue;
    float square = 0;
    for (std::size_t d = 0; d < width; ++d) square += query[d] * query[d];
    product_f32(gains + s * count, count, 1, count, &square, 1, 1, table, count);
  }
}

inline void centroid_sum(const float* buckets, std::size_t width, const float* centroids, std::size_t count,
                         float* row) noexcept {
  for_each_tile(width, [=]<std::size_t height>(Count<height>, std::size_t d) {
    float sums[height];
    dot(centroids + d * count, height, count, buckets, 1, sums, height);
    for (std::size_t i = 0; i < height; ++i) row[d + i] += sums[i];
  });
}

/// Scores of 32 tokens for each of `width` queries from four sums of 8.
template <std::size_t width>
inline void store_sums(const uint16x8_t* sums_u16x8, const float* scale, const float* bias, float* scores,
                       std::size_t stride) noexcept {
  PQKV_UNROLL for (std::size_t i = 0; i < width * 4; ++i) {
    float* out = scores + i / 4 * stride + i % 4 * 8;
    const float32x4_t lower_f32x4 = vcvtq_f32_u32(vmovl_u16(vget_low_u16(sums_u16x8[i])));
    const float32x4_t upper_f32x4 = vcvtq_f32_u32(vmovl_high_u16(sums_u16x8[i]));
    // No explicit FMLA: the compiler's options decide on fusing, as they do for the specification.
    vst1q_f32(out, vaddq_f32(vmulq_n_f32(lower_f32x4, scale[i / 4]), vdupq_n_f32(bias[i / 4])));
    vst1q_f32(out + 4, vaddq_f32(vmulq_n_f32(upper_f32x4, scale[i / 4]), vdupq_n_f32(bias[i / 4])));
  }
}

inline void pq4_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                      const std::uint8_t* tables, std::size_t query_count, const float* scale, const float* bias,
                      float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  for (std::size_t b = 0; b < block_count; ++b) {
    ask_ahead(blocks + b * subspaces * 16, subspaces * 16, ahead);
    for_each_tile(query_count, [=]<std::size_t width>(Count<width>, std::size_t first) {
      uint16x8_t sums_u16x8[width * 4] = {};  // four of 8 tokens per query
      for (std::size_t s = 0; s < subspaces; ++s) {
        const uint8x16_t codes_u8x16 = vld1q_u8(blocks + (b * subspaces + s) * 16);
        const uint8x16_t nibbles_u8x16[] = {vandq_u8(codes_u8x16, vdupq_n_u8(15)), vshrq_n_u8(codes_u8x16, 4)};
        PQKV_UNROLL for (std::size_t i = 0; i < width * 2; ++i) {
          const uint8x16_t table_u8x16 = vld1q_u8(tables + ((first + i / 2) * subspaces + s) * 16);
          const uint8x16_t entries_u8x16 = vqtbl1q_u8(table_u8x16, nibbles_u8x16[i % 2]);
          sums_u16x8[i * 2] = vaddw_u8(sums_u16x8[i * 2], vget_low_u8(entries_u8x16));
          sums_u16x8[i * 2 + 1] = vaddw_high_u8(sums_u16x8[i * 2 + 1], entries_u8x16);
        }
      }
      store_sums<width>(sums_u16x8, scale + first, bias + first, scores + first * stride + b * 32, stride);
    });
  }
}

/// 6-bit codes: TBL over four registers looks 64 entries up.
inline void pq6_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                      const std::uint8_t* tables, std::size_t query_count, const float* scale, const float* bias,
                      float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  for (std::size_t b = 0; b < block_count; ++b) {
    ask_ahead(blocks + b * subspaces * 24, subspaces * 24, ahead);
    for_each_tile(query_count, [=]<std::size_t width>(Count<width>, std::size_t first) {
      uint16x8_t sums_u16x8[width * 4] = {};  // four of 8 tokens per query
      for (std::size_t s = 0; s < subspaces; ++s) {
        const std::uint8_t* codes = blocks + (b * subspaces + s) * 24;
        const uint8x16_t pairs_u8x16 = vld1q_u8(codes);
        const uint8x8_t upper_u8x8 = vld1_u8(codes + 16);  // shifted so that two bits become bits 4 and 5
        const uint8x16_t upper_u8x16[] = {vcombine_u8(vshl_n_u8(upper_u8x8, 4), vshl_n_u8(upper_u8x8, 2)),
                                          vcombine_u8(upper_u8x8, vshr_n_u8(upper_u8x8, 2))};
        const uint8x16_t nibbles_u8x16[] = {vandq_u8(pairs_u8x16, vdupq_n_u8(15)), vshrq_n_u8(pairs_u8x16, 4)};
        PQKV_UNROLL for (std::size_t i = 0; i < width * 2; ++i) {
          const uint8x16_t codes_u8x16 =
              vorrq_u8(nibbles_u8x16[i % 2], vandq_u8(upper_u8x16[i % 2], vdupq_n_u8(0x30)));
          const uint8x16x4_t table_u8x64 = vld1q_u8_x4(tables + ((first + i / 2) * subspaces + s) * 64);
          const uint8x16_t entries_u8x16 = vqtbl4q_u8(table_u8x64, codes_u8x16);
          sums_u16x8[i * 2] = vaddw_u8(sums_u16x8[i * 2], vget_low_u8(entries_u8x16));
          sums_u16x8[i * 2 + 1] = vaddw_high_u8(sums_u16x8[i * 2 + 1], entries_u8x16);
        }
      }
      store_sums<width>(sums_u16x8, scale + first, bias + first, scores + first * stride + b * 32, stride);
    });
  }
}

inline void pq8_score4(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* table,
                       float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  for (std::size_t octet = 0; octet < block_count * 4; ++octet) {
    const std::uint8_t* codes = blocks + octet * 8 * subspaces;
    ask_ahead(codes, 8 * subspaces, ahead);
    float32x4_t sums_f32x4[8] = {};  // per token, a lane per query
    for (const float* entries = table; entries != table + subspaces * 1024; entries += 1024, codes += 8) {
      PQKV_UNROLL for (std::size_t t = 0; t < 8; ++t) {
        sums_f32x4[t] = vaddq_f32(sums_f32x4[t], vld1q_f32(entries + codes[t] * 4u));
      }
    }
    PQKV_UNROLL for (std::size_t t = 0; t < 8; t += 4) {
      const float32x4x4_t four = {{sums_f32x4[t], sums_f32x4[t + 1], sums_f32x4[t + 2], sums_f32x4[t + 3]}};
      float transposed[16];
      vst4q_f32(transposed, four);
      PQKV_UNROLL for (std::size_t q = 0; q < 4; ++q) {
        vst1q_f32(scores + q * stride + octet * 8 + t, vld1q_f32(transposed + q * 4));
      }
    }
  }
}

// ---- softmax -----------------------------------------------------------------------------------------------------
inline float maximum(const float* x, std::size_t count) noexcept {
  if (count < 4) return scalar::maximum(x, count);
  float32x4_t most_f32x4 = vld1q_f32(x + count - 4);
  for (std::size_t i = 0; i + 4 <= count; i += 4) most_f32x4 = vmaxq_f32(most_f32x4, vld1q_f32(x + i));
  return vmaxvq_f32(most_f32x4);
}

/// exp of x ≤ 0: 2ⁿ·e^r with n the nearest integer to x/ln 2, |r| ≤ ln 2 / 2, and a Taylor polynomial of degree 7 for
/// e^r (its remainder is below 1e-8); 0 below −87.33, where the result would be subnormal.
inline float32x4_t exponential_of(float32x4_t x) noexcept {
  constexpr float coefficients[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  const float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 1.44269504f));
  // ln 2 in two parts: the first has trailing zeros, so that n times it is exact.
  const float32x4_t r = vfmsq_n_f32(vfmsq_n_f32(x, n, 0.693359375f), n, -2.12194440e-4f);
  float32x4_t sum = vdupq_n_f32(1.0f / 5040);
  PQKV_UNROLL for (const float coefficient : coefficients) sum = vfmaq_f32(vdupq_n_f32(coefficient), sum, r);
  const int32x4_t power = vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23);
  const uint32x4_t bits = vreinterpretq_u32_f32(vmulq_f32(sum, vreinterpretq_f32_s32(power)));
  return vreinterpretq_f32_u32(vbicq_u32(bits, vcltq_f32(x, vdupq_n_f32(-87.33f))));
}

inline float exponential(float* x, std::size_t count, float shift) noexcept {
  float32x4_t sum_f32x4 = vdupq_n_f32(0);
  std::size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const float32x4_t y = exponential_of(vsubq_f32(vld1q_f32(x + i), vdupq_n_f32(shift)));
    vst1q_f32(x + i, y);
    sum_f32x4 = vaddq_f32(sum_f32x4, y);
  }
  return vaddvq_f32(sum_f32x4) + scalar::exponential(x + i, count - i, shift);
}

inline void mass_bounds(const float* x, std::size_t block_count, float shift, float* bounds) noexcept {
  for (std::size_t b = 0; b < block_count; ++b) {
    float32x4_t sum_f32x4 = vdupq_n_f32(0);
    PQKV_UNROLL for (std::size_t i = 0; i < 32; i += 4) {
      const float32x4_t x_f32x4 = vsubq_f32(vld1q_f32(x + b * 32 + i), vdupq_n_f32(shift));
      const float32x4_t bits = vfmaq_n_f32(vdupq_n_f32(scalar::exponent_start), x_f32x4, scalar::exponent_slope);
      const uint32x4_t counts = vcgeq_f32(bits, vdupq_n_f32(scalar::exponent_unit));
      sum_f32x4 = vaddq_f32(sum_f32x4, vreinterpretq_f32_u32(vandq_u32(vcvtq_u32_f32(bits), counts)));
    }
    bounds[b] = vaddvq_f32(sum_f32x4);
  }
}

/// Scalar stay: buckets, because additions to scattered addresses have no vector form; and pq8 for one query.
[[nodiscard]] consteval KernelSet make_kernels() noexcept {
  KernelSet set = scalar::kernels;
  set.name = "neon";
  set.f16_to_f32 = to_f32<f16>, set.f32_to_f16 = from_f32<f16, f16_of, to_f16>;
  set.bf16_to_f32 = to_f32<bf16>, set.f32_to_bf16 = from_f32<bf16, bf16_of, to_bf16>;
  set.dot_f32 = dot<float>, set.dot_f16 = dot<f16>, set.dot_bf16 = dot<bf16>;
  set.accumulate_f32 = accumulate<float>, set.accumulate_f16 = accumulate<f16>, set.accumulate_bf16 = accumulate<bf16>;
  set.product_f32 = product_f32;
  set.centroid_dots = centroid_dots;
  set.centroid_sum = centroid_sum;
  set.nearest_centroid = nearest_centroid;
  set.nearest_of_parts = nearest_of_parts;
  set.pq4_score = pq4_score;
  set.pq6_score = pq6_score;
  set.pq8_score4 = pq8_score4;
  set.int8_accumulate = int8_accumulate;
  set.int4_accumulate = byte_accumulate<4>;
  set.int2_accumulate = byte_accumulate<2>;
  set.levels4 = levels_of<4>, set.levels3 = levels_of<3>, set.levels2 = levels_of<2>, set.scaled_bytes = scaled_bytes;
  set.maximum = maximum;
  set.exponential = exponential;
  set.mass_bounds = mass_bounds;
  return set;
}
inline constexpr KernelSet kernels = make_kernels();

}  // namespace pqkv::inline PQKV_ABI::isa::neon

#endif
