// ResidualKMeans: two stages of 16 centroids whose sums stand for rows (Pq44Keys), trained together. Layer 3a.
// The second stage starts on what the first leaves; from then on every row is assigned the best of the 256 sums, and each
// stage moves to the means of what the other leaves of its rows: k-means on sums, whose objective never rises
// (Babenko, Lempitsky: Additive Quantization for Extreme Vector Compression, 2014, for two codebooks searched in full).
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "pqkv/train/mini_batch.hpp"

namespace pqkv::inline PQKV_ABI {

class ResidualKMeans {
 public:
  static constexpr std::size_t stage = 16;

  /// As KMeans, for 2 · 16 centroids: the first stage's, then the second's.
  ResidualKMeans(RowMatrix rows, std::span<const float> weights, Initialisation initialisation, std::uint64_t seed)
      : rows_(std::move(rows)), weights_(weights), codes_(count()) {
    centroids_.resize(2 * stage, rows_.cols());
    RowMatrix left = rows_;
    for (std::size_t i = 0; i < 2; ++i) {
      KMeans one(left, weights_, stage, initialisation, seed + i);
      for (std::size_t step = 0; step < first_steps; ++step) one.step(0);
      centroids_.middleRows(static_cast<Eigen::Index>(i * stage), stage) = one.centroids();
      if (i == 1) break;
      const RowMatrix by_dimension = one.centroids().transpose();
      nearest(by_dimension, one.centroids(), stage);
      for (std::size_t r = 0; r < count(); ++r) left.row(index(r)) -= one.centroids().row(codes_[r]);
    }
    report_.samples_per_centroid = static_cast<double>(count()) / static_cast<double>(stage * stage);
  }

  void step(double tolerance) {
    if (report_.converged) return;
    assign();
    const auto& objective = report_.objective;
    if (objective.size() > 1 && objective[objective.size() - 2] - objective.back() <= tolerance * objective.back()) {
      report_.converged = true;
      return;
    }
    move(0);
    move(1);
  }

  /// Judges the final centroids; clusters are those of the 256 sums.
  void finish() {
    if (!report_.converged) assign();
    std::vector<std::size_t> sizes(stage * stage);
    for (const std::uint8_t code : codes_) ++sizes[code];
    double squares = 0;
    report_.smallest_cluster = count();
    for (const std::size_t size : sizes) {
      squares += static_cast<double>(size) * static_cast<double>(size);
      report_.smallest_cluster = std::min(report_.smallest_cluster, size);
      report_.largest_cluster = std::max(report_.largest_cluster, size);
    }
    const auto total = static_cast<double>(count());
    report_.imbalance = static_cast<double>(sizes.size()) * squares / (total * total);
  }

  [[nodiscard]] bool converged() const noexcept { return report_.converged; }
  [[nodiscard]] const SubspaceReport& report() const noexcept { return report_; }
  [[nodiscard]] const RowMatrix& centroids() const noexcept { return centroids_; }

 private:
  static constexpr std::size_t first_steps = 8;

  [[nodiscard]] static Eigen::Index index(std::size_t i) noexcept { return static_cast<Eigen::Index>(i); }
  [[nodiscard]] std::size_t count() const noexcept { return static_cast<std::size_t>(rows_.rows()); }
  [[nodiscard]] double weight(std::size_t row) const noexcept {
    return weights_.empty() ? 1.0 : static_cast<double>(weights_[row]);
  }
  /// The stage's centroid of a row: the upper half of a code is the first stage's.
  [[nodiscard]] Eigen::Index chosen(std::size_t row, std::size_t which) const noexcept {
    return index(which == 0 ? codes_[row] / stage : stage + codes_[row] % stage);
  }

  void nearest(const RowMatrix& by_dimension, const RowMatrix& centroids, std::size_t centroid_count) {
    const Eigen::VectorXf half_norms = centroids.rowwise().squaredNorm() / 2;
    const auto width = static_cast<std::size_t>(rows_.cols());
    isa::best().nearest_centroid(rows_.data(), count(), width, width, by_dimension.data(), half_norms.data(), centroid_count,
                                 codes_.data());
  }

  void assign() {
    RowMatrix sums(stage * stage, rows_.cols());
    for (std::size_t i = 0; i < stage * stage; ++i) {
      sums.row(index(i)) = centroids_.row(index(i / stage)) + centroids_.row(index(stage + i % stage));
    }
    nearest(sums.transpose(), sums, stage * stage);
    double cost = 0, mass = 0;
    for (std::size_t r = 0; r < count(); ++r) {
      cost += weight(r) * static_cast<double>((rows_.row(index(r)) - sums.row(codes_[r])).squaredNorm());
      mass += weight(r);
    }
    report_.objective.push_back(mass > 0 ? cost / mass : 0);
  }

  /// A stage's centroids to the means of what the other stage leaves; one that no row chose stays.
  void move(std::size_t which) {
    Eigen::MatrixXd sums = Eigen::MatrixXd::Zero(rows_.cols(), stage);
    std::vector<double> masses(stage);
    for (std::size_t r = 0; r < count(); ++r) {
      const Eigen::Index mine = chosen(r, which) - index(which * stage);
      sums.col(mine) += weight(r) * (rows_.row(index(r)) - centroids_.row(chosen(r, 1 - which))).transpose().cast<double>();
      masses[static_cast<std::size_t>(mine)] += weight(r);
    }
    for (std::size_t c = 0; c < stage; ++c) {
      if (masses[c] > 0) {
        centroids_.row(index(which * stage + c)) = (sums.col(index(c)) / masses[c]).transpose().cast<float>();
      }
    }
  }

  RowMatrix rows_;
  std::span<const float> weights_;
  RowMatrix centroids_;
  std::vector<std::uint8_t> codes_;
  SubspaceReport report_;
};

/// What trains one subspace: KMeans, MiniBatchKMeans where `batch` is not 0, or ResidualKMeans where 32 centroids mean two
/// stages (which know no batches).
class SubspaceTrainer {
 public:
  SubspaceTrainer(RowMatrix rows, std::span<const float> weights, std::size_t centroids, Initialisation initialisation,
                  std::uint64_t seed, std::size_t batch = 0)
      : trainer_(centroids == 2 * ResidualKMeans::stage
                     ? Trainer(std::in_place_type<ResidualKMeans>, std::move(rows), weights, initialisation, seed)
                 : batch != 0
                     ? Trainer(std::in_place_type<MiniBatchKMeans>, rows, weights, centroids, batch, initialisation, seed)
                     : Trainer(std::in_place_type<KMeans>, std::move(rows), weights, centroids, initialisation, seed)) {}

  void step(double tolerance) {
    std::visit([=](auto& trainer) { trainer.step(tolerance); }, trainer_);
  }
  void finish() {
    std::visit([](auto& trainer) { trainer.finish(); }, trainer_);
  }
  [[nodiscard]] bool converged() const {
    return std::visit([](const auto& trainer) { return trainer.converged(); }, trainer_);
  }
  [[nodiscard]] const SubspaceReport& report() const {
    return std::visit([](const auto& trainer) -> const SubspaceReport& { return trainer.report(); }, trainer_);
  }
  [[nodiscard]] const RowMatrix& centroids() const {
    return std::visit([](const auto& trainer) -> const RowMatrix& { return trainer.centroids(); }, trainer_);
  }

 private:
  using Trainer = std::variant<KMeans, MiniBatchKMeans, ResidualKMeans>;
  Trainer trainer_;
};

}  // namespace pqkv::inline PQKV_ABI
