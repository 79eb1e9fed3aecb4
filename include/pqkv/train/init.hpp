// Where k-means starts: k-means++ or random rows. Layer 3a.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "pqkv/base/random.hpp"
#include "pqkv/train/metric.hpp"
#include "pqkv/train/train_options.hpp"

namespace pqkv::inline PQKV_ABI {

/// `count` distinct indices below `total`, in random order. Expects count ≤ total.
PQKV_WHEN_CALLED [[nodiscard]] std::vector<std::size_t> random_indices(std::size_t total, std::size_t count, Random& random) {
  std::vector<std::size_t> indices(total);
  std::iota(indices.begin(), indices.end(), std::size_t{0});
  for (std::size_t i = 0; i < count; ++i) std::swap(indices[i], indices[i + random.below(total - i)]);
  indices.resize(count);
  return indices;
}

PQKV_WHEN_CALLED [[nodiscard]] RowMatrix take_rows(const RowMatrix& rows, std::span<const std::size_t> indices) {
  RowMatrix out(static_cast<Eigen::Index>(indices.size()), rows.cols());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    out.row(static_cast<Eigen::Index>(i)) = rows.row(static_cast<Eigen::Index>(indices[i]));
  }
  return out;
}

/// k-means++ (Arthur, Vassilvitskii: k-means++, the Advantages of Careful Seeding, 2007). `weights` may be empty.
/// Once every row is a centroid already, the rest are drawn at random.
PQKV_WHEN_CALLED [[nodiscard]] RowMatrix plus_plus_centroids(const RowMatrix& rows, std::span<const float> weights,
                                                             std::size_t count, Random& random) {
  const auto total = static_cast<std::size_t>(rows.rows());
  RowMatrix centroids(static_cast<Eigen::Index>(count), rows.cols());
  Eigen::VectorXf nearest = Eigen::VectorXf::Constant(rows.rows(), 3.4e38f);
  const auto weight = [&](std::size_t row) { return weights.empty() ? 1.0 : static_cast<double>(weights[row]); };
  std::size_t chosen = random.below(total);
  for (std::size_t c = 0;; ++c) {
    const auto row = rows.row(static_cast<Eigen::Index>(chosen));
    centroids.row(static_cast<Eigen::Index>(c)) = row;
    if (c + 1 == count) return centroids;
    for (Eigen::Index i = 0; i < rows.rows(); ++i) {
      nearest[i] = std::min(nearest[i], (rows.row(i) - row).squaredNorm());
    }
    double sum = 0;
    for (std::size_t i = 0; i < total; ++i) sum += weight(i) * static_cast<double>(nearest[static_cast<Eigen::Index>(i)]);
    double left = random.uniform() * sum;
    chosen = total;
    for (std::size_t i = 0; i < total; ++i) {
      const double mass = weight(i) * static_cast<double>(nearest[static_cast<Eigen::Index>(i)]);
      if (mass <= 0) continue;
      chosen = i;
      left -= mass;
      if (left < 0) break;
    }
    if (chosen == total) chosen = random.below(total);
  }
}

/// `count` rows to start from. Careful choice is among 32 rows per centroid, but at least 4096, drawn at random: among more of
/// them it costs as much as iterations do and saves none.
PQKV_WHEN_CALLED [[nodiscard]] RowMatrix first_centroids(Initialisation initialisation, const RowMatrix& rows,
                                                         std::span<const float> weights, std::size_t count, Random& random) {
  constexpr std::size_t rows_per_centroid = 32, enough = 4096;
  const auto total = static_cast<std::size_t>(rows.rows());
  const bool careful = initialisation == Initialisation::plus_plus;
  const std::size_t chosen = careful ? std::min(total, std::max(enough, rows_per_centroid * count)) : count;
  const auto picks = random_indices(total, chosen, random);
  const RowMatrix sample = take_rows(rows, picks);
  if (!careful) return sample;
  std::vector<float> sample_weights;
  if (!weights.empty()) {
    for (const std::size_t pick : picks) sample_weights.push_back(weights[pick]);
  }
  return plus_plus_centroids(sample, sample_weights, count, random);
}

}  // namespace pqkv::inline PQKV_ABI
