// Bodies of train/linear_algebra.hpp.
#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/LU>

#include <algorithm>
#include <cmath>

#include "pqkv/train/linear_algebra.hpp"

namespace pqkv::inline PQKV_ABI {

PQKV_COMPILED_ONCE [[nodiscard]] SymmetricEigen symmetric_eigen(const Eigen::MatrixXd& matrix) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(matrix);
  return {solver.eigenvalues(), solver.eigenvectors()};
}

PQKV_COMPILED_ONCE [[nodiscard]] Eigen::MatrixXd inverse(const Eigen::MatrixXd& matrix) {
  return Eigen::PartialPivLU<Eigen::MatrixXd>(matrix).inverse();
}

PQKV_COMPILED_ONCE [[nodiscard]] Eigen::MatrixXd solve_positive(const Eigen::MatrixXd& matrix, const Eigen::MatrixXd& right) {
  return Eigen::LLT<Eigen::MatrixXd>(matrix).solve(right);
}

PQKV_COMPILED_ONCE [[nodiscard]] Eigen::MatrixXd nearest_rotation(const Eigen::MatrixXd& matrix) {
  constexpr double least_share = 1e-5;
  const Eigen::Index dim = matrix.rows();
  // Eigenvectors of matrixᵀ·matrix are V, its eigenvalues the squares of S, and matrix·V·S⁻¹ is U. In double that is good to
  // the precision of floats as long as singular values differ by less than 1e5. Scaled first, so that no square overflows.
  const double largest_element = matrix.cwiseAbs().maxCoeff();
  const Eigen::MatrixXd scaled = largest_element > 0 ? Eigen::MatrixXd(matrix / largest_element) : matrix;
  const Eigen::MatrixXd transposed = scaled.transpose();
  const SymmetricEigen right = symmetric_eigen(transposed * scaled);
  Eigen::MatrixXd left = scaled * right.vectors;
  const double largest = std::sqrt(std::max(right.values[dim - 1], 0.0));
  Eigen::Index missing = 0;  // eigenvalues ascend, so what is missing comes first
  for (Eigen::Index i = 0; i < dim; ++i) {
    const double singular = std::sqrt(std::max(right.values[i], 0.0));
    const bool is_missing = singular <= least_share * largest;
    missing += is_missing ? 1 : 0;
    left.col(i) *= is_missing ? 0.0 : 1.0 / singular;
  }
  if (missing != 0) {
    // The eigenvectors of I − U·Uᵀ with eigenvalue 1, its largest, are what U lacks.
    const Eigen::MatrixXd left_transposed = left.transpose();
    Eigen::MatrixXd rest = left * left_transposed;
    rest = -rest;
    rest.diagonal().array() += 1.0;
    const Eigen::MatrixXd free = symmetric_eigen(rest).vectors;
    for (Eigen::Index i = 0; i < missing; ++i) left.col(i) = free.col(dim - 1 - i);
  }
  const Eigen::MatrixXd back = right.vectors.transpose();
  return left * back;
}

}  // namespace pqkv::inline PQKV_ABI
