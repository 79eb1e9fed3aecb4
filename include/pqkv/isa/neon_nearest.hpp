// NEON: near centroids. Layer 1. The set is assembled in neon.hpp.
#pragma once

#include "pqkv/isa/neon_rows.hpp"

#if defined(PQKV_ARM64)

namespace pqkv::inline PQKV_ABI::isa::neon {

/// Of `height` rows the nearest of the centroids with the same c mod 4·vectors, vector v of row r in [r · vectors + v].
template <std::size_t height, std::size_t vectors>
struct NearestOfLanes {
  float32x4_t costs_f32x4[height * vectors];
  uint32x4_t indices_u32x4[height * vectors];
};

template <std::size_t height, std::size_t vectors>
[[gnu::always_inline]] inline NearestOfLanes<height, vectors> lanes_tile(const float* rows, std::size_t stride,
                                                                         std::size_t width, const float* centroids,
                                                                         const float* half_norms, std::size_t count) noexcept {
  constexpr std::size_t all = height * vectors;
  constexpr std::uint32_t lanes[] = {0, 1, 2, 3};
  const uint32x4_t lanes_u32x4 = vld1q_u32(lanes);
  NearestOfLanes<height, vectors> nearest;
  PQKV_UNROLL for (std::size_t i = 0; i < all; ++i) {
    nearest.costs_f32x4[i] = vdupq_n_f32(3.4e38f);
    nearest.indices_u32x4[i] = vdupq_n_u32(0);
  }
  for (std::size_t c = 0; c < count; c += 4 * vectors) {
    float32x4_t cost_f32x4[all];
    PQKV_UNROLL for (std::size_t i = 0; i < all; ++i) cost_f32x4[i] = vld1q_f32(half_norms + c + i % vectors * 4);
    for (std::size_t d = 0; d < width; ++d) {
      float32x4_t centroids_f32x4[vectors];
      PQKV_UNROLL for (std::size_t v = 0; v < vectors; ++v) centroids_f32x4[v] = vld1q_f32(centroids + d * count + c + v * 4);
      PQKV_UNROLL for (std::size_t i = 0; i < all; ++i) {
        cost_f32x4[i] = vfmsq_n_f32(cost_f32x4[i], centroids_f32x4[i % vectors], rows[i / vectors * stride + d]);
      }
    }
    PQKV_UNROLL for (std::size_t i = 0; i < all; ++i) {
      const uint32x4_t index_u32x4 = vaddq_u32(lanes_u32x4, vdupq_n_u32(static_cast<std::uint32_t>(c + i % vectors * 4)));
      const uint32x4_t closer = vcltq_f32(cost_f32x4[i], nearest.costs_f32x4[i]);
      nearest.costs_f32x4[i] = vbslq_f32(closer, cost_f32x4[i], nearest.costs_f32x4[i]);
      nearest.indices_u32x4[i] = vbslq_u32(closer, index_u32x4, nearest.indices_u32x4[i]);
    }
  }
  return nearest;
}

inline void nearest_centroid(const float* rows, std::size_t row_count, std::size_t stride, std::size_t width,
                             const float* centroids, const float* half_norms, std::size_t count,
                             std::uint8_t* codes) noexcept {
  for_each_tile(row_count, [=]<std::size_t height>(Count<height>, std::size_t first) {
    const auto nearest = lanes_tile<height, 1>(rows + first * stride, stride, width, centroids, half_norms, count);
    PQKV_UNROLL for (std::size_t r = 0; r < height; ++r) {  // among lanes of the least distance, the least index
      const float32x4_t costs_f32x4 = nearest.costs_f32x4[r];
      const uint32x4_t farther = vcgtq_f32(costs_f32x4, vdupq_n_f32(vminvq_f32(costs_f32x4)));
      codes[first + r] = static_cast<std::uint8_t>(vminvq_u32(vorrq_u32(nearest.indices_u32x4[r], farther)));
    }
  });
}

inline void nearest_of_parts(const float* rows, std::size_t row_count, std::size_t stride, std::size_t width,
                             const float* centroids, const float* half_norms, std::size_t count, float* costs,
                             std::uint8_t* codes) noexcept {
  for_each_tile(row_count, [=]<std::size_t height>(Count<height>, std::size_t first) {
    const auto nearest = lanes_tile<height, 2>(rows + first * stride, stride, width, centroids, half_norms, count);
    PQKV_UNROLL for (std::size_t r = 0; r < height; ++r) {
      float* mine = costs + (first + r) * 8;
      vst1q_f32(mine, nearest.costs_f32x4[r * 2]);
      vst1q_f32(mine + 4, nearest.costs_f32x4[r * 2 + 1]);
      const uint16x8_t halves_u16x8 =
          vcombine_u16(vmovn_u32(nearest.indices_u32x4[r * 2]), vmovn_u32(nearest.indices_u32x4[r * 2 + 1]));
      vst1_u8(codes + (first + r) * 8, vmovn_u16(halves_u16x8));
    }
  });
}

}  // namespace pqkv::inline PQKV_ABI::isa::neon

#endif
