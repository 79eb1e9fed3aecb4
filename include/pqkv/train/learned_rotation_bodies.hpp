// Bodies of train/learned_rotation.hpp: the alternation of codes and rotation.
#pragma once

#include <utility>

#include "pqkv/isa/select.hpp"
#include "pqkv/train/init.hpp"
#include "pqkv/train/learned_rotation.hpp"
#include "pqkv/train/linear_algebra.hpp"
#include "pqkv/train/rotation.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// One subspace of the alternation: its centroids and what rows they stand for.
class RotatedSubspace {
 public:
  RotatedSubspace(const RowMatrix& turned, std::span<const float> weights, Eigen::Index column, Eigen::Index width,
                  std::size_t centroids, Random& random)
      : column_(column),
        book_(first_centroids(Initialisation::plus_plus, turned.middleCols(column, width), weights, centroids, random)),
        codes_(static_cast<std::size_t>(turned.rows())) {}

  /// Assigns the rows and moves the centroids to their means.
  void step(const RowMatrix& turned, std::span<const float> weights) {
    assign(turned);
    const RowMatrix sums = sums_of(turned, column_, book_.cols(), weights);
    Eigen::VectorXf masses = Eigen::VectorXf::Zero(book_.rows());
    for (std::size_t r = 0; r < codes_.size(); ++r) masses[codes_[r]] += weights.empty() ? 1.0f : weights[r];
    for (Eigen::Index c = 0; c < book_.rows(); ++c) {
      if (masses[c] > 0) book_.row(c) = sums.row(c) / masses[c];
    }
  }

  /// Σ weight · centroid ⊗ row, [width][dim]: what Procrustes needs of this subspace. By way of the rows' sums per centroid,
  /// which costs width times less than decoded rows would.
  [[nodiscard]] RowMatrix product(const RowMatrix& rows, std::span<const float> weights) const {
    return book_.transpose() * sums_of(rows, 0, rows.cols(), weights);
  }

  /// [centroid][width]
  [[nodiscard]] const RowMatrix& centroids() const noexcept { return book_; }

 private:
  void assign(const RowMatrix& turned) {
    const RowMatrix by_dimension = book_.transpose();
    const Eigen::VectorXf half_norms = book_.rowwise().squaredNorm() / 2;
    isa::best().nearest_centroid(turned.data() + column_, codes_.size(), static_cast<std::size_t>(turned.cols()),
                                 static_cast<std::size_t>(book_.cols()), by_dimension.data(), half_norms.data(),
                                 static_cast<std::size_t>(book_.rows()), codes_.data());
  }

  /// Columns of the weighted rows, summed by code: [centroid][columns].
  [[nodiscard]] RowMatrix sums_of(const RowMatrix& rows, Eigen::Index first, Eigen::Index columns,
                                  std::span<const float> weights) const {
    RowMatrix sums = RowMatrix::Zero(book_.rows(), columns);
    const auto count = static_cast<std::size_t>(columns);
    for (std::size_t r = 0; r < codes_.size(); ++r) {
      const float weight = weights.empty() ? 1.0f : weights[r];
      const float* row = rows.data() + r * static_cast<std::size_t>(rows.cols()) + first;
      float* sum = sums.data() + codes_[r] * count;
      for (std::size_t d = 0; d < count; ++d) sum[d] += weight * row[d];
    }
    return sums;
  }

  Eigen::Index column_;
  RowMatrix book_;
  std::vector<std::uint8_t> codes_;
};

}  // namespace detail

PQKV_COMPILED_ONCE [[nodiscard]] LearnedRotation learned_rotation(const RowMatrix& rows, const CodebookShape& shape, std::size_t iterations,
                                                                  std::uint64_t seed, std::span<const float> weights) {
  RowMatrix rotation = balanced_rotation(rows, shape.subspaces, weights);
  const auto width = static_cast<Eigen::Index>(shape.width());
  Random random(seed);
  std::vector<detail::RotatedSubspace> subspaces;
  for (std::size_t iteration = 0; iteration < iterations; ++iteration) {
    const RowMatrix turned = rows_through(rotation, rows);
    Eigen::MatrixXf product(rows.cols(), rows.cols());
    for (std::size_t s = 0; s < shape.subspaces; ++s) {
      const Eigen::Index column = static_cast<Eigen::Index>(s) * width;
      if (iteration == 0) subspaces.emplace_back(turned, weights, column, width, shape.centroids, random);
      // Twice: the centroids follow the rotation of the last round before the next is sought.
      subspaces[s].step(turned, weights);
      subspaces[s].step(turned, weights);
      product.middleRows(column, width) = subspaces[s].product(rows, weights);
    }
    rotation = nearest_rotation(product.cast<double>()).cast<float>();
  }
  LearnedRotation learned{std::move(rotation), {}};
  for (const auto& subspace : subspaces) {
    learned.centroids.insert(learned.centroids.end(), subspace.centroids().data(),
                             subspace.centroids().data() + subspace.centroids().size());
  }
  return learned;
}

}  // namespace pqkv::inline PQKV_ABI
