// The specification of every kernel in readable C++, and the fallback for any CPU. Layer 1.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "pqkv/isa/kernels.hpp"

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

inline void centroid_dots(const float* query, std::size_t width, const float* centroids, std::size_t count,
                          float* table) noexcept {
  for (std::size_t c = 0; c < count; ++c) table[c] = 0;
  for (std::size_t d = 0; d < width; ++d) {
    for (std::size_t c = 0; c < count; ++c) table[c] += query[d] * centroids[d * count + c];
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

inline void nearest_centroid(const float* rows, std::size_t row_count, std::size_t stride, std::size_t width,
                             const float* centroids, const float* half_norms, std::size_t count,
                             std::uint8_t* codes) noexcept {
  for (std::size_t r = 0; r < row_count; ++r) {
    float best = 0;
    std::size_t nearest = 0;
    for (std::size_t c = 0; c < count; ++c) {
      float distance = half_norms[c];
      for (std::size_t d = 0; d < width; ++d) distance -= rows[r * stride + d] * centroids[d * count + c];
      if (c == 0 || distance < best) {
        best = distance;
        nearest = c;
      }
    }
    codes[r] = static_cast<std::uint8_t>(nearest);
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

inline void pq4_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                      const std::uint8_t* tables, std::size_t query_count, const float* scale, const float* bias,
                      float* scores, std::size_t stride) noexcept {
  for (std::size_t b = 0; b < block_count; ++b) {
    const std::uint8_t* block = blocks + b * 16 * subspaces;
    for (std::size_t q = 0; q < query_count; ++q) {
      for (std::size_t t = 0; t < 32; ++t) {
        std::uint32_t sum = 0;
        for (std::size_t s = 0; s < subspaces; ++s) {
          sum += tables[(q * subspaces + s) * 16 + pq4_code(block, s, t)];
        }
        scores[q * stride + b * 32 + t] = scale[q] * static_cast<float>(sum) + bias[q];
      }
    }
  }
}

template <std::size_t queries>
inline void pq8_score_interleaved(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                                  const float* table, float* scores, std::size_t stride) noexcept {
  for (std::size_t octet = 0; octet < block_count * 4; ++octet) {
    const std::uint8_t* codes = blocks + octet * 8 * subspaces;
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

inline void pq8_score(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* table,
                      float* scores) noexcept {
  pq8_score_interleaved<1>(blocks, block_count, subspaces, table, scores, 0);
}

inline void pq8_score4(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* table,
                       float* scores, std::size_t stride) noexcept {
  pq8_score_interleaved<4>(blocks, block_count, subspaces, table, scores, stride);
}

// Tokens outside, subspaces inside: neighbouring additions go to different tables, so none waits for the store before.
inline void pq4_fill(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* weights,
                     float* buckets) noexcept {
  for (std::size_t b = 0; b < block_count; ++b) {
    const std::uint8_t* block = blocks + b * 16 * subspaces;
    for (std::size_t t = 0; t < 16; ++t) {
      const float low = weights[b * 32 + t];
      const float high = weights[b * 32 + 16 + t];
      for (std::size_t s = 0; s < subspaces; ++s) {
        const std::uint8_t pair = block[s * 16 + t];
        buckets[s * 16 + (pair & 15)] += low;
        buckets[s * 16 + (pair >> 4)] += high;
      }
    }
  }
}

inline void pq8_fill(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* weights,
                     float* buckets) noexcept {
  for (std::size_t octet = 0; octet < block_count * 4; ++octet) {
    const std::uint8_t* codes = blocks + octet * 8 * subspaces;
    for (std::size_t t = 0; t < 8; ++t) {
      const float weight = weights[octet * 8 + t];
      for (std::size_t s = 0; s < subspaces; ++s) buckets[s * 256 + codes[s * 8 + t]] += weight;
    }
  }
}

/// Where the code of a token and channel lies in the codes of an integer block: a byte, and the shift inside it.
struct IntegerPlace {
  std::size_t byte;
  std::size_t shift;
};
template <std::size_t bits>
[[nodiscard]] inline IntegerPlace integer_place(std::size_t channel, std::size_t token) noexcept {
  constexpr std::size_t dword_tokens = 4 * (8 / bits);
  return {channel / 8 * 32 * bits + (token / dword_tokens * 8 + channel % 8) * 4 + token % 4,
          token % dword_tokens / 4 * bits};
}

template <std::size_t bits>
[[nodiscard]] inline std::uint32_t integer_code(const std::uint8_t* codes, std::size_t channel,
                                                std::size_t token) noexcept {
  const IntegerPlace place = integer_place<bits>(channel, token);
  return (static_cast<std::uint32_t>(codes[place.byte]) >> place.shift) & ((1u << bits) - 1u);
}

/// The weights of one group of one block as integers: quantised[t] = round(products[t] · weight_levels / max); returns
/// max / weight_levels; all 0 when no product exceeds least_product. `products` are weight · scale.
inline float quantise_weights(const float* products, std::int16_t* quantised) noexcept {
  const float largest = *std::max_element(products, products + 32);
  const float inverse = largest > least_product ? weight_levels / largest : 0.0f;
  for (std::size_t t = 0; t < 32; ++t) quantised[t] = static_cast<std::int16_t>(std::nearbyint(products[t] * inverse));
  return largest / weight_levels;
}

template <std::size_t bits>
inline void integer_accumulate(const std::byte* blocks, std::size_t block_count, std::size_t dim, std::size_t group,
                               const float* weights, std::size_t query_count, std::size_t stride,
                               float* outs) noexcept {
  const std::size_t groups = dim / group;
  const std::size_t block_bytes = groups * 128 + dim * 4 * bits;
  for (std::size_t b = 0; b < block_count; ++b) {
    const std::byte* block = blocks + b * block_bytes;
    const auto* codes = reinterpret_cast<const std::uint8_t*>(block + groups * 128);
    for (std::size_t g = 0; g < groups; ++g) {
      f16 scales[32];
      f16 offsets[32];
      std::memcpy(scales, block + g * 64, 64);
      std::memcpy(offsets, block + (groups + g) * 64, 64);
      for (std::size_t q = 0; q < query_count; ++q) {
        float products[32];
        float offset = 0;
        for (std::size_t t = 0; t < 32; ++t) {
          const float weight = weights[q * stride + b * 32 + t];
          products[t] = weight * to_float(scales[t]);
          offset += weight * to_float(offsets[t]);
        }
        std::int16_t quantised[32];
        const float step = quantise_weights(products, quantised);
        for (std::size_t d = g * group; d < (g + 1) * group; ++d) {
          std::int32_t sum = 0;
          for (std::size_t t = 0; t < 32; ++t) {
            sum += static_cast<std::int32_t>(integer_code<bits>(codes, d, t)) * quantised[t];
          }
          outs[q * dim + d] += step * static_cast<float>(sum) + offset;
        }
      }
    }
  }
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

[[nodiscard]] inline KernelSet kernels() noexcept {
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
  set.accumulate_f16 = accumulate<f16>;
  set.accumulate_bf16 = accumulate<bf16>;
  set.centroid_dots = centroid_dots;
  set.centroid_sum = centroid_sum;
  set.nearest_centroid = nearest_centroid;
  set.pq4_score = pq4_score;
  set.pq8_score = pq8_score;
  set.pq8_score4 = pq8_score4;
  set.pq4_fill = pq4_fill;
  set.pq8_fill = pq8_fill;
  set.int8_accumulate = integer_accumulate<8>;
  set.int4_accumulate = integer_accumulate<4>;
  set.int2_accumulate = integer_accumulate<2>;
  set.maximum = maximum;
  set.exponential = exponential;
  return set;
}

}  // namespace pqkv::inline PQKV_ABI::isa::scalar
