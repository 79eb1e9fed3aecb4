// KernelSet: every hot loop of the library as one table of function pointers, each with its contract. Layer 1.
// scalar.hpp is the specification; an instruction set copies a smaller one's table and overrides what it improves.
// One call covers many blocks, so the indirect call is paid per tile. No pointer needs more alignment than its type.
// Kernels may prefetch beyond their input, never read there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "pqkv/base/half.hpp"

namespace pqkv::inline PQKV_ABI::isa {

/// Steps of quantised weights: the largest number that splits into two signed bytes, 127·256 + 127.
inline constexpr float weight_levels = 32639.0f;
/// Blocks whose largest product is no more than this add nothing (weight_levels / largest must be finite).
inline constexpr float least_product = 1e-30f;

/// One instruction set's kernels. `T` below is float, f16 or bf16. Integer parts are bit-equal over all instruction
/// sets, float sums differ by their order.
struct KernelSet {
  std::string_view name;

  // ---- conversions: out[i] = in[i] for i < count ---------------------------------------------------------------
  void (*f16_to_f32)(const f16* in, std::size_t count, float* out) noexcept;
  void (*bf16_to_f32)(const bf16* in, std::size_t count, float* out) noexcept;
  void (*f32_to_f16)(const float* in, std::size_t count, f16* out) noexcept;    // nearest, ties to even
  void (*f32_to_bf16)(const float* in, std::size_t count, bf16* out) noexcept;

  // ---- exact rows: row-major, `dim` elements apart -------------------------------------------------------------
  /// scores[q·stride + t] = queries[q·dim ..] · rows[t·dim ..]
  template <class T>
  using Dot = void (*)(const T* rows, std::size_t tokens, std::size_t dim, const float* queries,
                       std::size_t query_count, float* scores, std::size_t stride) noexcept;
  Dot<float> dot_f32;
  Dot<f16> dot_f16;
  Dot<bf16> dot_bf16;
  /// outs[q·dim + d] += Σ_t weights[q·stride + t] · rows[t·dim + d]
  template <class T>
  using Accumulate = void (*)(const T* rows, std::size_t tokens, std::size_t dim, const float* weights,
                              std::size_t query_count, std::size_t stride, float* outs) noexcept;
  Accumulate<float> accumulate_f32;
  Accumulate<f16> accumulate_f16;
  Accumulate<bf16> accumulate_bf16;

  // ---- product quantisation ------------------------------------------------------------------------------------
  // Centroids of one subspace are dimension-major: centroids[d·count + c], count = 16 or 256.
  /// table[c] = Σ_d query[d] · centroids[d·count + c], d < width
  void (*centroid_dots)(const float* query, std::size_t width, const float* centroids, std::size_t count,
                        float* table) noexcept;
  /// row[d] += Σ_c buckets[c] · centroids[d·count + c], d < width: the mirror of centroid_dots
  void (*centroid_sum)(const float* buckets, std::size_t width, const float* centroids, std::size_t count,
                       float* row) noexcept;
  /// codes[r] = the c with the least half_norms[c] − row r · centroid c; the first of equals. Rows are `stride` floats
  /// apart, `width` long. Float rounding may tip near-ties differently per instruction set.
  void (*nearest_centroid)(const float* rows, std::size_t row_count, std::size_t stride, std::size_t width,
                           const float* centroids, const float* half_norms, std::size_t count,
                           std::uint8_t* codes) noexcept;

  /// scores[q·stride + t] = scale[q] · Σ_s table_q[s][code(t, s)] + bias[q], the sum in u16 (subspaces ≤ 256).
  /// Blocks of 16·subspaces bytes: byte s·16 + j holds the code of token j (low nibble) and of token j + 16 (high
  /// nibble) in subspace s. tables: u8 [query][subspace][16]. All 32·blocks scores are written.
  void (*pq4_score)(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                    const std::uint8_t* tables, std::size_t query_count, const float* scale, const float* bias,
                    float* scores, std::size_t stride) noexcept;
  /// scores[t] = Σ_s table[s·256 + code(t, s)] for one query. Blocks of 32·subspaces bytes: the code of token t in
  /// subspace s is byte (t / 8)·8·subspaces + s·8 + t % 8.
  void (*pq8_score)(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* table,
                    float* scores) noexcept;
  /// The same for four queries whose tables are interleaved, table[(s·256 + code)·4 + q]; scores[q·stride + t].
  void (*pq8_score4)(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* table,
                     float* scores, std::size_t stride) noexcept;
  /// buckets[s·16 + code(t, s)] += weights[t], pq4 blocks, one query.
  void (*pq4_fill)(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* weights,
                   float* buckets) noexcept;
  /// buckets[s·256 + code(t, s)] += weights[t], pq8 blocks, one query.
  void (*pq8_fill)(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* weights,
                   float* buckets) noexcept;

  // ---- grouped integers ----------------------------------------------------------------------------------------
  /// outs[q·dim + d] += Σ_t weights[q·stride + t] · (scale(t, g)·code(t, d) + offset(t, g)), g = d / group, weights ≥ 0.
  ///
  /// A block: f16 scales [dim/group][32], f16 offsets [dim/group][32], then the codes in chunks of 8 channels, each
  /// chunk 8·32·bits/8 bytes. A chunk is a row of dwords, one per channel, for the first 4·(8/bits) tokens, then the
  /// next ones: in dword i of channel c (byte (i·8 + c)·4 of the chunk), byte j holds in its crumb k (bits k·b …) the
  /// code of token 4·(8/bits)·i + 4·k + j. So `dword >> shift & mask` in 16-bit lanes pairs tokens t and t + 2, which is
  /// what a multiply-add of 16-bit pairs wants.
  ///
  /// Per block, group and query the products weight·scale are rounded to `weight_levels` steps of their largest, and
  /// summed in 32-bit integers: |rounding| ≤ max/65278 per product; 32·255·32639 < 2³¹, so no sum overflows.
  using IntegerAccumulate = void (*)(const std::byte* blocks, std::size_t block_count, std::size_t dim,
                                     std::size_t group, const float* weights, std::size_t query_count,
                                     std::size_t stride, float* outs) noexcept;
  IntegerAccumulate int8_accumulate;
  IntegerAccumulate int4_accumulate;
  IntegerAccumulate int2_accumulate;

  // ---- softmax -------------------------------------------------------------------------------------------------
  /// The largest of count ≥ 1 numbers.
  float (*maximum)(const float* x, std::size_t count) noexcept;
  /// x[i] = exp(x[i] − shift); returns the sum. x[i] ≤ shift; relative error of each exp ≤ 4 ulp, and results below
  /// 2⁻¹²⁶ may be 0.
  float (*exponential)(float* x, std::size_t count, float shift) noexcept;
};

}  // namespace pqkv::inline PQKV_ABI::isa
