// Bodies of train/query_filter.hpp: the direction that queries share.
#pragma once

#include "pqkv/train/linear_algebra.hpp"
#include "pqkv/train/metric.hpp"
#include "pqkv/train/query_filter.hpp"

namespace pqkv::inline PQKV_ABI {

PQKV_COMPILED_ONCE [[nodiscard]] Result<std::vector<float>> fit_query_filter(FloatRows queries, std::size_t group) {
  if (group == 0 || queries.count < group || queries.count % group != 0 || queries.dim == 0) {
    return Error{Errc::invalid_shape, message(queries.count, " queries of dim ", queries.dim, " are not groups of ", group)};
  }
  using Map = Eigen::Map<const RowMatrix, 0, Eigen::OuterStride<>>;
  const auto dim = static_cast<Eigen::Index>(queries.dim);
  Eigen::VectorXd filter = Eigen::VectorXd::Zero(dim);
  for (std::size_t head = 0; head < group; ++head) {
    const Eigen::MatrixXd rows = Map(queries.row(head), static_cast<Eigen::Index>(queries.count / group), dim,
                                     Eigen::OuterStride<>(static_cast<Eigen::Index>(queries.stride * group)))
                                     .cast<double>();
    // Right singular vectors of the rows are eigenvectors of their second moments; eigenvalues ascend.
    const Eigen::MatrixXd transposed = rows.transpose();
    const Eigen::VectorXd first = symmetric_eigen(transposed * rows).vectors.col(dim - 1);
    const bool most_positive = 2 * ((rows * first).array() > 0).count() >= rows.rows();
    filter += most_positive ? first : Eigen::VectorXd(-first);
  }
  filter /= static_cast<double>(group);
  const Eigen::VectorXf narrowed = filter.cast<float>();
  return std::vector<float>(narrowed.data(), narrowed.data() + dim);
}

}  // namespace pqkv::inline PQKV_ABI
