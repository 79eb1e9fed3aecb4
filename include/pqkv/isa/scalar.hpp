// The specification of every kernel in readable C++, and the fallback for any CPU. Layer 1.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "pqkv/isa/scalar_integers.hpp"
#include "pqkv/isa/scalar_levels.hpp"
#include "pqkv/isa/scalar_nearest.hpp"

namespace pqkv::inline PQKV_ABI::isa::scalar {

template <class From, class To, To (*convert)(From) noexcept>
inline void convert_all(const From* in, std::size_t count, To* out) noexcept {
  for (std::size_t i = 0; i < count; ++i) out[i] = convert(in[i]);
}

template <class T>
inline void dot(const T* rows, std::size_t tokens, std::size_t dim, const float* queries, std::size_t query_count,
                float* scores, std::size_t stride) noexcept {
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t q = 0; q < query_count; ++q) {
      float sum = 0;
      for (std::size_t d = 0; d < dim; ++d) sum += queries[q * dim + d] * to_float(rows[t * dim + d]);
      scores[q * stride + t] = sum;
    }
  }
}

template <class T>
inline void accumulate(const T* rows, std::size_t tokens, std::size_t dim, const float* weights,
                       std::size_t query_count, std::size_t stride, float* outs) noexcept {
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t q = 0; q < query_count; ++q) {
      const float weight = weights[q * stride + t];
      for (std::size_t d = 0; d < dim; ++d) outs[q * dim + d] += weight * to_float(rows[t * dim + d]);
    }
  }
}

inline void product_f32(const float* matrix, std::size_t row_stride, std::size_t rows, std::size_t columns,
                        const float* weights, std::size_t weight_stride, std::size_t query_count, float* outs,
                        std::size_t out_stride) noexcept {
  for (std::size_t q = 0; q < query_count; ++q) {
    for (std::size_t r = 0; r < rows; ++r) {
      const float weight = weights[q * weight_stride + r];
      for (std::size_t c = 0; c < columns; ++c) outs[q * out_stride + c] += weight * matrix[r * row_stride + c];
    }
  }
}

inline void centroid_dots(const float* query, std::size_t subspaces, std::size_t width, const float* centroids,
                          const float* gains, std::size_t count, float* table) noexcept {
  for (std::size_t s = 0; s < subspaces; ++s, query += width, centroids += width * count, table += count) {
    float square = 0;
    std::fill_n(table, count, 0.0f);
    for (std::size_t d = 0; d < width; ++d) {
      square += query[d] * query[d];
      for (std::size_t c = 0; c < count; ++c) table[c] += query[d] * centroids[d * count + c];
    }
    if (gains == nullptr) continue;
    for (std::size_t c = 0; c < count; ++c) table[c] += gains[s * count + c] * square;
  }
}

inline void centroid_dots4(const float* queries, std::size_t dim, std::size_t width, const float* centroids,
                           std::size_t count, float* table) noexcept {
  for (std::size_t c = 0; c < count; ++c) {
    for (std::size_t q = 0; q < 4; ++q) {
      float sum = 0;
      for (std::size_t d = 0; d < width; ++d) sum += queries[q * dim + d] * centroids[d * count + c];
      table[c * 4 + q] = sum;
    }
  }
}

inline void centroid_sum(const float* buckets, std::size_t width, const float* centroids, std::size_t count,
                         float* row) noexcept {
  for (std::size_t d = 0; d < width; ++d) {
    float sum = 0;
    for (std::size_t c = 0; c < count; ++c) sum += buckets[c] * centroids[d * count + c];
    row[d] += sum;
  }
}

/// The code of `token` in `subspace` of a pq4 block.
[[nodiscard]] inline std::uint8_t pq4_code(const std::uint8_t* block, std::size_t subspace,
                                           std::size_t token) noexcept {
  const std::uint8_t pair = block[subspace * 16 + token % 16];
  return token < 16 ? pair & 15 : pair >> 4;
}

/// The code of `token` in `subspace` of a pq8 block.
[[nodiscard]] inline std::uint8_t pq8_code(const std::uint8_t* block, std::size_t subspaces, std::size_t subspace,
                                           std::size_t token) noexcept {
  return block[token / 8 * 8 * subspaces + subspace * 8 + token % 8];
}

/// The code of `token` in `subspace` of a pq6 block.
[[nodiscard]] inline std::uint8_t pq6_code(const std::uint8_t* block, std::size_t subspace,
                                           std::size_t token) noexcept {
  const std::uint8_t pair = block[subspace * 24 + token % 16];
  const unsigned upper = block[subspace * 24 + 16 + token % 8] >> (token / 8 * 2) & 3u;
  return static_cast<std::uint8_t>((token < 16 ? pair & 15u : pair >> 4u) | upper << 4);
}

inline std::uint32_t byte_table(const float* table, std::size_t subspaces, std::size_t count, std::uint8_t* bytes, float* scale,
                                float* bias) noexcept {
  float widest = 0;
  float sum = 0;
  for (const float* entries = table; entries != table + subspaces * count; entries += count) {
    const auto [least, most] = std::minmax_element(entries, entries + count);
    widest = std::max(widest, *most - *least);
    sum += *least;
  }
  const float inverse = widest > 0 ? 255.0f / widest : 0.0f;
  std::uint32_t most = 0;
  for (std::size_t s = 0; s < subspaces; ++s) {
    const float least = *std::min_element(table + s * count, table + (s + 1) * count);
    for (std::size_t i = s * count; i < (s + 1) * count; ++i) {
      bytes[i] = static_cast<std::uint8_t>(std::min((table[i] - least) * inverse + 0.5f, 255.0f));
    }
    most += *std::max_element(bytes + s * count, bytes + (s + 1) * count);
  }
  *scale = widest / 255.0f;
  *bias = sum;
  return most;
}

template <std::size_t bits>
inline void byte_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                       const std::uint8_t* tables, std::size_t query_count, const float* scale, const float* bias,
                       float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  for (std::size_t b = 0; b < block_count; ++b) {
    const std::uint8_t* block = blocks + b * 4 * bits * subspaces;
    ask_ahead(block, 4 * bits * subspaces, ahead);
    for (std::size_t q = 0; q < query_count; ++q) {
      for (std::size_t t = 0; t < 32; ++t) {
        std::uint32_t sum = 0;
        for (std::size_t s = 0; s < subspaces; ++s) {
          const std::size_t code = bits == 4 ? pq4_code(block, s, t) : pq6_code(block, s, t);
          sum += tables[((q * subspaces + s) << bits) + code];
        }
        scores[q * stride + b * 32 + t] = scale[q] * static_cast<float>(sum) + bias[q];
      }
    }
  }
}

template <std::size_t queries>
inline void pq8_score_interleaved(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                                  const float* table, float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  for (std::size_t octet = 0; octet < block_count * 4; ++octet) {
    const std::uint8_t* codes = blocks + octet * 8 * subspaces;
    ask_ahead(codes, 8 * subspaces, ahead);
    float sums[queries][8] = {};
    for (std::size_t s = 0; s < subspaces; ++s) {
      for (std::size_t t = 0; t < 8; ++t) {
        const float* entry = table + (s * 256 + codes[s * 8 + t]) * queries;
        for (std::size_t q = 0; q < queries; ++q) sums[q][t] += entry[q];
      }
    }
    for (std::size_t q = 0; q < queries; ++q) {
      for (std::size_t t = 0; t < 8; ++t) scores[q * stride + octet * 8 + t] = sums[q][t];
    }
  }
}

inline void plane_table(const float* table, std::size_t subspaces, std::uint8_t* planes, float* scale,
                        float* bias) noexcept {
  float widest = 0;
  float sum = 0;
  for (std::size_t s = 0; s < subspaces; ++s) {
    const auto [least, most] = std::minmax_element(table + s * 256, table + (s + 1) * 256);
    widest = std::max(widest, *most - *least);
    sum += *least;
  }
  const float inverse = widest > 0 ? 65535.0f / widest : 0.0f;
  for (std::size_t s = 0; s < subspaces; ++s) {
    const float least = *std::min_element(table + s * 256, table + (s + 1) * 256);
    for (std::size_t c = 0; c < 256; ++c) {
      const auto entry =
          static_cast<std::uint32_t>(std::min((table[s * 256 + c] - least) * inverse + 0.5f, 65535.0f));
      planes[s * 512 + c] = static_cast<std::uint8_t>(entry);
      planes[s * 512 + 256 + c] = static_cast<std::uint8_t>(entry >> 8);
    }
  }
  *scale = widest / 65535.0f;
  *bias = sum;
}

inline void pq8_planes_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                             const std::uint8_t* planes, std::size_t query_count, const float* scale, const float* bias,
                             float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  for (std::size_t q = 0; q < query_count; ++q) {
    for (std::size_t t = 0; t < block_count * 32; ++t) {
      if (q == 0 && t % 32 == 0) ask_ahead(blocks + t * subspaces, 32 * subspaces, ahead);
      std::uint32_t sum = 0;
      for (std::size_t s = 0; s < subspaces; ++s) {
        const std::uint8_t* entry = planes + (q * subspaces + s) * 512 + pq8_code(blocks, subspaces, s, t);
        sum += entry[0] + 256u * entry[256];
      }
      scores[q * stride + t] = scale[q] * static_cast<float>(sum) + bias[q];
    }
  }
}

inline void pq8_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* table,
                      float* scores, std::ptrdiff_t ahead) noexcept {
  pq8_score_interleaved<1>(blocks, block_count, subspaces, table, scores, 0, ahead);
}

inline void pq8_score4(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* table,
                       float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept {
  pq8_score_interleaved<4>(blocks, block_count, subspaces, table, scores, stride, ahead);
}

/// Weights fall into the buckets of 16 centroids, and buckets meet centroids at the end. Four sets of buckets, so that an
/// addition seldom waits for the one before it.
inline void pq4_accumulate(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, std::size_t width,
                           const float* centroids, const float* weights, std::size_t query_count, std::size_t stride,
                           float* outs, std::ptrdiff_t ahead) noexcept {
  for (std::size_t q = 0; q < query_count; ++q) {
    for (std::size_t s = 0; s < subspaces; ++s) {
      float buckets[4][16] = {};
      for (std::size_t b = 0; b < block_count; ++b) {
        const std::uint8_t* pairs = blocks + (b * subspaces + s) * 16;
        if (q == 0 && s % 4 == 0) ask_ahead(pairs, 64, ahead);
        const float* line = weights + q * stride + b * 32;
        for (std::size_t t = 0; t < 16; ++t) {
          buckets[t % 2][pairs[t] & 15] += line[t];
          buckets[2 + t % 2][pairs[t] >> 4] += line[t + 16];
        }
      }
      for (std::size_t c = 0; c < 16; ++c) buckets[0][c] += buckets[1][c] + buckets[2][c] + buckets[3][c];
      centroid_sum(buckets[0], width, centroids + s * width * 16, 16, outs + (q * subspaces + s) * width);
    }
  }
}

// Tokens outside, subspaces inside: neighbouring additions go to different tables, so none waits for the store before.
template <std::size_t queries>
inline void pq8_fill_interleaved(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                                 const float* weights, std::size_t stride, float* buckets,
                                 std::ptrdiff_t ahead) noexcept {
  for (std::size_t octet = 0; octet < block_count * 4; ++octet) {
    const std::uint8_t* codes = blocks + octet * 8 * subspaces;
    ask_ahead(codes, 8 * subspaces, ahead);
    for (std::size_t t = 0; t < 8; ++t) {
      float line[queries];
      for (std::size_t q = 0; q < queries; ++q) line[q] = weights[q * stride + octet * 8 + t];
      for (std::size_t s = 0; s < subspaces; ++s) {
        float* bucket = buckets + (s * 256 + codes[s * 8 + t]) * queries;
        for (std::size_t q = 0; q < queries; ++q) bucket[q] += line[q];
      }
    }
  }
}

inline void pq8_fill(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* weights,
                     float* buckets, std::ptrdiff_t ahead) noexcept {
  pq8_fill_interleaved<1>(blocks, block_count, subspaces, weights, 0, buckets, ahead);
}

inline void pq8_fill4(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* weights,
                      std::size_t stride, float* buckets, std::ptrdiff_t ahead) noexcept {
  pq8_fill_interleaved<4>(blocks, block_count, subspaces, weights, stride, buckets, ahead);
}

inline float maximum(const float* x, std::size_t count) noexcept { return *std::max_element(x, x + count); }

inline float exponential(float* x, std::size_t count, float shift) noexcept {
  float sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    x[i] = std::exp(x[i] - shift);
    sum += x[i];
  }
  return sum;
}

/// exp x as the float whose bits are x / ln 2 + 127 in units of the exponent: a line between powers of two, from above.
inline constexpr float exponent_unit = 0x1p23f;
inline constexpr float exponent_slope = 1.44269504f * exponent_unit;
inline constexpr float exponent_start = 127.0f * exponent_unit + 256.0f;  // 256: more than all roundings take away

inline void mass_bounds(const float* x, std::size_t block_count, float shift, float* bounds) noexcept {
  for (std::size_t b = 0; b < block_count; ++b) {
    bounds[b] = 0;
    for (std::size_t t = 0; t < 32; ++t) {
      const float bits = (x[b * 32 + t] - shift) * exponent_slope + exponent_start;
      if (bits >= exponent_unit) bounds[b] += std::bit_cast<float>(static_cast<std::int32_t>(bits));
    }
  }
}

[[nodiscard]] consteval KernelSet make_kernels() noexcept {
  KernelSet set{};
  set.name = "scalar";
  set.f16_to_f32 = convert_all<f16, float, to_float>;
  set.bf16_to_f32 = convert_all<bf16, float, to_float>;
  set.f32_to_f16 = convert_all<float, f16, to_f16>;
  set.f32_to_bf16 = convert_all<float, bf16, to_bf16>;
  set.dot_f32 = dot<float>;
  set.dot_f16 = dot<f16>;
  set.dot_bf16 = dot<bf16>;
  set.accumulate_f32 = accumulate<float>;
  set.product_f32 = product_f32;
  set.accumulate_f16 = accumulate<f16>;
  set.accumulate_bf16 = accumulate<bf16>;
  set.centroid_dots = centroid_dots;
  set.centroid_dots4 = centroid_dots4;
  set.centroid_sum = centroid_sum;
  set.nearest_centroid = nearest_centroid;
  set.nearest_of_parts = nearest_of_parts;
  set.pq4_score = byte_score<4>;
  set.pq6_score = byte_score<6>;
  set.byte_table = byte_table;
  set.pq8_score = pq8_score;
  set.pq8_score4 = pq8_score4;
  set.pq8_planes = false;
  set.plane_table = plane_table;
  set.pq8_planes_score = pq8_planes_score;
  set.pq4_accumulate = pq4_accumulate;
  set.pq8_fill = pq8_fill;
  set.pq8_fill4 = pq8_fill4;
  set.int8_accumulate = integer_accumulate<8>;
  set.int4_accumulate = integer_accumulate<4>;
  set.int2_accumulate = integer_accumulate<2>;
  set.integer_encode = integer_encode;
  set.levels4 = levels_of<4>, set.levels3 = levels_of<3>, set.levels2 = levels_of<2>, set.scaled_bytes = scaled_bytes;
  set.maximum = maximum;
  set.exponential = exponential;
  set.mass_bounds = mass_bounds;
  return set;
}
inline constexpr KernelSet kernels = make_kernels();

}  // namespace pqkv::inline PQKV_ABI::isa::scalar
