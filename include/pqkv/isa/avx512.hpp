// AVX-512 (F, BW, VL, DQ) kernels: x86 since Skylake-X (2017) and Zen 4 (2022). Layer 1.
//
//   instruction      leaned on for                                                    per cycle (Golden Cove)
//   vpshufb zmm      pq4: the tables of four subspaces, 64 look-ups at once           1
//   vpmaddwd zmm     8-bit values: weights of 32 tokens stay in 8 registers           1
//   vpermps zmm      pq4 values: 16 centroids looked up 16 times at once              1
//   vfmadd231ps zmm  exact rows, query tables, distances                              2, latency 4
//   vscalefps        exp: multiplies by 2ⁿ without touching exponents by hand         1
//   k-masks          ends of rows; the smaller distance and its index                 free in most operations
#pragma once

#include "pqkv/isa/avx2.hpp"
#include "pqkv/isa/avx512_codes.hpp"
#include "pqkv/isa/avx512_integers.hpp"
#include "pqkv/isa/avx512_levels.hpp"
#include "pqkv/isa/avx512_nearest.hpp"
#include "pqkv/isa/avx512_rows.hpp"

#if defined(PQKV_X86)

namespace pqkv::inline PQKV_ABI::isa::avx512 {

/// 8-bit look-ups are bound by load ports, which are no wider here: those kernels are AVX2's, as are those of 4-bit and
/// 2-bit values (avx512vbmi.hpp has better ones).
[[nodiscard]] consteval KernelSet make_kernels() noexcept {
  KernelSet set = avx2::kernels;
  set.name = "avx512";
  set.f16_to_f32 = to_f32<f16>;
  set.bf16_to_f32 = to_f32<bf16>;
  set.dot_f32 = dot<float>;
  set.dot_f16 = dot<f16>;
  set.dot_bf16 = dot<bf16>;
  set.accumulate_f32 = accumulate<float>;
  set.product_f32 = product_f32;
  set.accumulate_f16 = accumulate<f16>;
  set.accumulate_bf16 = accumulate<bf16>;
  set.centroid_dots = centroid_dots;
  set.centroid_sum = centroid_sum;
  set.byte_table = byte_table;
  set.nearest_centroid = nearest_centroid;
  set.nearest_of_parts = nearest_of_parts;
  set.pq4_score = pq4_score;
  set.pq4_accumulate = pq4_accumulate;
  set.int8_accumulate = int8_accumulate;
  set.levels4 = levels_of<4>, set.levels3 = levels_of<3>, set.levels2 = levels_of<2>, set.scaled_bytes = scaled_bytes;
  set.maximum = maximum;
  set.exponential = exponential;
  set.mass_bounds = mass_bounds;
  return set;
}
inline constexpr KernelSet kernels = make_kernels();

}  // namespace pqkv::inline PQKV_ABI::isa::avx512

#endif
