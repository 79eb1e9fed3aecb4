// AVX2, FMA and F16C kernels: x86 since Haswell (2013) and Zen (2017). Layer 1.
//
//   instruction      leaned on for                                            per cycle (Zen 3, Golden Cove)
//   vpshufb          pq4: a table of 16 bytes looked up 32 times at once      2
//   vpmaddubsw       4-bit and 2-bit values: bytes of weights × codes         2
//   vpmaddwd         8-bit values: 16-bit codes × 15-bit weights, in pairs    2
//   vpermps          pq4 values: 8 of 16 centroids looked up 8 times at once  1 (Zen 3: 2)
//   vfmadd231ps      exact rows, query tables, distances                      2, latency 4
//   vcvtph2ps        f16 rows and scales                                      1
//   vaddps xmm       pq8: the entries of four queries by one load             2 loads (3 on Golden Cove)
//
// What will be read next is asked for line by line while something else is read (rows: 3 KiB ahead). Without that pq4 reads
// memory at two thirds of its speed; by bursts of a block, sums of integers take a fifth longer.
#pragma once

#include "pqkv/isa/avx2_bytes.hpp"
#include "pqkv/isa/avx2_codes.hpp"
#include "pqkv/isa/avx2_tables.hpp"
#include "pqkv/isa/avx2_integers.hpp"
#include "pqkv/isa/avx2_levels.hpp"
#include "pqkv/isa/avx2_nearest.hpp"
#include "pqkv/isa/avx2_rows.hpp"

#if defined(PQKV_X86)

namespace pqkv::inline PQKV_ABI::isa::avx2 {

/// Scalar stay: buckets of one query, because additions to scattered addresses have no vector form; and pq8 for one query,
/// whose byte and float loads keep three load ports busy (codes taken from 64-bit loads were slower, and gathers slower
/// still).
[[nodiscard]] consteval KernelSet make_kernels() noexcept {
  KernelSet set = scalar::kernels;
  set.name = "avx2";
  set.f16_to_f32 = to_f32<f16>;
  set.bf16_to_f32 = to_f32<bf16>;
  set.f32_to_f16 = f32_to_f16;
  set.f32_to_bf16 = f32_to_bf16;
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
  set.pq4_score = pq4_score;
  set.pq6_score = pq6_score;
  set.byte_table = byte_table;
  set.pq8_score4 = pq8_score4;
  set.pq4_accumulate = pq4_accumulate;
  set.pq8_fill4 = pq8_fill4;
  set.int8_accumulate = int8_accumulate;
  set.int4_accumulate = byte_accumulate<4>;
  set.int2_accumulate = byte_accumulate<2>;
  set.integer_encode = integer_encode;
  set.levels4 = levels_of<4>, set.levels3 = levels_of<3>, set.levels2 = levels_of<2>, set.scaled_bytes = scaled_bytes;
  set.maximum = maximum;
  set.exponential = exponential;
  set.mass_bounds = mass_bounds;
  return set;
}
inline constexpr KernelSet kernels = make_kernels();

}  // namespace pqkv::inline PQKV_ABI::isa::avx2

#endif
