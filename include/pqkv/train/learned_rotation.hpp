// A learned rotation: OPQ (Ge, He, Ke, Sun: Optimized Product Quantization, 2013). Layer 3a. Starts from the balanced
// principal axes, then alternates codes and the rotation that suits them best (orthogonal Procrustes).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "pqkv/codec/codebook.hpp"
#include "pqkv/train/metric.hpp"

namespace pqkv::inline PQKV_ABI {

struct LearnedRotation {
  RowMatrix matrix;  ///< [dim][dim]
  std::vector<float> centroids;  ///< where its codes ended, [subspace][centroid][width]
};

/// An orthogonal matrix R such that the rows times Rᵀ suit a product quantiser of that shape. Rows count by `weights`
/// (empty: all alike); at least as many as centroids.
PQKV_COMPILED_ONCE [[nodiscard]] LearnedRotation learned_rotation(const RowMatrix& rows, const CodebookShape& shape, std::size_t iterations,
                                                                  std::uint64_t seed, std::span<const float> weights = {});

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/train/learned_rotation_bodies.hpp"
#endif
