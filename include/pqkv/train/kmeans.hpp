// KMeans: Lloyd's iterations over the rows of one subspace, a step at a time. Layer 3a.
// (Lloyd: Least Squares Quantization in PCM, 1957/1982.) Assignment is the encoder's own kernel, so that rows are assigned
// in training exactly as they are encoded later; sums are taken in double.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pqkv/base/expects.hpp"
#include "pqkv/isa/select.hpp"
#include "pqkv/train/init.hpp"
#include "pqkv/train/report.hpp"

namespace pqkv::inline PQKV_ABI {

class KMeans {
 public:
  /// `rows` [count][width] finite, at least `centroids` of them (16 or 256); `weights` ≥ 0, one per row or none.
  KMeans(RowMatrix rows, std::span<const float> weights, std::size_t centroids, Initialisation initialisation,
         std::uint64_t seed)
      : rows_(std::move(rows)), weights_(weights), codes_(count()), costs_(count()) {
    PQKV_EXPECTS(count() >= centroids && (weights.empty() || weights.size() == count()));
    Random random(seed);
    centroids_ = first_centroids(initialisation, rows_, weights_, centroids, random);
    report_.samples_per_centroid = static_cast<double>(count()) / static_cast<double>(centroids);
  }
  /// From centroids [centroid][width] that are known to be near.
  KMeans(RowMatrix rows, std::span<const float> weights, RowMatrix start)
      : rows_(std::move(rows)), weights_(weights), centroids_(std::move(start)), codes_(count()), costs_(count()) {
    PQKV_EXPECTS(rows_.cols() == centroids_.cols() && (weights.empty() || weights.size() == count()));
    report_.samples_per_centroid = static_cast<double>(count()) / static_cast<double>(centroids_.rows());
  }

  /// One iteration: assign, repair empty clusters, move centroids. Does nothing once the objective falls by less than
  /// `tolerance` of itself.
  void step(double tolerance) {
    if (report_.converged) return;
    assign();
    if (report_.ceased_to_fall(tolerance)) {
      report_.converged = true;
      return;
    }
    move(cluster_sizes());
  }

  /// Judges the final centroids.
  void finish() {
    if (!report_.converged) assign();
    report_.judge_clusters(cluster_sizes());
  }

  [[nodiscard]] bool converged() const noexcept { return report_.converged; }
  [[nodiscard]] const SubspaceReport& report() const noexcept { return report_; }
  /// Each row's centroid at the last assignment.
  [[nodiscard]] const std::vector<std::uint8_t>& codes() const noexcept { return codes_; }
  /// [centroid][width]
  [[nodiscard]] const RowMatrix& centroids() const noexcept { return centroids_; }

 private:
  [[nodiscard]] std::size_t count() const noexcept { return static_cast<std::size_t>(rows_.rows()); }
  [[nodiscard]] double weight(std::size_t row) const noexcept {
    return weights_.empty() ? 1.0 : static_cast<double>(weights_[row]);
  }

  /// Codes and costs of all rows, and the objective.
  void assign() {
    const RowMatrix by_dimension = centroids_.transpose();  // [width][centroid], as kernels and codebooks hold them
    const Eigen::VectorXf half_norms = centroids_.rowwise().squaredNorm() / 2;
    const auto width = static_cast<std::size_t>(rows_.cols());
    isa::best().nearest_centroid(rows_.data(), count(), width, width, by_dimension.data(), half_norms.data(),
                                 static_cast<std::size_t>(centroids_.rows()), codes_.data());
    double cost = 0, mass = 0;
    for (std::size_t r = 0; r < count(); ++r) {
      const auto error = rows_.row(static_cast<Eigen::Index>(r)) - centroids_.row(codes_[r]);
      costs_[r] = weight(r) * static_cast<double>(error.squaredNorm());
      cost += costs_[r];
      mass += weight(r);
    }
    report_.objective.push_back(mass > 0 ? cost / mass : 0);
  }

  [[nodiscard]] std::vector<std::size_t> cluster_sizes() const {
    std::vector<std::size_t> sizes(static_cast<std::size_t>(centroids_.rows()));
    for (const std::uint8_t code : codes_) ++sizes[code];
    return sizes;
  }

  /// Gives each empty cluster the worst served row of a cluster that can spare one, then takes means.
  void move(std::vector<std::size_t> sizes) {
    for (std::size_t c = 0; c < sizes.size(); ++c) {
      if (sizes[c] != 0) continue;
      std::size_t worst = count();
      for (std::size_t r = 0; r < count(); ++r) {
        if (sizes[codes_[r]] > 1 && costs_[r] > 0 && (worst == count() || costs_[r] > costs_[worst])) worst = r;
      }
      if (worst == count()) break;  // fewer distinct rows than centroids
      --sizes[codes_[worst]];
      codes_[worst] = static_cast<std::uint8_t>(c);
      sizes[c] = 1;
      costs_[worst] = 0;
      ++report_.repaired;
    }
    Eigen::MatrixXd sums = Eigen::MatrixXd::Zero(rows_.cols(), centroids_.rows());
    std::vector<double> masses(sizes.size());
    for (std::size_t r = 0; r < count(); ++r) {
      sums.col(codes_[r]) += weight(r) * rows_.row(static_cast<Eigen::Index>(r)).transpose().cast<double>();
      masses[codes_[r]] += weight(r);
    }
    for (std::size_t c = 0; c < sizes.size(); ++c) {
      const auto column = static_cast<Eigen::Index>(c);
      if (masses[c] > 0) centroids_.row(column) = (sums.col(column) / masses[c]).transpose().cast<float>();
    }
  }

  RowMatrix rows_;
  std::span<const float> weights_;
  RowMatrix centroids_;
  std::vector<std::uint8_t> codes_;
  std::vector<double> costs_;
  SubspaceReport report_;
};

}  // namespace pqkv::inline PQKV_ABI
