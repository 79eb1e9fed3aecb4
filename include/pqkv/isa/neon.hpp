// NEON kernels: every AArch64 since ARMv8.0, so the whole file is baseline code. Layer 1.
//
//   instruction         leaned on for
//   TBL                 pq4: a table of 16 bytes looked up 16 times at once
//   UADDW, UADDW2       pq4: bytes added into 16-bit sums without unpacking
//   FMLA, FMLS          exact rows, query tables, distances, the exponential's polynomial
//   FCVTL, FCVTN        f16 rows and scales; FCVTN rounds to nearest, ties to even
//   SMLAL, SMLAL2       integer values: 16-bit codes × 15-bit weights into 32-bit sums
//   UZP, ZIP            integer values: weights into the order of the codes
//   FCVTNS              15-bit weights, ties to even as the specification's nearbyint; n of 2ⁿ in the exponential
//   LDR q               pq8: the entries of four queries by one load
//
// Streams are left to the hardware's prefetchers.
#pragma once

#include "pqkv/base/config.hpp"

#if defined(PQKV_ARM64)
#include <arm_neon.h>

#include <cstring>
#include <limits>
#include <type_traits>

#include "pqkv/isa/scalar.hpp"
#include "pqkv/isa/target.hpp"

namespace pqkv::inline PQKV_ABI::isa::neon {

// Loaded as bytes, which may alias the structs and lie in blocks of std::byte.
inline uint16x4_t load_halves(const void* x) noexcept {
  return vreinterpret_u16_u8(vld1_u8(static_cast<const std::uint8_t*>(x)));
}
inline float32x4_t load4(const float* x) noexcept { return vld1q_f32(x); }
inline float32x4_t load4(const f16* x) noexcept { return vcvt_f32_f16(vreinterpret_f16_u16(load_halves(x))); }
inline float32x4_t load4(const bf16* x) noexcept {
  return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(load_halves(x)), 16));
}
inline void store_halves(void* x, uint16x4_t first, uint16x4_t second) noexcept {
  vst1q_u8(static_cast<std::uint8_t*>(x), vreinterpretq_u8_u16(vcombine_u16(first, second)));
}

/// tile(integral_constant n, q) for the n queries from q: fours first, so that what a tile reads and unpacks is shared.
template <class Tile>
inline void for_query_groups(std::size_t query_count, const Tile& tile) noexcept {
  std::size_t q = 0;
  for (; q + 4 <= query_count; q += 4) tile(std::integral_constant<std::size_t, 4>{}, q);
  if (q + 2 <= query_count) {
    tile(std::integral_constant<std::size_t, 2>{}, q);
    q += 2;
  }
  if (q < query_count) tile(std::integral_constant<std::size_t, 1>{}, q);
}

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
  const uint32x4_t nan = vcgtq_u32(vandq_u32(bits, vdupq_n_u32(0x7fffffff)), vdupq_n_u32(0x7f800000));
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));  // rounding could carry a NaN into infinity
  return vshrn_n_u32(vbslq_u32(nan, quiet, rounded), 16);
}

inline void f32_to_f16(const float* in, std::size_t count, f16* out) noexcept {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) store_halves(out + i, f16_of(vld1q_f32(in + i)), f16_of(vld1q_f32(in + i + 4)));
  for (; i < count; ++i) out[i] = to_f16(in[i]);
}

inline void f32_to_bf16(const float* in, std::size_t count, bf16* out) noexcept {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) store_halves(out + i, bf16_of(vld1q_f32(in + i)), bf16_of(vld1q_f32(in + i + 4)));
  for (; i < count; ++i) out[i] = to_bf16(in[i]);
}

// ---- exact rows --------------------------------------------------------------------------------------------------

/// `count` rows × `queries` queries.
template <std::size_t count, std::size_t queries, class T>
inline void dot_tile(const T* rows, std::size_t dim, const float* query, float* scores, std::size_t stride) noexcept {
  constexpr std::size_t parts = queries == 1 ? 2 : 1;  // a lone query has too few sums to hide the latency of FMLA
  float32x4_t sums_f32x4[parts][count][queries];
  PQKV_UNROLL for (std::size_t p = 0; p < parts; ++p) {
    PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) sums_f32x4[p][r][q] = vdupq_n_f32(0);
    }
  }
  std::size_t d = 0;
  for (; d + 4 * parts <= dim; d += 4 * parts) {
    PQKV_UNROLL for (std::size_t p = 0; p < parts; ++p) {
      float32x4_t query_f32x4[queries];
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) query_f32x4[q] = vld1q_f32(query + q * dim + d + p * 4);
      PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
        const float32x4_t row_f32x4 = load4(rows + r * dim + d + p * 4);
        PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
          sums_f32x4[p][r][q] = vfmaq_f32(sums_f32x4[p][r][q], row_f32x4, query_f32x4[q]);
        }
      }
    }
  }
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
      float32x4_t sum_f32x4 = sums_f32x4[0][r][q];
      if constexpr (parts == 2) sum_f32x4 = vaddq_f32(sum_f32x4, sums_f32x4[1][r][q]);
      float sum = vaddvq_f32(sum_f32x4);
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
    for_query_groups(query_count, [=](auto group, std::size_t q) {
      dot_tile<4, group>(rows + t * dim, dim, queries + q * dim, scores + q * stride + t, stride);
    });
  }
  for (; t < tokens; ++t) {
    for_query_groups(query_count, [=](auto group, std::size_t q) {
      dot_tile<1, group>(rows + t * dim, dim, queries + q * dim, scores + q * stride + t, stride);
    });
  }
}

/// `count` rows into the sums of `queries` queries.
template <std::size_t count, std::size_t queries, class T>
inline void accumulate_tile(const T* rows, std::size_t dim, const float* weights, std::size_t stride,
                            float* outs) noexcept {
  float32x4_t weights_f32x4[count][queries];
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) weights_f32x4[r][q] = vdupq_n_f32(weights[q * stride + r]);
  }
  std::size_t d = 0;
  for (; d + 4 <= dim; d += 4) {
    float32x4_t sums_f32x4[queries];
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) sums_f32x4[q] = vld1q_f32(outs + q * dim + d);
    PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
      const float32x4_t row_f32x4 = load4(rows + r * dim + d);
      PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
        sums_f32x4[q] = vfmaq_f32(sums_f32x4[q], row_f32x4, weights_f32x4[r][q]);
      }
    }
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) vst1q_f32(outs + q * dim + d, sums_f32x4[q]);
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
    for_query_groups(query_count, [=](auto group, std::size_t q) {
      accumulate_tile<4, group>(rows + t * dim, dim, weights + q * stride + t, stride, outs + q * dim);
    });
  }
  for (; t < tokens; ++t) {
    for_query_groups(query_count, [=](auto group, std::size_t q) {
      accumulate_tile<1, group>(rows + t * dim, dim, weights + q * stride + t, stride, outs + q * dim);
    });
  }
}

// ---- product quantisation ----------------------------------------------------------------------------------------

inline void centroid_dots(const float* query, std::size_t width, const float* centroids, std::size_t count,
                          float* table) noexcept {
  for (std::size_t c = 0; c < count; c += 16) {
    float32x4_t sums_f32x4[4];
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) sums_f32x4[i] = vdupq_n_f32(0);
    for (std::size_t d = 0; d < width; ++d) {
      const float32x4_t x = vdupq_n_f32(query[d]);
      PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
        sums_f32x4[i] = vfmaq_f32(sums_f32x4[i], vld1q_f32(centroids + d * count + c + i * 4), x);
      }
    }
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) vst1q_f32(table + c + i * 4, sums_f32x4[i]);
  }
}

inline void centroid_sum(const float* buckets, std::size_t width, const float* centroids, std::size_t count,
                         float* row) noexcept {
  for (std::size_t d = 0; d < width; ++d) {
    float32x4_t sums_f32x4[4];
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) sums_f32x4[i] = vdupq_n_f32(0);
    for (std::size_t c = 0; c < count; c += 16) {
      PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
        sums_f32x4[i] = vfmaq_f32(sums_f32x4[i], vld1q_f32(buckets + c + i * 4),
                                  vld1q_f32(centroids + d * count + c + i * 4));
      }
    }
    row[d] += vaddvq_f32(vaddq_f32(vaddq_f32(sums_f32x4[0], sums_f32x4[1]), vaddq_f32(sums_f32x4[2], sums_f32x4[3])));
  }
}

/// `count` rows at once, so that each centroid is loaded once for all of them.
template <std::size_t count>
inline void nearest_tile(const float* rows, std::size_t stride, std::size_t width, const float* centroids,
                         const float* half_norms, std::size_t centroid_count, std::uint8_t* codes) noexcept {
  const std::uint32_t lanes[4] = {0, 1, 2, 3};
  uint32x4_t index_u32x4 = vld1q_u32(lanes);
  float32x4_t best_f32x4[count];
  uint32x4_t nearest_u32x4[count];
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
    best_f32x4[r] = vdupq_n_f32(std::numeric_limits<float>::infinity());
    nearest_u32x4[r] = vdupq_n_u32(0);
  }
  for (std::size_t c = 0; c < centroid_count; c += 8) {
    float32x4_t distance_f32x4[2][count];
    PQKV_UNROLL for (std::size_t i = 0; i < 2; ++i) {
      PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) distance_f32x4[i][r] = vld1q_f32(half_norms + c + i * 4);
    }
    for (std::size_t d = 0; d < width; ++d) {
      const float* centroid = centroids + d * centroid_count + c;
      const float32x4_t first_f32x4 = vld1q_f32(centroid);
      const float32x4_t second_f32x4 = vld1q_f32(centroid + 4);
      PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
        const float32x4_t x = vdupq_n_f32(rows[r * stride + d]);
        distance_f32x4[0][r] = vfmsq_f32(distance_f32x4[0][r], first_f32x4, x);
        distance_f32x4[1][r] = vfmsq_f32(distance_f32x4[1][r], second_f32x4, x);
      }
    }
    PQKV_UNROLL for (std::size_t i = 0; i < 2; ++i) {
      PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {
        const uint32x4_t closer = vcltq_f32(distance_f32x4[i][r], best_f32x4[r]);
        best_f32x4[r] = vbslq_f32(closer, distance_f32x4[i][r], best_f32x4[r]);
        nearest_u32x4[r] = vbslq_u32(closer, index_u32x4, nearest_u32x4[r]);
      }
      index_u32x4 = vaddq_u32(index_u32x4, vdupq_n_u32(4));
    }
  }
  PQKV_UNROLL for (std::size_t r = 0; r < count; ++r) {  // among lanes of the least distance, the least index
    const uint32x4_t farther = vcgtq_f32(best_f32x4[r], vdupq_n_f32(vminvq_f32(best_f32x4[r])));
    codes[r] = static_cast<std::uint8_t>(vminvq_u32(vorrq_u32(nearest_u32x4[r], farther)));
  }
}

inline void nearest_centroid(const float* rows, std::size_t row_count, std::size_t stride, std::size_t width,
                             const float* centroids, const float* half_norms, std::size_t count,
                             std::uint8_t* codes) noexcept {
  for_query_groups(row_count, [=](auto group, std::size_t r) {
    nearest_tile<group>(rows + r * stride, stride, width, centroids, half_norms, count, codes + r);
  });
}

/// One block for `queries` queries.
template <std::size_t queries>
inline void pq4_block(const std::uint8_t* block, std::size_t subspaces, const std::uint8_t* tables, const float* scale,
                      const float* bias, float* scores, std::size_t stride) noexcept {
  uint16x8_t sums_u16x8[queries][4];  // 8 tokens each
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) sums_u16x8[q][i] = vdupq_n_u16(0);
  }
  for (std::size_t s = 0; s < subspaces; ++s) {
    const uint8x16_t codes_u8x16 = vld1q_u8(block + s * 16);
    const uint8x16_t low_u8x16 = vandq_u8(codes_u8x16, vdupq_n_u8(15));
    const uint8x16_t high_u8x16 = vshrq_n_u8(codes_u8x16, 4);
    PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
      const uint8x16_t table_u8x16 = vld1q_u8(tables + (q * subspaces + s) * 16);
      const uint8x16_t first_u8x16 = vqtbl1q_u8(table_u8x16, low_u8x16);
      const uint8x16_t second_u8x16 = vqtbl1q_u8(table_u8x16, high_u8x16);
      sums_u16x8[q][0] = vaddw_u8(sums_u16x8[q][0], vget_low_u8(first_u8x16));
      sums_u16x8[q][1] = vaddw_high_u8(sums_u16x8[q][1], first_u8x16);
      sums_u16x8[q][2] = vaddw_u8(sums_u16x8[q][2], vget_low_u8(second_u8x16));
      sums_u16x8[q][3] = vaddw_high_u8(sums_u16x8[q][3], second_u8x16);
    }
  }
  PQKV_UNROLL for (std::size_t q = 0; q < queries; ++q) {
    const float32x4_t scale_f32x4 = vdupq_n_f32(scale[q]);
    const float32x4_t bias_f32x4 = vdupq_n_f32(bias[q]);
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
      float* out = scores + q * stride + i * 8;
      const float32x4_t low_f32x4 = vcvtq_f32_u32(vmovl_u16(vget_low_u16(sums_u16x8[q][i])));
      const float32x4_t high_f32x4 = vcvtq_f32_u32(vmovl_high_u16(sums_u16x8[q][i]));
      // Two operations, not FMLA: fused or not as the compiler's options have it for the specification.
      vst1q_f32(out, vaddq_f32(vmulq_f32(scale_f32x4, low_f32x4), bias_f32x4));
      vst1q_f32(out + 4, vaddq_f32(vmulq_f32(scale_f32x4, high_f32x4), bias_f32x4));
    }
  }
}

inline void pq4_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                      const std::uint8_t* tables, std::size_t query_count, const float* scale, const float* bias,
                      float* scores, std::size_t stride) noexcept {
  for (std::size_t b = 0; b < block_count; ++b) {
    for_query_groups(query_count, [=](auto group, std::size_t q) {
      pq4_block<group>(blocks + b * 16 * subspaces, subspaces, tables + q * subspaces * 16, scale + q, bias + q,
                       scores + q * stride + b * 32, stride);
    });
  }
}
