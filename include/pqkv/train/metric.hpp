// Metric: what an error costs while centroids are sought. Layer 3a.
// A cost eᵀHe is plain squared length after a linear change of coordinates, so a metric is that change and its inverse.
#pragma once

#include <Eigen/Core>

#include <concepts>
#include <cstddef>

#include "pqkv/base/config.hpp"

namespace pqkv::inline PQKV_ABI {

/// Rows of one subspace, [row][width].
using RowMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// `to_euclidean` takes the rows of a subspace into coordinates in which the cost of an error is its squared length;
/// `from_euclidean` takes centroids back.
template <class M>
concept Metric = requires(const M& metric, std::size_t subspace, RowMatrix& rows) {
  { metric.to_euclidean(subspace, rows) } -> std::same_as<void>;
  { metric.from_euclidean(subspace, rows) } -> std::same_as<void>;
};

/// Every element counts alike: plain k-means, as LOOKAT trains (Karmore, 2026).
struct EuclideanMetric {
  void to_euclidean(std::size_t /*subspace*/, RowMatrix& /*rows*/) const noexcept {}
  void from_euclidean(std::size_t /*subspace*/, RowMatrix& /*centroids*/) const noexcept {}
};

static_assert(Metric<EuclideanMetric>);

}  // namespace pqkv::inline PQKV_ABI
