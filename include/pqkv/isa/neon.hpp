// NEON kernels: every AArch64 since ARMv8.0, so the whole file is baseline code. Layer 1.
//
//   instruction         leaned on for
//   TBL                 pq4: a table of 16 bytes looked up 16 times at once
//   UADDW, UADDW2       pq4: bytes added into 16-bit sums without unpacking
//   FMLA, FMLS          exact rows, query tables, distances, the exponential's polynomial
//   FCVTL, FCVTN        f16 rows and scales; FCVTN rounds to nearest, ties to even
//   SMLAL, SMLAL2       integer values: 16-bit codes × 15-bit weights into 32-bit sums
//   FCVTNS              15-bit weights, ties to even as the specification's nearbyint
//   UZP, ZIP            integer values: weights into the order of the codes
//   LDR q, ST4 lane     pq8: the entries of four queries by one load, four tokens' sums of one query by one store
//
// Streams are left to the hardware's prefetchers.
#pragma once

#include "pqkv/base/config.hpp"

#if defined(PQKV_ARM64)
#include <arm_neon.h>

#include <type_traits>

#include "pqkv/isa/scalar.hpp"
#include "pqkv/isa/target.hpp"

namespace pqkv::inline PQKV_ABI::isa::neon {

// Halves are loaded and stored as bytes, which may alias everything and need no alignment.
inline uint16x4_t load_halves(const void* x) noexcept {
  return vreinterpret_u16_u8(vld1_u8(static_cast<const std::uint8_t*>(x)));
}
inline float32x4_t load4(const float* x) noexcept { return vld1q_f32(x); }
inline float32x4_t load4(const f16* x) noexcept { return vcvt_f32_f16(vreinterpret_f16_u16(load_halves(x))); }
inline float32x4_t load4(const bf16* x) noexcept {
  return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(load_halves(x)), 16));
}

/// tile(constant n, i) for the n items from i: fours first, so that what a tile loads and unpacks is shared.
template <class Tile>
inline void for_each_tile(std::size_t count, const Tile& tile) noexcept {
  std::size_t i = 0;
  for (; i + 4 <= count; i += 4) tile(std::integral_constant<std::size_t, 4>{}, i);
  for (; i + 2 <= count; i += 2) tile(std::integral_constant<std::size_t, 2>{}, i);
  for (; i < count; ++i) tile(std::integral_constant<std::size_t, 1>{}, i);
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
  const uint32x4_t nan = vmvnq_u32(vceqq_f32(x, x));
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));  // rounding could carry a NaN into infinity
  return vshrn_n_u32(vbslq_u32(nan, quiet, rounded), 16);
}

template <class T, uint16x4_t (*vector)(float32x4_t) noexcept, T (*scalar)(float) noexcept>
inline void from_f32(const float* in, std::size_t count, T* out) noexcept {
  std::size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const uint16x8_t halves = vcombine_u16(vector(vld1q_f32(in + i)), vector(vld1q_f32(in + i + 4)));
    vst1q_u8(reinterpret_cast<std::uint8_t*>(out + i), vreinterpretq_u8_u16(halves));
  }
  for (; i < count; ++i) out[i] = scalar(in[i]);
}

// ---- exact rows: tiles of 4 rows × 4 queries, item i of a tile is row i / queries and query i % queries -----------

template <class T>
inline void dot(const T* rows, std::size_t tokens, std::size_t dim, const float* queries, std::size_t query_count,
                float* scores, std::size_t stride) noexcept {
  for_each_tile(tokens, [=](auto height, std::size_t t) {
    for_each_tile(query_count, [=](auto width, std::size_t first_query) {
      const T* row = rows + t * dim;
      const float* query = queries + first_query * dim;
      float32x4_t sums_f32x4[height * width] = {};
      std::size_t d = 0;
      for (; d + 4 <= dim; d += 4) {
        float32x4_t rows_f32x4[height], queries_f32x4[width];
        PQKV_UNROLL for (std::size_t r = 0; r < height; ++r) rows_f32x4[r] = load4(row + r * dim + d);
        PQKV_UNROLL for (std::size_t q = 0; q < width; ++q) queries_f32x4[q] = vld1q_f32(query + q * dim + d);
        PQKV_UNROLL for (std::size_t i = 0; i < height * width; ++i) {
          sums_f32x4[i] = vfmaq_f32(sums_f32x4[i], rows_f32x4[i / width], queries_f32x4[i % width]);
        }
      }
      PQKV_UNROLL for (std::size_t i = 0; i < height * width; ++i) {
        const std::size_t r = i / width, q = i % width;
        float sum = vaddvq_f32(sums_f32x4[i]);
        for (std::size_t rest = d; rest < dim; ++rest) sum += to_float(row[r * dim + rest]) * query[q * dim + rest];
        scores[(first_query + q) * stride + t + r] = sum;
      }
    });
  });
}

template <class T>
inline void accumulate(const T* rows, std::size_t tokens, std::size_t dim, const float* weights,
                       std::size_t query_count, std::size_t stride, float* outs) noexcept {
  for_each_tile(tokens, [=](auto height, std::size_t t) {
    for_each_tile(query_count, [=](auto width, std::size_t first_query) {
      const T* row = rows + t * dim;
      const float* weight = weights + first_query * stride + t;
      float* out = outs + first_query * dim;
      float32x4_t weights_f32x4[height * width];
      PQKV_UNROLL for (std::size_t i = 0; i < height * width; ++i) {
        weights_f32x4[i] = vdupq_n_f32(weight[i % width * stride + i / width]);
      }
      std::size_t d = 0;
      for (; d + 4 <= dim; d += 4) {
        float32x4_t rows_f32x4[height], sums_f32x4[width];
        PQKV_UNROLL for (std::size_t r = 0; r < height; ++r) rows_f32x4[r] = load4(row + r * dim + d);
        PQKV_UNROLL for (std::size_t q = 0; q < width; ++q) sums_f32x4[q] = vld1q_f32(out + q * dim + d);
        PQKV_UNROLL for (std::size_t i = 0; i < height * width; ++i) {
          sums_f32x4[i % width] = vfmaq_f32(sums_f32x4[i % width], rows_f32x4[i / width], weights_f32x4[i]);
        }
        PQKV_UNROLL for (std::size_t q = 0; q < width; ++q) vst1q_f32(out + q * dim + d, sums_f32x4[q]);
      }
      for (std::size_t i = 0; i < height * width; ++i) {
        const std::size_t r = i / width, q = i % width;
        for (std::size_t e = d; e < dim; ++e) out[q * dim + e] += weight[q * stride + r] * to_float(row[r * dim + e]);
      }
    });
  });
}

// ---- product quantisation ----------------------------------------------------------------------------------------

inline void centroid_dots(const float* query, std::size_t width, const float* centroids, std::size_t count,
                          float* table) noexcept {
  for (std::size_t c = 0; c < count; c += 16) {
    float32x4_t sums_f32x4[4] = {};
    for (std::size_t d = 0; d < width; ++d) {
      PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
        sums_f32x4[i] = vfmaq_n_f32(sums_f32x4[i], vld1q_f32(centroids + d * count + c + i * 4), query[d]);
      }
    }
    PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) vst1q_f32(table + c + i * 4, sums_f32x4[i]);
  }
}

inline void centroid_sum(const float* buckets, std::size_t width, const float* centroids, std::size_t count,
                         float* row) noexcept {
  for (std::size_t d = 0; d < width; ++d) {
    float32x4_t sums_f32x4[4] = {};
    for (std::size_t c = 0; c < count; c += 16) {
      PQKV_UNROLL for (std::size_t i = 0; i < 4; ++i) {
        const float32x4_t centroids_f32x4 = vld1q_f32(centroids + d * count + c + i * 4);
        sums_f32x4[i] = vfmaq_f32(sums_f32x4[i], vld1q_f32(buckets + c + i * 4), centroids_f32x4);
      }
    }
    row[d] += vaddvq_f32(vaddq_f32(vaddq_f32(sums_f32x4[0], sums_f32x4[1]), vaddq_f32(sums_f32x4[2], sums_f32x4[3])));
  }
}

inline void nearest_centroid(const float* rows, std::size_t row_count, std::size_t stride, std::size_t width,
                             const float* centroids, const float* half_norms, std::size_t count,
                             std::uint8_t* codes) noexcept {
  for_each_tile(row_count, [=](auto height, std::size_t first_row) {
    constexpr std::uint32_t lanes[4] = {0, 1, 2, 3};
    uint32x4_t index_u32x4 = vld1q_u32(lanes);
    uint32x4_t nearest_u32x4[height] = {};
    float32x4_t best_f32x4[height], distance_f32x4[height];
    PQKV_UNROLL for (std::size_t r = 0; r < height; ++r) best_f32x4[r] = vdupq_n_f32(HUGE_VALF);
    for (std::size_t c = 0; c < count; c += 4) {
      PQKV_UNROLL for (std::size_t r = 0; r < height; ++r) distance_f32x4[r] = vld1q_f32(half_norms + c);
      for (std::size_t d = 0; d < width; ++d) {
        const float32x4_t centroids_f32x4 = vld1q_f32(centroids + d * count + c);
        PQKV_UNROLL for (std::size_t r = 0; r < height; ++r) {
          distance_f32x4[r] = vfmsq_n_f32(distance_f32x4[r], centroids_f32x4, rows[(first_row + r) * stride + d]);
        }
      }
      PQKV_UNROLL for (std::size_t r = 0; r < height; ++r) {
        const uint32x4_t closer = vcltq_f32(distance_f32x4[r], best_f32x4[r]);
        best_f32x4[r] = vbslq_f32(closer, distance_f32x4[r], best_f32x4[r]);
        nearest_u32x4[r] = vbslq_u32(closer, index_u32x4, nearest_u32x4[r]);
      }
      index_u32x4 = vaddq_u32(index_u32x4, vdupq_n_u32(4));
    }
    PQKV_UNROLL for (std::size_t r = 0; r < height; ++r) {  // among lanes of the least distance, the least index
      const uint32x4_t farther = vcgtq_f32(best_f32x4[r], vdupq_n_f32(vminvq_f32(best_f32x4[r])));
      codes[first_row + r] = static_cast<std::uint8_t>(vminvq_u32(vorrq_u32(nearest_u32x4[r], farther)));
    }
  });
}

inline void pq4_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                      const std::uint8_t* tables, std::size_t query_count, const float* scale, const float* bias,
                      float* scores, std::size_t stride) noexcept {
  const auto score = [=](std::size_t b, auto width, std::size_t first_query) {
    uint16x8_t sums_u16x8[width * 4] = {};  // 4 a query, of 8 tokens each
    for (std::size_t s = 0; s < subspaces; ++s) {
      const uint8x16_t codes_u8x16 = vld1q_u8(blocks + (b * subspaces + s) * 16);
      const uint8x16_t low_u8x16 = vandq_u8(codes_u8x16, vdupq_n_u8(15));
      const uint8x16_t high_u8x16 = vshrq_n_u8(codes_u8x16, 4);
      PQKV_UNROLL for (std::size_t q = 0; q < width; ++q) {
        const uint8x16_t table_u8x16 = vld1q_u8(tables + ((first_query + q) * subspaces + s) * 16);
        const uint8x16_t first_u8x16 = vqtbl1q_u8(table_u8x16, low_u8x16);
        const uint8x16_t second_u8x16 = vqtbl1q_u8(table_u8x16, high_u8x16);
        sums_u16x8[q * 4] = vaddw_u8(sums_u16x8[q * 4], vget_low_u8(first_u8x16));
        sums_u16x8[q * 4 + 1] = vaddw_high_u8(sums_u16x8[q * 4 + 1], first_u8x16);
        sums_u16x8[q * 4 + 2] = vaddw_u8(sums_u16x8[q * 4 + 2], vget_low_u8(second_u8x16));
        sums_u16x8[q * 4 + 3] = vaddw_high_u8(sums_u16x8[q * 4 + 3], second_u8x16);
      }
    }
    PQKV_UNROLL for (std::size_t i = 0; i < width * 4; ++i) {
      const std::size_t q = first_query + i / 4;
      float* out = scores + q * stride + b * 32 + i % 4 * 8;
      const float32x4_t first_f32x4 = vcvtq_f32_u32(vmovl_u16(vget_low_u16(sums_u16x8[i])));
      const float32x4_t second_f32x4 = vcvtq_f32_u32(vmovl_high_u16(sums_u16x8[i]));
      // Two operations, no explicit FMLA: the compiler's options decide on fusing, as they do for the specification.
      vst1q_f32(out, vaddq_f32(vmulq_n_f32(first_f32x4, scale[q]), vdupq_n_f32(bias[q])));
      vst1q_f32(out + 4, vaddq_f32(vmulq_n_f32(second_f32x4, scale[q]), vdupq_n_f32(bias[q])));
    }
  };
  for (std::size_t b = 0; b < block_count; ++b) {
    for_each_tile(query_count, [&](auto width, std::size_t q) { score(b, width, q); });
  }
}

inline void pq8_score4(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* table,
                       float* scores, std::size_t stride) noexcept {
  for (std::size_t octet = 0; octet < block_count * 4; ++octet) {
    const std::uint8_t* codes = blocks + octet * 8 * subspaces;
    float32x4_t sums_f32x4[8] = {};  // per token, a lane per query
    for (std::size_t s = 0; s < subspaces; ++s) {
      PQKV_UNROLL for (std::size_t t = 0; t < 8; ++t) {
        sums_f32x4[t] = vaddq_f32(sums_f32x4[t], vld1q_f32(table + (s * 256 + codes[s * 8 + t]) * 4));
      }
    }
    PQKV_UNROLL for (std::size_t t = 0; t < 8; t += 4) {
      const float32x4x4_t four = {{sums_f32x4[t], sums_f32x4[t + 1], sums_f32x4[t + 2], sums_f32x4[t + 3]}};
      float* out = scores + octet * 8 + t;
      vst4q_lane_f32(out, four, 0);
      vst4q_lane_f32(out + stride, four, 1);
      vst4q_lane_f32(out + 2 * stride, four, 2);
      vst4q_lane_f32(out + 3 * stride, four, 3);
    }
  }
}

// ---- grouped integers --------------------------------------------------------------------------------------------

/// `products` = weight · scale of 32 tokens → 15-bit weights in pairs as the codes want them: pair i·P + p (P = 16/bits
/// positions in a 16-bit lane) holds the two tokens whose codes lie at shift p·bits of dword row i. Returns the step.
template <std::size_t bits>
inline float quantise_weights(const float32x4_t* products_f32x4, std::uint32_t* pairs) noexcept {
  float32x4_t most_f32x4 = products_f32x4[0];
  PQKV_UNROLL for (std::size_t i = 1; i < 8; ++i) most_f32x4 = vmaxq_f32(most_f32x4, products_f32x4[i]);
  const float largest = vmaxvq_f32(most_f32x4);
  const float inverse = largest > 0 ? 32767.0f / largest : 0.0f;
  int16x4_t weights_i16x4[8];
  PQKV_UNROLL for (std::size_t i = 0; i < 8; ++i) {
    weights_i16x4[i] = vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(products_f32x4[i], inverse)));
  }
  PQKV_UNROLL for (std::size_t i = 0; i < 8; i += 4) {
    const int16x8_t first_i16x8 = vcombine_s16(weights_i16x4[i], weights_i16x4[i + 1]);
    const int16x8_t second_i16x8 = vcombine_s16(weights_i16x4[i + 2], weights_i16x4[i + 3]);
    // Pairs (t, t + 2) of even tokens, then of odd ones, out of 16 (int2), 8 (int4) or 4 tokens (int8) at a time.
    uint32x4_t even = vreinterpretq_u32_s16(vuzp1q_s16(first_i16x8, second_i16x8));
    uint32x4_t odd = vreinterpretq_u32_s16(vuzp2q_s16(first_i16x8, second_i16x8));
    if constexpr (bits != 2) {
      const uint32x4_t e = even, o = odd;
      even = bits == 8 ? vzip1q_u32(e, o) : vcombine_u32(vget_low_u32(e), vget_low_u32(o));
      odd = bits == 8 ? vzip2q_u32(e, o) : vcombine_u32(vget_high_u32(e), vget_high_u32(o));
    }
    vst1q_u32(pairs + i * 2, even);
    vst1q_u32(pairs + i * 2 + 4, odd);
  }
  return largest / 32767.0f;
}

template <std::size_t bits>
inline void integer_accumulate(const std::byte* blocks, std::size_t block_count, std::size_t dim, std::size_t group,
                               const float* weights, std::size_t query_count, std::size_t stride,
                               float* outs) noexcept {
  constexpr std::size_t positions = 16 / bits;
  const std::size_t groups = dim / group;
  const auto sum = [=](const std::byte* block, std::size_t g, const float* weight, auto width, float* out) {
    const auto* scales = reinterpret_cast<const f16*>(block) + g * 32;
    const auto* offsets = scales + groups * 32;
    std::uint32_t pairs[width][16];
    float steps[width], shifts[width];
    for (std::size_t q = 0; q < width; ++q) {
      float32x4_t products_f32x4[8], shift_f32x4 = vdupq_n_f32(0);
      PQKV_UNROLL for (std::size_t i = 0; i < 8; ++i) {
        const float32x4_t weights_f32x4 = vld1q_f32(weight + q * stride + i * 4);
        products_f32x4[i] = vmulq_f32(weights_f32x4, load4(scales + i * 4));
        shift_f32x4 = vfmaq_f32(shift_f32x4, weights_f32x4, load4(offsets + i * 4));
      }
      steps[q] = quantise_weights<bits>(products_f32x4, pairs[q]);
      shifts[q] = vaddvq_f32(shift_f32x4);
    }
    const auto* codes = reinterpret_cast<const std::uint8_t*>(block) + groups * 128 + g * group * 4 * bits;
    for (std::size_t d = g * group; d < (g + 1) * group; d += 8) {
      int32x4_t sums_i32x4[width * 4] = {};  // 4 a query, of 2 channels each: a channel has two neighbouring lanes
      for (std::size_t row = 0; row < bits; ++row, codes += 32) {
        const uint16x8_t first_u16x8 = vreinterpretq_u16_u8(vld1q_u8(codes));
        const uint16x8_t second_u16x8 = vreinterpretq_u16_u8(vld1q_u8(codes + 16));
        PQKV_UNROLL for (std::size_t p = 0; p < positions; ++p) {
          const auto codes_at = [p](uint16x8_t lanes) {
            return vreinterpretq_s16_u16(lanes >> static_cast<std::uint16_t>(p * bits) & vdupq_n_u16((1 << bits) - 1));
          };
          const int16x8_t first_i16x8 = codes_at(first_u16x8), second_i16x8 = codes_at(second_u16x8);
          PQKV_UNROLL for (std::size_t q = 0; q < width; ++q) {
            const int16x8_t pair_i16x8 = vreinterpretq_s16_u32(vdupq_n_u32(pairs[q][row * positions + p]));
            int32x4_t* sums = sums_i32x4 + q * 4;
            sums[0] = vmlal_s16(sums[0], vget_low_s16(first_i16x8), vget_low_s16(pair_i16x8));
            sums[1] = vmlal_high_s16(sums[1], first_i16x8, pair_i16x8);
            sums[2] = vmlal_s16(sums[2], vget_low_s16(second_i16x8), vget_low_s16(pair_i16x8));
            sums[3] = vmlal_high_s16(sums[3], second_i16x8, pair_i16x8);
          }
        }
      }
      PQKV_UNROLL for (std::size_t i = 0; i < width * 2; ++i) {
        float* to = out + i / 2 * dim + d + i % 2 * 4;
        const float32x4_t total_f32x4 = vcvtq_f32_s32(vpaddq_s32(sums_i32x4[i * 2], sums_i32x4[i * 2 + 1]));
        const float32x4_t value_f32x4 = vaddq_f32(vmulq_n_f32(total_f32x4, steps[i / 2]), vdupq_n_f32(shifts[i / 2]));
        vst1q_f32(to, vaddq_f32(vld1q_f32(to), value_f32x4));
      }
    }
  };
  for (std::size_t b = 0; b < block_count; ++b) {
    const std::byte* block = blocks + b * (groups * 128 + dim * 4 * bits);
    for (std::size_t g = 0; g < groups; ++g) {
      for_each_tile(query_count, [&](auto width, std::size_t q) {
        sum(block, g, weights + q * stride + b * 32, width, outs + q * dim);
      });
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
  PQKV_UNROLL for (std::size_t i = 0; i < 7; ++i) sum = vfmaq_f32(vdupq_n_f32(coefficients[i]), sum, r);
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

/// Scalar stay: buckets, because additions to scattered addresses have no vector form; and pq8 for one query.
[[nodiscard]] inline KernelSet kernels() noexcept {
  KernelSet set = scalar::kernels();
  set.name = "neon";
  set.f16_to_f32 = to_f32<f16>;
  set.bf16_to_f32 = to_f32<bf16>;
  set.f32_to_f16 = from_f32<f16, f16_of, to_f16>;
  set.f32_to_bf16 = from_f32<bf16, bf16_of, to_bf16>;
  set.dot_f32 = dot<float>;
  set.dot_f16 = dot<f16>;
  set.dot_bf16 = dot<bf16>;
  set.accumulate_f32 = accumulate<float>;
  set.accumulate_f16 = accumulate<f16>;
  set.accumulate_bf16 = accumulate<bf16>;
  set.centroid_dots = centroid_dots;
  set.centroid_sum = centroid_sum;
  set.nearest_centroid = nearest_centroid;
  set.pq4_score = pq4_score;
  set.pq8_score4 = pq8_score4;
  set.int8_accumulate = integer_accumulate<8>;
  set.int4_accumulate = integer_accumulate<4>;
  set.int2_accumulate = integer_accumulate<2>;
  set.maximum = maximum;
  set.exponential = exponential;
  return set;
}

}  // namespace pqkv::inline PQKV_ABI::isa::neon

#endif
