// Metric: what an error costs while centroids are sought. Layer 3a.
// A cost eᵀHe is plain squared length after a linear change of coordinates, so a metric is that change and its inverse.
#pragma once

#include <Eigen/Core>

#include <concepts>
#include <cstddef>
#include <memory>

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

/// A non-owning reference to any metric, so that trainers are compiled once for all of them.
class MetricRef {
 public:
  template <class M>
    requires(!std::same_as<M, MetricRef>) && Metric<M>
  MetricRef(const M& metric) noexcept  // NOLINT(google-explicit-constructor)
      : object_(std::addressof(metric)),
        to_([](const void* object, std::size_t subspace, RowMatrix& rows) {
          static_cast<const M*>(object)->to_euclidean(subspace, rows);
        }),
        from_([](const void* object, std::size_t subspace, RowMatrix& rows) {
          static_cast<const M*>(object)->from_euclidean(subspace, rows);
        }) {}
  void to_euclidean(std::size_t subspace, RowMatrix& rows) const { to_(object_, subspace, rows); }
  void from_euclidean(std::size_t subspace, RowMatrix& centroids) const { from_(object_, subspace, centroids); }

 private:
  const void* object_;
  void (*to_)(const void*, std::size_t, RowMatrix&);
  void (*from_)(const void*, std::size_t, RowMatrix&);
};

static_assert(Metric<EuclideanMetric> && Metric<MetricRef>);

}  // namespace pqkv::inline PQKV_ABI
