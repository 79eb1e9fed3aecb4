// Rotations in front of a product quantiser: which coordinates share a subspace. Layer 3a.
//   dealt    pairs of coordinates dealt so that every subspace carries a like share of the energy; only a permutation
//   learned  OPQ (Ge, He, Ke, Sun: Optimized Product Quantization, 2013): start from principal axes allotted so that the
//            products of their variances are alike, then alternate codes and the best rotation for them
#pragma once

#include <Eigen/Eigenvalues>
#include <Eigen/SVD>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "pqkv/codec/codebook_request.hpp"
#include "pqkv/isa/select.hpp"
#include "pqkv/train/init.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// Places for items of those loads in `bins` equal bins: the next heaviest goes to the lightest bin with room.
[[nodiscard]] inline std::vector<std::size_t> deal(const std::vector<double>& loads, std::size_t bins) {
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

}  // namespace detail

/// A permutation matrix that keeps pairs (as `rope` makes them; neighbours without one) together. Identity where a
/// subspace has no room for whole pairs.
[[nodiscard]] inline RowMatrix dealt_rotation(const RowMatrix& rows, const Rope& rope, std::size_t subspaces) {
  const Eigen::Index dim = rows.cols();
  const auto width = static_cast<std::size_t>(dim) / subspaces;
  if (width % 2 != 0) return RowMatrix::Identity(dim, dim);
  const std::size_t pairs = static_cast<std::size_t>(dim) / 2;
  const auto elements = [&](std::size_t pair) {
    // Elements that RoPE leaves alone are paired with their neighbours behind the rotary part.
    return pair < rope.pairs() ? rope.elements(pair) : std::pair{2 * pair, 2 * pair + 1};
  };
  const Eigen::RowVectorXf means = rows.colwise().mean();
  const Eigen::RowVectorXf variances = (rows.rowwise() - means).array().square().colwise().mean();
  std::vector<double> loads(pairs);
  for (std::size_t i = 0; i < pairs; ++i) {
    const auto [a, b] = elements(i);
    loads[i] = static_cast<double>(variances[static_cast<Eigen::Index>(a)] + variances[static_cast<Eigen::Index>(b)]);
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

/// An orthogonal matrix R such that the rows times Rᵀ suit a product quantiser of that shape.
[[nodiscard]] inline RowMatrix learned_rotation(const RowMatrix& rows, const CodebookShape& shape, std::size_t iterations,
                                                std::uint64_t seed) {
  const Eigen::Index dim = rows.cols();
  const Eigen::Index count = rows.rows();
  const Eigen::RowVectorXf means = rows.colwise().mean();
  const Eigen::MatrixXd centred = (rows.rowwise() - means).cast<double>();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> axes(centred.transpose() * centred / static_cast<double>(count));
  std::vector<double> logs(static_cast<std::size_t>(dim));
  const double floor = 1e-9 * axes.eigenvalues().maxCoeff() + 1e-300;
  for (std::size_t i = 0; i < logs.size(); ++i) {
    // Shifted to be positive: dealing then balances sums of logarithms, which are products of variances.
    logs[i] = std::log(std::max(axes.eigenvalues()[static_cast<Eigen::Index>(i)], floor) / floor);
  }
  const auto places = detail::deal(logs, shape.subspaces);
  RowMatrix rotation(dim, dim);
  for (std::size_t i = 0; i < places.size(); ++i) {
    rotation.row(static_cast<Eigen::Index>(places[i])) =
        axes.eigenvectors().col(static_cast<Eigen::Index>(i)).transpose().cast<float>();
  }

  const auto width = static_cast<Eigen::Index>(shape.width());
  const auto centroids = static_cast<Eigen::Index>(shape.centroids);
  Random random(seed);
  std::vector<RowMatrix> books(shape.subspaces);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(count));
  RowMatrix decoded(count, dim);
  for (std::size_t iteration = 0; iteration < iterations; ++iteration) {
    const RowMatrix turned = rows * rotation.transpose();
    for (std::size_t s = 0; s < shape.subspaces; ++s) {
      const Eigen::Index column = static_cast<Eigen::Index>(s) * width;
      RowMatrix& book = books[s];
      if (iteration == 0) {
        book.resize(centroids, width);
        const auto picks = random_indices(static_cast<std::size_t>(count), shape.centroids, random);
        for (Eigen::Index c = 0; c < centroids; ++c) {
          book.row(c) = turned.row(static_cast<Eigen::Index>(picks[static_cast<std::size_t>(c)])).segment(column, width);
        }
      }
      // Twice: the centroids follow the rotation of the last round before the next is sought.
      for (int round = 0; round < 2; ++round) {
        const RowMatrix by_dimension = book.transpose();
        const Eigen::VectorXf half_norms = book.rowwise().squaredNorm() / 2;
        isa::best().nearest_centroid(turned.data() + column, static_cast<std::size_t>(count), static_cast<std::size_t>(dim),
                                     shape.width(), by_dimension.data(), half_norms.data(), shape.centroids, codes.data());
        RowMatrix sums = RowMatrix::Zero(centroids, width);
        Eigen::VectorXf sizes = Eigen::VectorXf::Zero(centroids);
        for (Eigen::Index r = 0; r < count; ++r) {
          const Eigen::Index code = codes[static_cast<std::size_t>(r)];
          sums.row(code) += turned.row(r).segment(column, width);
          sizes[code] += 1;
        }
        for (Eigen::Index c = 0; c < centroids; ++c) {
          if (sizes[c] > 0) book.row(c) = sums.row(c) / sizes[c];
        }
      }
      for (Eigen::Index r = 0; r < count; ++r) {
        decoded.row(r).segment(column, width) = book.row(codes[static_cast<std::size_t>(r)]);
      }
    }
    // Orthogonal Procrustes: the rotation that brings the rows nearest to what their codes say.
    const Eigen::MatrixXf product = decoded.transpose() * rows;
    const Eigen::BDCSVD<Eigen::MatrixXf> svd(product, Eigen::ComputeFullU | Eigen::ComputeFullV);
    rotation = svd.matrixU() * svd.matrixV().transpose();
  }
  return rotation;
}

}  // namespace pqkv::inline PQKV_ABI
