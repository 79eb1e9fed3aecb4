// The decompositions of training, against what they are defined by.
#include <pqkv/train/linear_algebra.hpp>

#include <cmath>

#include "catch.hpp"
#include "pqkv/base/random.hpp"

namespace pqkv::test {
namespace {

constexpr double double_tolerance = 1e-10;
/// What nearest_rotation promises.
constexpr double rotation_tolerance = 1e-6;
/// Directions below 1e-5 of the largest singular value may turn anywhere: that much of the trace may be lost.
constexpr double trace_tolerance = 2e-5;

Eigen::MatrixXd random_matrix(Eigen::Index rows, Eigen::Index columns, std::uint64_t seed) {
  Random random(seed);
  Eigen::MatrixXd matrix(rows, columns);
  for (Eigen::Index i = 0; i < rows; ++i) {
    for (Eigen::Index j = 0; j < columns; ++j) matrix(i, j) = random.normal();
  }
  return matrix;
}

/// (a·b)[i][j], by the definition.
Eigen::MatrixXd product(const Eigen::MatrixXd& a, const Eigen::MatrixXd& b) {
  Eigen::MatrixXd out = Eigen::MatrixXd::Zero(a.rows(), b.cols());
  for (Eigen::Index i = 0; i < a.rows(); ++i) {
    for (Eigen::Index j = 0; j < b.cols(); ++j) {
      for (Eigen::Index k = 0; k < a.cols(); ++k) out(i, j) += a(i, k) * b(k, j);
    }
  }
  return out;
}

double largest_error(const Eigen::MatrixXd& a, const Eigen::MatrixXd& b) { return (a - b).cwiseAbs().maxCoeff(); }

Eigen::MatrixXd transpose(const Eigen::MatrixXd& matrix) { return matrix.transpose(); }

}  // namespace

TEST_CASE("a symmetric matrix is what its eigenvalues and eigenvectors say") {
  for (const Eigen::Index dim : {1, 2, 7, 40}) {
    const Eigen::MatrixXd half = random_matrix(dim, dim, 3);
    const Eigen::MatrixXd matrix = half + transpose(half);
    const SymmetricEigen eigen = symmetric_eigen(matrix);
    Eigen::MatrixXd scaled = eigen.vectors;
    for (Eigen::Index i = 0; i < dim; ++i) {
      scaled.col(i) *= eigen.values[i];
      if (i > 0) CHECK(eigen.values[i - 1] <= eigen.values[i]);
    }
    CHECK(largest_error(product(scaled, transpose(eigen.vectors)), matrix) < double_tolerance);
    CHECK(largest_error(product(transpose(eigen.vectors), eigen.vectors), Eigen::MatrixXd::Identity(dim, dim)) <
          double_tolerance);
  }
}

TEST_CASE("an inverse and a solution multiply back") {
  const Eigen::Index dim = 24;
  const Eigen::MatrixXd matrix = random_matrix(dim, dim, 5), right = random_matrix(dim, 3, 6);
  CHECK(largest_error(product(inverse(matrix), matrix), Eigen::MatrixXd::Identity(dim, dim)) < double_tolerance);
  Eigen::MatrixXd positive = product(matrix, transpose(matrix));
  positive.diagonal().array() += 1.0;
  CHECK(largest_error(product(positive, solve_positive(positive, right)), right) < double_tolerance);
}

TEST_CASE("the nearest rotation is orthogonal and has the largest trace") {
  const Eigen::Index dim = 20;
  const auto check = [&](const Eigen::MatrixXd& matrix) {
    const Eigen::MatrixXd rotation = nearest_rotation(matrix);
    CHECK(largest_error(product(transpose(rotation), rotation), Eigen::MatrixXd::Identity(dim, dim)) < rotation_tolerance);
    // Rᵀ·matrix is symmetric and positive semidefinite exactly where its trace is largest.
    const Eigen::MatrixXd turned = product(transpose(rotation), matrix);
    const double scale = std::max(matrix.norm(), 1e-300);
    CHECK(largest_error(turned, transpose(turned)) < trace_tolerance * scale);
    CHECK(symmetric_eigen(turned).values[0] > -trace_tolerance * scale);
  };
  const Eigen::MatrixXd matrix = random_matrix(dim, dim, 8);
  check(matrix);
  check(1e150 * matrix);
  check(1e-150 * matrix);
  check(-Eigen::MatrixXd::Identity(dim, dim));
  check(Eigen::MatrixXd::Zero(dim, dim));
  for (const Eigen::Index rank : {1, 5, 19}) check(product(random_matrix(dim, rank, 9), random_matrix(rank, dim, 10)));
  Eigen::MatrixXd uneven = matrix;  // singular values over many powers of ten
  for (Eigen::Index i = 0; i < dim; ++i) uneven.col(i) *= std::pow(10.0, -static_cast<double>(i));
  check(uneven);
}

}  // namespace pqkv::test
