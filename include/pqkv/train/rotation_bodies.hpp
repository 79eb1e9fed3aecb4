// Bodies of train/rotation.hpp: rotations that follow from moments.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <utility>

#include "pqkv/isa/select.hpp"
#include "pqkv/train/linear_algebra.hpp"
#include "pqkv/train/rotation.hpp"

namespace pqkv::inline PQKV_ABI {

PQKV_COMPILED_ONCE [[nodiscard]] RowMatrix rows_through(const RowMatrix& matrix, const RowMatrix& rows) {
  const RowMatrix transposed = matrix.transpose();
  const auto dim = static_cast<std::size_t>(matrix.rows());
  RowMatrix out = RowMatrix::Zero(rows.rows(), matrix.rows());
  isa::best().product_f32(transposed.data(), dim, dim, dim, rows.data(), dim, static_cast<std::size_t>(rows.rows()), out.data(),
                          dim);
  return out;
}

namespace detail {

/// Places for items of those loads in `bins` equal bins: the next heaviest goes to the lightest bin with room.
PQKV_WHEN_CALLED [[nodiscard]] std::vector<std::size_t> deal(const std::vector<double>& loads, std::size_t bins) {
  std::vector<std::size_t> order(loads.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return loads[a] > loads[b]; });
  const std::size_t room = loads.size() / bins;
  std::vector<double> sums(bins);
  std::vector<std::size_t> counts(bins), places(loads.size());
  for (const std::size_t item : order) {
    std::size_t lightest = bins;
    for (std::size_t b = 0; b < bins; ++b) {
      if (counts[b] < room && (lightest == bins || sums[b] < sums[lightest])) lightest = b;
    }
    places[item] = lightest * room + counts[lightest]++;
    sums[lightest] += loads[item];
  }
  return places;
}

/// Mean and covariance of rows that count by `weights` (empty: all alike).
struct Moments {
  Eigen::RowVectorXf mean;
  Eigen::MatrixXd covariance;
};
PQKV_WHEN_CALLED [[nodiscard]] Moments moments(const RowMatrix& rows, std::span<const float> weights) {
  Eigen::VectorXf mass = Eigen::VectorXf::Ones(rows.rows());
  if (!weights.empty()) mass = Eigen::Map<const Eigen::VectorXf>(weights.data(), rows.rows());
  mass /= mass.sum();
  Moments out;
  out.mean = mass.transpose() * rows;
  const RowMatrix centred = rows.rowwise() - out.mean;
  out.covariance = (centred.transpose() * mass.asDiagonal() * centred).cast<double>();
  return out;
}

}  // namespace detail

PQKV_COMPILED_ONCE [[nodiscard]] RowMatrix dealt_rotation(const RowMatrix& rows, const Rope& rope, std::size_t subspaces,
                                                          std::span<const float> weights) {
  const Eigen::Index dim = rows.cols();
  const auto width = static_cast<std::size_t>(dim) / subspaces;
  if (width % 2 != 0) return RowMatrix::Identity(dim, dim);
  const std::size_t pairs = static_cast<std::size_t>(dim) / 2;
  const auto elements = [&](std::size_t pair) {
    // Elements that RoPE leaves alone are paired with their neighbours behind the rotary part.
    return pair < rope.pairs() ? rope.elements(pair) : std::pair{2 * pair, 2 * pair + 1};
  };
  const Eigen::VectorXd variances = detail::moments(rows, weights).covariance.diagonal();
  std::vector<double> loads(pairs);
  for (std::size_t i = 0; i < pairs; ++i) {
    const auto [a, b] = elements(i);
    loads[i] = variances[static_cast<Eigen::Index>(a)] + variances[static_cast<Eigen::Index>(b)];
  }
  const auto places = detail::deal(loads, subspaces);
  RowMatrix rotation = RowMatrix::Zero(dim, dim);
  for (std::size_t i = 0; i < pairs; ++i) {
    const auto [a, b] = elements(i);
    rotation(static_cast<Eigen::Index>(2 * places[i]), static_cast<Eigen::Index>(a)) = 1;
    rotation(static_cast<Eigen::Index>(2 * places[i] + 1), static_cast<Eigen::Index>(b)) = 1;
  }
  return rotation;
}

PQKV_COMPILED_ONCE [[nodiscard]] RowMatrix balanced_rotation(const RowMatrix& rows, std::size_t subspaces,
                                                             std::span<const float> weights) {
  const SymmetricEigen axes = symmetric_eigen(detail::moments(rows, weights).covariance);
  std::vector<double> logs(static_cast<std::size_t>(rows.cols()));
  const double floor = 1e-9 * axes.values.maxCoeff() + 1e-300;
  for (std::size_t i = 0; i < logs.size(); ++i) {
    // Shifted to be positive: dealing then balances sums of logarithms, which are products of variances.
    logs[i] = std::log(std::max(axes.values[static_cast<Eigen::Index>(i)], floor) / floor);
  }
  const auto places = detail::deal(logs, subspaces);
  RowMatrix rotation(rows.cols(), rows.cols());
  for (std::size_t i = 0; i < places.size(); ++i) {
    rotation.row(static_cast<Eigen::Index>(places[i])) =
        axes.vectors.col(static_cast<Eigen::Index>(i)).transpose().cast<float>();
  }
  return rotation;
}

PQKV_COMPILED_ONCE [[nodiscard]] RowMatrix hadamard_rotation(std::size_t dim, Random& random) {
  const std::size_t block = dim & (~dim + 1);
  RowMatrix rotation = RowMatrix::Zero(static_cast<Eigen::Index>(dim), static_cast<Eigen::Index>(dim));
  const float unit = 1.0f / std::sqrt(static_cast<float>(block));
  for (std::size_t column = 0; column < dim; ++column) {
    const float sign = random.below(2) == 0 ? unit : -unit;
    for (std::size_t i = 0; i < block; ++i) {
      const bool odd = (std::popcount(i & (column % block)) & 1) != 0;
      rotation(static_cast<Eigen::Index>(column / block * block + i), static_cast<Eigen::Index>(column)) = odd ? -sign : sign;
    }
  }
  return rotation;
}

}  // namespace pqkv::inline PQKV_ABI
