// AVX-512 with VBMI and VNNI: x86 since Ice Lake (2019) and Zen 4 (2022). Layer 1.
//
//   instruction        leaned on for                                                    per cycle (Golden Cove)
//   vpdpbusd zmm       64 codes × 64 weight bytes, four products added per lane         2, latency 5
//   vpbroadcastd zmm   four tokens' weights to all channels, from memory: a load        2
//   vpermb zmm         pq4, pq6, pq8: tables of 64 bytes looked up 64 times at once      1
//   vpmovdb            32-bit weights to bytes                                          1/2
#pragma once

#include "pqkv/isa/avx512.hpp"
#include "pqkv/isa/avx512vbmi_codes.hpp"
#include "pqkv/isa/avx512vbmi_integers.hpp"
#include "pqkv/isa/avx512vbmi_planes.hpp"

#if defined(PQKV_X86)

namespace pqkv::inline PQKV_ABI::isa::avx512vbmi {

[[nodiscard]] consteval KernelSet make_kernels() noexcept {
  KernelSet set = avx512::kernels;
  set.name = "avx512vbmi";
  set.pq4_score = pq4_score;
  set.pq6_score = pq6_score;
  set.pq8_planes = true;
  set.plane_table = plane_table;
  set.pq8_planes_score = pq8_planes_score;
  set.int8_accumulate = integer_accumulate<8>;
  set.int4_accumulate = integer_accumulate<4>;
  set.int2_accumulate = integer_accumulate<2>;
  return set;
}
inline constexpr KernelSet kernels = make_kernels();

}  // namespace pqkv::inline PQKV_ABI::isa::avx512vbmi

#endif
