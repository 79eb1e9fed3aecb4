// The decompositions that training needs, behind plain functions. Layer 3a. All in double, and one kind of each: Eigen's
// decompositions are what takes longest to compile in the whole library, so nothing else instantiates them.
#pragma once

#include <Eigen/Core>

#include "pqkv/base/config.hpp"

namespace pqkv::inline PQKV_ABI {

/// matrix = vectors · values.asDiagonal() · vectorsᵀ.
struct SymmetricEigen {
  Eigen::VectorXd values;   ///< ascending
  Eigen::MatrixXd vectors;  ///< [dim][dim], orthonormal columns
};

/// Of a symmetric matrix [dim][dim], of which only the lower triangle is read.
PQKV_COMPILED_ONCE [[nodiscard]] SymmetricEigen symmetric_eigen(const Eigen::MatrixXd& matrix);

/// The inverse of a regular matrix [dim][dim], by LU with partial pivoting.
PQKV_COMPILED_ONCE [[nodiscard]] Eigen::MatrixXd inverse(const Eigen::MatrixXd& matrix);

/// X with matrix · X = right, for a symmetric positive definite matrix [n][n] and right [n][m], by Cholesky.
PQKV_COMPILED_ONCE [[nodiscard]] Eigen::MatrixXd solve_positive(const Eigen::MatrixXd& matrix, const Eigen::MatrixXd& right);

/// The orthogonal matrix R [dim][dim] with the largest trace of Rᵀ·matrix, which solves the orthogonal Procrustes problem
/// (Schönemann, 1966): U·Vᵀ of matrix = U·S·Vᵀ. Orthogonal within 1e-6 for any finite matrix: directions whose singular value
/// is below 1e-5 of the largest say nothing, and are taken to any others that are free.
PQKV_COMPILED_ONCE [[nodiscard]] Eigen::MatrixXd nearest_rotation(const Eigen::MatrixXd& matrix);

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/train/linear_algebra_bodies.hpp"
#endif
