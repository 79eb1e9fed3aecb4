// Rotations in front of a product quantiser that follow from the rows' moments alone: which coordinates share a subspace.
// Layer 3a. (learned_rotation.hpp seeks one by its codes.)
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "pqkv/base/random.hpp"
#include "pqkv/codec/codebook_request.hpp"
#include "pqkv/codec/rope.hpp"
#include "pqkv/train/metric.hpp"

namespace pqkv::inline PQKV_ABI {

/// rows · matrixᵀ: rows [count][dim] in the coordinates that a square matrix leads to.
PQKV_COMPILED_ONCE [[nodiscard]] RowMatrix rows_through(const RowMatrix& matrix, const RowMatrix& rows);

/// A permutation matrix that keeps pairs (as `rope` makes them; neighbours without one) together and gives every subspace
/// a like share of the variance. Identity where a subspace has no room for whole pairs.
PQKV_COMPILED_ONCE [[nodiscard]] RowMatrix dealt_rotation(const RowMatrix& rows, const Rope& rope, std::size_t subspaces,
                                                          std::span<const float> weights = {});

/// Principal axes, dealt so that the products of their variances are alike in all subspaces (eigenvalue allocation: Ge,
/// He, Ke, Sun: Optimized Product Quantization, 2013).
PQKV_COMPILED_ONCE [[nodiscard]] RowMatrix balanced_rotation(const RowMatrix& rows, std::size_t subspaces,
                                                             std::span<const float> weights = {});

/// A Hadamard matrix with random signs in front, in blocks of the largest power of two that divides the dim: spreads
/// every coordinate over its block.
PQKV_COMPILED_ONCE [[nodiscard]] RowMatrix hadamard_rotation(std::size_t dim, Random& random);

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/train/rotation_bodies.hpp"
#endif
