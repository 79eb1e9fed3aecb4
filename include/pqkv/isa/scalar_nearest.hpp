// The specification of the searches for near centroids in readable C++. Layer 1. The set is assembled in scalar.hpp.
#pragma once

#include "pqkv/isa/kernels.hpp"

namespace pqkv::inline PQKV_ABI::isa::scalar {

/// The nearest of centroids first, first + step, … and its cost.
[[nodiscard]] inline std::size_t nearest_of(const float* row, std::size_t width, const float* centroids, const float* half_norms,
                                            std::size_t count, std::size_t first, std::size_t step, float& least) noexcept {
  std::size_t nearest = first;
  for (std::size_t c = first; c < count; c += step) {
    float cost = half_norms[c];
    for (std::size_t d = 0; d < width; ++d) cost -= row[d] * centroids[d * count + c];
    if (c == first || cost < least) {
      least = cost;
      nearest = c;
    }
  }
  return nearest;
}

inline void nearest_centroid(const float* rows, std::size_t row_count, std::size_t stride, std::size_t width,
                             const float* centroids, const float* half_norms, std::size_t count,
                             std::uint8_t* codes) noexcept {
  for (std::size_t r = 0; r < row_count; ++r) {
    float least = 0;
    codes[r] = static_cast<std::uint8_t>(nearest_of(rows + r * stride, width, centroids, half_norms, count, 0, 1, least));
  }
}

inline void nearest_of_parts(const float* rows, std::size_t row_count, std::size_t stride, std::size_t width,
                             const float* centroids, const float* half_norms, std::size_t count, float* costs,
                             std::uint8_t* codes) noexcept {
  for (std::size_t i = 0; i < row_count * 8; ++i) {
    codes[i] = static_cast<std::uint8_t>(
        nearest_of(rows + i / 8 * stride, width, centroids, half_norms, count, i % 8, 8, costs[i]));
  }
}

}  // namespace pqkv::inline PQKV_ABI::isa::scalar
