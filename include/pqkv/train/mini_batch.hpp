// MiniBatchKMeans: k-means whose steps see a part of the rows each. Layer 3a.
// (Sculley: Web-Scale K-Means Clustering, 2010.) Rows come in an order drawn once, batch after batch, and a centroid is the
// mean of the rows that batches gave it. After each pass over the rows what it was before counts half, so that rows that it
// got when centroids were poor are forgotten.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "pqkv/train/kmeans.hpp"

namespace pqkv::inline PQKV_ABI {

class MiniBatchKMeans {
 public:
  /// As KMeans; `batch` rows per step, at least 1.
  MiniBatchKMeans(const RowMatrix& rows, std::span<const float> weights, std::size_t centroids, std::size_t batch,
                  Initialisation initialisation, std::uint64_t seed)
      : rows_(rows.rows(), rows.cols()), masses_(centroids), codes_(count()) {
    PQKV_EXPECTS(count() >= centroids && batch >= 1 && (weights.empty() || weights.size() == count()));
    batch_ = std::min(batch, count());
    Random random(seed);
    const auto order = random_indices(count(), count(), random);
    for (std::size_t r = 0; r < count(); ++r) {
      rows_.row(static_cast<Eigen::Index>(r)) = rows.row(static_cast<Eigen::Index>(order[r]));
      if (!weights.empty()) weights_.push_back(weights[order[r]]);
    }
    centroids_ = first_centroids(initialisation, rows_, weights_, centroids, random);
    report_.samples_per_centroid = static_cast<double>(count()) / static_cast<double>(centroids);
  }

  /// One batch: assign, repair centroids that no row ever chose, move centroids. Objectives are those of batches, too uneven
  /// to stop by.
  void step(double /*tolerance*/) {
    if (at_ + batch_ > count()) {
      at_ = 0;
      for (double& mass : masses_) mass /= 2;
    }
    report_.objective.push_back(assign(at_, batch_));
    move();
    at_ += batch_;
  }

  /// Judges the final centroids by all rows.
  void finish() {
    report_.objective.push_back(assign(0, count()));
    std::vector<std::size_t> sizes(masses_.size());
    for (const std::uint8_t code : codes_) ++sizes[code];
    report_.judge_clusters(sizes);
  }

  [[nodiscard]] bool converged() const noexcept { return false; }
  [[nodiscard]] const SubspaceReport& report() const noexcept { return report_; }
  /// [centroid][width]
  [[nodiscard]] const RowMatrix& centroids() const noexcept { return centroids_; }

 private:
  [[nodiscard]] std::size_t count() const noexcept { return static_cast<std::size_t>(rows_.rows()); }
  [[nodiscard]] double weight(std::size_t row) const noexcept {
    return weights_.empty() ? 1.0 : static_cast<double>(weights_[row]);
  }
  [[nodiscard]] auto error_of(std::size_t row) const {
    return rows_.row(static_cast<Eigen::Index>(row)) - centroids_.row(codes_[row]);
  }

  /// Codes of some rows; their mean cost.
  double assign(std::size_t first, std::size_t rows) {
    const RowMatrix by_dimension = centroids_.transpose();
    const Eigen::VectorXf half_norms = centroids_.rowwise().squaredNorm() / 2;
    const auto width = static_cast<std::size_t>(rows_.cols());
    isa::best().nearest_centroid(rows_.data() + first * width, rows, width, width, by_dimension.data(), half_norms.data(),
                                 masses_.size(), codes_.data() + first);
    double cost = 0, mass = 0;
    for (std::size_t r = first; r < first + rows; ++r) {
      cost += weight(r) * static_cast<double>(error_of(r).squaredNorm());
      mass += weight(r);
    }
    return mass > 0 ? cost / mass : 0;
  }

  void move() {
    const std::size_t centroids = masses_.size();
    Eigen::MatrixXd sums = Eigen::MatrixXd::Zero(rows_.cols(), static_cast<Eigen::Index>(centroids));
    std::vector<double> fresh(centroids);
    for (std::size_t r = at_; r < at_ + batch_; ++r) {
      sums.col(codes_[r]) += weight(r) * rows_.row(static_cast<Eigen::Index>(r)).transpose().cast<double>();
      fresh[codes_[r]] += weight(r);
    }
    for (std::size_t c = 0; c < centroids; ++c) {
      const auto column = static_cast<Eigen::Index>(c);
      const double mass = masses_[c] + fresh[c];
      if (fresh[c] > 0) {
        const Eigen::VectorXd before = masses_[c] * centroids_.row(column).transpose().cast<double>();
        centroids_.row(column) = ((before + sums.col(column)) / mass).transpose().cast<float>();
      } else if (mass == 0) {
        repair(column);
      }
      masses_[c] = mass;
    }
  }

  /// The worst served row of the batch becomes the centroid.
  void repair(Eigen::Index centroid) {
    std::size_t worst = at_;
    double most = 0;
    for (std::size_t r = at_; r < at_ + batch_; ++r) {
      const double cost = weight(r) * static_cast<double>(error_of(r).squaredNorm());
      if (cost > most) worst = r, most = cost;
    }
    if (most == 0) return;
    codes_[worst] = static_cast<std::uint8_t>(centroid);
    centroids_.row(centroid) = rows_.row(static_cast<Eigen::Index>(worst));
    ++report_.repaired;
  }

  RowMatrix rows_;  // in the order of the batches
  std::vector<float> weights_;
  RowMatrix centroids_;
  std::vector<double> masses_;  // of the rows that each centroid is the mean of
  std::vector<std::uint8_t> codes_;
  std::size_t batch_ = 0;
  std::size_t at_ = 0;
  SubspaceReport report_;
};

}  // namespace pqkv::inline PQKV_ABI
