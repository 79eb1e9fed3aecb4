// fit_query_filter: the direction that a kv head's queries share, for retention/key_policies.hpp (QueryFilter). Layer 3a.
#pragma once

#include <Eigen/Eigenvalues>

#include <vector>

#include "pqkv/base/result.hpp"
#include "pqkv/base/rows.hpp"
#include "pqkv/train/metric.hpp"

namespace pqkv::inline PQKV_ABI {

/// Per query head the first right singular vector of its queries, turned so that most of them project on it positively; of
/// those unit vectors the mean over the group (Godey et al.: Q-Filters, 2025; there 3,000 random rows per head). `queries`
/// hold `group` rows per token, as attention sees them (after RoPE). Returns [dim]. Errors: invalid_shape.
[[nodiscard]] inline Result<std::vector<float>> fit_query_filter(FloatRows queries, std::size_t group) {
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
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(rows.transpose() * rows);
    const Eigen::VectorXd first = solver.eigenvectors().col(dim - 1);
    const bool most_positive = 2 * ((rows * first).array() > 0).count() >= rows.rows();
    filter += most_positive ? first : Eigen::VectorXd(-first);
  }
  filter /= static_cast<double>(group);
  const Eigen::VectorXf narrowed = filter.cast<float>();
  return std::vector<float>(narrowed.data(), narrowed.data() + dim);
}

}  // namespace pqkv::inline PQKV_ABI
