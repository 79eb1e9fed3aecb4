// NEON: loads, and tiles of rows or queries. Layer 1. The set is assembled in neon.hpp.
#pragma once

#include "pqkv/base/config.hpp"

#if defined(PQKV_ARM64)
#include <arm_neon.h>

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

template <std::size_t n>
struct Count {};

/// tile(Count<n>, i) for the n items from i: fours first, so that what a tile loads and unpacks is shared.
template <class Tile>
[[gnu::always_inline]] inline void for_each_tile(std::size_t count, Tile tile) noexcept {
  std::size_t i = 0;
  for (; i + 4 <= count; i += 4) tile(Count<4>{}, i);
  for (; i + 2 <= count; i += 2) tile(Count<2>{}, i);
  for (; i < count; ++i) tile(Count<1>{}, i);
}

}  // namespace pqkv::inline PQKV_ABI::isa::neon

#endif
