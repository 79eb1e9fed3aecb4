// A learned rotation: OPQ (Ge, He, Ke, Sun: Optimized Product Quantization, 2013). Layer 3a. Starts from the balanced
// principal axes, then alternates codes and the rotation that suits them best (orthogonal Procrustes).
#pragma once

#include <Eigen/SVD>

#include <cstdint>
#include <span>
#include <vector>

#include "pqkv/isa/select.hpp"
#include "pqkv/train/init.hpp"
#include "pqkv/train/rotation.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// One subspace of the alternation: its centroids and what rows they stand for.
class RotatedSubspace {
 public:
  RotatedSubspace(const RowMatrix& turned, Eigen::Index column, Eigen::Index width, std::size_t centroids, Random& random)
      : column_(column), book_(static_cast<Eigen::Index>(centroids), width), codes_(static_cast<std::size_t>(turned.rows())) {
    const auto picks = random_indices(codes_.size(), centroids, random);
    for (std::size_t c = 0; c < centroids; ++c) {
      book_.row(static_cast<Eigen::Index>(c)) = turned.row(static_cast<Eigen::Index>(picks[c])).segment(column, width);
    }
  }

  /// Assigns the rows and moves the centroids to their means.
  void step(const RowMatrix& turned, std::span<const float> weights) {
    const RowMatrix by_dimension = book_.transpose();
    const Eigen::VectorXf half_norms = book_.rowwise().squaredNorm() / 2;
    const auto width = static_cast<std::size_t>(book_.cols());
    isa::best().nearest_centroid(turned.data() + column_, codes_.size(), static_cast<std::size_t>(turned.cols()), width,
                                 by_dimension.data(), half_norms.data(), static_cast<std::size_t>(book_.rows()),
                                 codes_.data());
    RowMatrix sums = RowMatrix::Zero(book_.rows(), book_.cols());
    Eigen::VectorXf masses = Eigen::VectorXf::Zero(book_.rows());
    for (std::size_t r = 0; r < codes_.size(); ++r) {
      const float weight = weights.empty() ? 1.0f : weights[r];
      const float* row = turned.data() + r * static_cast<std::size_t>(turned.cols()) + column_;
      float* sum = sums.data() + codes_[r] * width;
      for (std::size_t d = 0; d < width; ++d) sum[d] += weight * row[d];
      masses[codes_[r]] += weight;
    }
    for (Eigen::Index c = 0; c < book_.rows(); ++c) {
      if (masses[c] > 0) book_.row(c) = sums.row(c) / masses[c];
    }
  }

  void decode(RowMatrix& rows) const {
    const auto width = static_cast<std::size_t>(book_.cols());
    for (std::size_t r = 0; r < codes_.size(); ++r) {
      std::copy_n(book_.data() + codes_[r] * width, width, rows.data() + r * static_cast<std::size_t>(rows.cols()) + column_);
    }
  }

 private:
  Eigen::Index column_;
  RowMatrix book_;
  std::vector<std::uint8_t> codes_;
};

}  // namespace detail

/// An orthogonal matrix R such that the rows times Rᵀ suit a product quantiser of that shape. Rows count by `weights`
/// (empty: all alike); at least as many as centroids.
[[nodiscard]] inline RowMatrix learned_rotation(const RowMatrix& rows, const CodebookShape& shape, std::size_t iterations,
                                                std::uint64_t seed, std::span<const float> weights = {}) {
  RowMatrix rotation = balanced_rotation(rows, shape.subspaces, weights);
  RowMatrix weighted = rows;  // what Procrustes sees: each row times its weight
  if (!weights.empty()) weighted = Eigen::Map<const Eigen::VectorXf>(weights.data(), rows.rows()).asDiagonal() * rows;
  const auto width = static_cast<Eigen::Index>(shape.width());
  Random random(seed);
  std::vector<detail::RotatedSubspace> subspaces;
  RowMatrix decoded(rows.rows(), rows.cols());
  for (std::size_t iteration = 0; iteration < iterations; ++iteration) {
    const RowMatrix turned = rows * rotation.transpose();
    for (std::size_t s = 0; s < shape.subspaces; ++s) {
      if (iteration == 0) subspaces.emplace_back(turned, static_cast<Eigen::Index>(s) * width, width, shape.centroids, random);
      // Twice: the centroids follow the rotation of the last round before the next is sought.
      subspaces[s].step(turned, weights);
      subspaces[s].step(turned, weights);
      subspaces[s].decode(decoded);
    }
    const Eigen::MatrixXf product = decoded.transpose() * weighted;
    const Eigen::BDCSVD<Eigen::MatrixXf> svd(product, Eigen::ComputeFullU | Eigen::ComputeFullV);
    rotation = svd.matrixU() * svd.matrixV().transpose();
  }
  return rotation;
}

}  // namespace pqkv::inline PQKV_ABI
