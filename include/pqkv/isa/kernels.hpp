// KernelSet: every hot loop of the library as one table of function pointers, each with its contract. Layer 1.
// scalar.hpp is the specification; an instruction set copies a smaller one's table and overrides what it improves.
// One call covers many blocks, so the indirect call is paid per tile. No pointer needs more alignment than its type.
// Kernels may prefetch beyond their input, never read there. Where one takes `ahead`, the caller knows what will be read next:
// for each line that it reads, it asks for the one `ahead` bytes away (0: nothing is known).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "pqkv/base/half.hpp"

namespace pqkv::inline PQKV_ABI::isa {

/// Steps of weights that meet 8-bit codes: the largest number that splits into two signed bytes, 127·256 + 127.
inline constexpr float weight_levels = 32639.0f;
/// Steps of weights that meet 4-bit and 2-bit codes: one byte.
inline constexpr float byte_weight_levels = 255.0f;
/// (1 + f) / 2ᶠ is at most 1.0615; what is added against rounding is far below the rest.
inline constexpr float mass_bound_excess = 1.062f;
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
  /// outs[q·out_stride + c] += Σ_r weights[q·weight_stride + r] · matrix[r·row_stride + c], c < columns: a small matrix
  /// that is in the caches and stays there.
  void (*product_f32)(const float* matrix, std::size_t row_stride, std::size_t rows, std::size_t columns, const float* weights,
                      std::size_t weight_stride, std::size_t query_count, float* outs, std::size_t out_stride) noexcept;

  // ---- product quantisation ------------------------------------------------------------------------------------
  // Centroids of one subspace are dimension-major: centroids[d·count + c]; count is a
  // multiple of 16, at most 256.
  /// table[s·count + c] = Σ_d query[s·width + d] · centroids[(s·width + d)·count + c], d < width, and unless gains is null
  /// gains[s·count + c] · Σ_d query[s·width + d]² more, s < subspaces.
  void (*centroid_dots)(const float* query, std::size_t subspaces, std::size_t width, const float* centroids,
                        const float* gains, std::size_t count, float* table) noexcept;
  /// The same for four queries `dim` floats apart, interleaved: table[c·4 + q]. Centroids are read once for all.
  void (*centroid_dots4)(const float* queries, std::size_t dim, std::size_t width, const float* centroids,
                         std::size_t count, float* table) noexcept;
  /// row[d] += Σ_c buckets[c] · centroids[d·count + c], d < width: the mirror of centroid_dots
  void (*centroid_sum)(const float* buckets, std::size_t width, const float* centroids, std::size_t count,
                       float* row) noexcept;
  /// codes[r] = the c with the least half_norms[c] − row r · centroid c; the first of equals. Rows are `stride` floats
  /// apart, `width` long. Float rounding may tip near-ties differently per instruction set.
  void (*nearest_centroid)(const float* rows, std::size_t row_count, std::size_t stride, std::size_t width,
                           const float* centroids, const float* half_norms, std::size_t count,
                           std::uint8_t* codes) noexcept;
  /// The nearest centroid of each of eight parts, which are the centroids c with the same c mod 8: codes[r·8 + part] and
  /// costs[r·8 + part], half_norms[c] − row r · centroid c. Else as nearest_centroid. What searches for sums of centroids
  /// start from: near ones without sorting.
  void (*nearest_of_parts)(const float* rows, std::size_t row_count, std::size_t stride, std::size_t width,
                           const float* centroids, const float* half_norms, std::size_t count, float* costs,
                           std::uint8_t* codes) noexcept;

  /// scores[q·stride + t] = scale[q] · Σ_s table_q[s][code(t, s)] + bias[q], the sum in u16 (subspaces ≤ 256).
  /// Blocks of 16·subspaces bytes: byte s·16 + j holds the code of token j (low nibble) and of token j + 16 (high
  /// nibble) in subspace s. tables: u8 [query][subspace][16]. All 32·blocks scores are written.
  void (*pq4_score)(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                    const std::uint8_t* tables, std::size_t query_count, const float* scale, const float* bias,
                    float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept;
  /// The same for 6-bit codes: blocks of 24·subspaces bytes, codec/product_quantizer.hpp draws them; tables of 64 entries.
  void (*pq6_score)(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                    const std::uint8_t* tables, std::size_t query_count, const float* scale, const float* bias,
                    float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept;
  /// A float table [subspace][count] as bytes: scale = the widest subspace's range / 255, bytes = (entry − the subspace's
  /// least) / scale to the nearest (ties may go either way), bias = the sum of the least ones; scale 0 gives bytes 0.
  /// Returns the sum of the subspaces' largest bytes, of which scale and bias make a bound of all scores.
  std::uint32_t (*byte_table)(const float* table, std::size_t subspaces, std::size_t count, std::uint8_t* bytes, float* scale,
                              float* bias) noexcept;
  /// scores[t] = Σ_s table[s·256 + code(t, s)] for one query. Blocks of 32·subspaces bytes: the code of token t in
  /// subspace s is byte (t / 8)·8·subspaces + s·8 + t % 8.
  void (*pq8_score)(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* table,
                    float* scores, std::ptrdiff_t ahead) noexcept;
  /// The same for four queries whose tables are interleaved, table[(s·256 + code)·4 + q]; scores[q·stride + t].
  void (*pq8_score4)(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* table,
                     float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept;
  /// outs[q·dim + s·width + d] += Σ_t weights[q·stride + t] · centroids[(s·width + d)·16 + code(t, s)], dim =
  /// subspaces·width: pq4 blocks, centroids of all subspaces.
  void (*pq4_accumulate)(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, std::size_t width,
                         const float* centroids, const float* weights, std::size_t query_count, std::size_t stride,
                         float* outs, std::ptrdiff_t ahead) noexcept;
  /// Where vectors look bytes up in tables of 256 faster than loads look floats up: fewer than four queries are then scored
  /// by pq8_planes_score rather than by pq8_score. (From four on a load of floats serves four queries, and the planes' tables
  /// cost more to make than they save.)
  bool pq8_planes;
  /// A float table [subspace][256] as 16-bit entries in two planes of bytes, planes[s·512 + c] the lower, planes[s·512 +
  /// 256 + c] the upper ones. As byte_table, scale = the widest subspace's range / 65535: a score is off by at most
  /// scale/2 per subspace, some hundred-thousandths of its range.
  void (*plane_table)(const float* table, std::size_t subspaces, std::uint8_t* planes, float* scale,
                      float* bias) noexcept;
  /// scores[q·stride + t] = scale[q] · Σ_s entry_q[s][code(t, s)] + bias[q], exact sums below 2²⁴; planes [query][512·s].
  void (*pq8_planes_score)(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces,
                           const std::uint8_t* planes, std::size_t query_count, const float* scale, const float* bias,
                           float* scores, std::size_t stride, std::ptrdiff_t ahead) noexcept;
  /// buckets[s·256 + code(t, s)] += weights[t], pq8 blocks, one query.
  void (*pq8_fill)(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* weights,
                   float* buckets, std::ptrdiff_t ahead) noexcept;
  /// The same for four queries, interleaved: buckets[(s·256 + code(t, s))·4 + q] += weights[q·stride + t].
  void (*pq8_fill4)(const std::uint8_t* blocks, std::size_t block_count, std::size_t subspaces, const float* weights,
                    std::size_t stride, float* buckets, std::ptrdiff_t ahead) noexcept;

  // ---- grouped integers ----------------------------------------------------------------------------------------
  /// outs[q·dim + d] += Σ_t weights[q·stride + t] · (scale(t, g)·code(t, d) + offset(t, g)), g = d / group, weights ≥ 0.
  ///
  /// A block: f16 scales [dim/group][32], f16 offsets [dim/group][32], then the codes in chunks of 8 channels, each
  /// chunk 8·32·bits/8 bytes. A chunk is a row of dwords, one per channel, for the first 4·(8/bits) tokens, then the
  /// next ones: in dword i of channel c (byte (i·8 + c)·4 of the chunk), byte j holds in its crumb k (bits k·b …) the
  /// code of token 4·(8/bits)·i + 4·k + j. So `dword >> shift & mask` in 16-bit lanes pairs tokens t and t + 2, which is
  /// what a multiply-add of 16-bit pairs wants.
  ///
  /// Per block, group and query the products weight·scale are rounded to steps of their largest and summed with the codes
  /// in integers. 8-bit codes: `weight_levels` steps, |rounding| ≤ largest/65278 per product, sums in 32 bits. 4-bit and
  /// 2-bit codes: `byte_weight_levels` steps, so that a byte meets a byte; what rounding took from the products is given
  /// back at the codes' middle c = (2^bits − 1)/2, in float: out += step·Σ code·rounded + Σ weight·(offset + c·scale) −
  /// step·c·Σ rounded. A token's value is then off by at most largest/510 · c, unbiased, where the codes' own rounding is
  /// off by scale·weight/2: at most a 17th of it (4 bits) at the largest weight, and no more in absolute terms elsewhere.
  /// No sum overflows: 32·255·32639 < 2³¹; 8 pairs of bytes give 16·255·15 < 2¹⁶.
  using IntegerAccumulate = void (*)(const std::byte* blocks, std::size_t block_count, std::size_t dim,
                                     std::size_t group, const float* weights, std::size_t query_count,
                                     std::size_t stride, float* outs, std::ptrdiff_t ahead) noexcept;
  IntegerAccumulate int8_accumulate;
  IntegerAccumulate int4_accumulate;
  IntegerAccumulate int2_accumulate;

  /// A row's groups to integers: per group of `group` channels offset = its least element and scale = range / levels, both
  /// rounded to f16 and saturated at ±65504; codes[d] = (row[d] − offset) / scale to the nearest, ties to even, in
  /// 0..levels; 0 where the scale is 0. Bit-equal over all instruction sets.
  void (*integer_encode)(const float* row, std::size_t dim, std::size_t group, std::uint32_t levels, f16* scales,
                         f16* offsets, std::uint8_t* codes) noexcept;

  // ---- codes of levels -----------------------------------------------------------------------------------------
  /// out[u·32 + i] = scales[u] · levels[u·level_stride + code i of unit u], bit-equal over all instruction sets. Units of 32
  /// codes lie `stride` bytes apart; scales nullptr: 1; 2^bits levels for each unit, or for all (level_stride 0). A unit of 4
  /// bits: byte j holds codes j (low nibble) and j + 16; of 2 bits: byte j holds in its crumb k (bits 2·k, 2·k + 1) code
  /// 8·k + j; of 3 bits: the same for the two lower bits, then 4 bytes, in bit j of byte k the third bit of code 8·k + j.
  using Levels = void (*)(const std::uint8_t* codes, std::size_t stride, std::size_t units, const float* levels,
                          std::size_t level_stride, const float* scales, float* out) noexcept;
  Levels levels4;
  Levels levels3;
  Levels levels2;
  /// out[u·32 + i] = scales[u] · the signed byte i of unit u: the same for 8 bits, whose levels are the codes themselves.
  void (*scaled_bytes)(const std::uint8_t* codes, std::size_t stride, std::size_t units, const float* scales,
                       float* out) noexcept;

  // ---- softmax -------------------------------------------------------------------------------------------------
  /// The largest of count ≥ 1 numbers.
  float (*maximum)(const float* x, std::size_t count) noexcept;
  /// x[i] = exp(x[i] − shift); returns the sum. x[i] ≤ shift; relative error of each exp ≤ 4 ulp, and results below
  /// 2⁻¹²⁶ may be 0.
  float (*exponential)(float* x, std::size_t count, float shift) noexcept;
  /// bounds[b] ≥ Σ exp(x[32·b + t] − shift), t < 32, and at most `mass_bound_excess` times that, at a third of its cost: 2ᶠ is
  /// taken for 1 + f where 0 ≤ f < 1. x[i] ≤ shift; exponentials below 2⁻¹²⁶ count as 0.
  void (*mass_bounds)(const float* x, std::size_t block_count, float shift, float* bounds) noexcept;
};

/// A compiled-in set, and whether this CPU and operating system run it.
struct Available {
  const KernelSet* kernels;
  bool (*runs_here)() noexcept;
};

}  // namespace pqkv::inline PQKV_ABI::isa
