// StagedKMeans: several stages of centroids whose sums stand for rows, trained together. Layer 3a.
// Each stage starts on what those before it leave; from then on rows are assigned sums by the encoder's own search, and all
// stages move at once to the least squares for these codes (Babenko, Lempitsky: Additive Quantization for Extreme Vector
// Compression, 2014). A row keeps its codes where the search finds nothing nearer, so that the objective never rises.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "pqkv/codec/nearest_sums.hpp"
#include "pqkv/train/linear_algebra.hpp"
#include "pqkv/train/mini_batch.hpp"

namespace pqkv::inline PQKV_ABI {

class StagedKMeans {
 public:
  /// As KMeans; `centroids` of each of `stages` (at least 2). `start`: where the first stage starts, or empty.
  StagedKMeans(RowMatrix rows, std::span<const float> weights, std::size_t centroids, std::size_t stages,
               Initialisation initialisation, std::uint64_t seed, const RowMatrix& start)
      : rows_(std::move(rows)),
        weights_(weights),
        per_stage_(centroids),
        stages_(stages),
        codes_(stages * count()),
        centroids_(index(stages * centroids), rows_.cols()) {
    RowMatrix left = rows_;
    for (std::size_t stage = 0; stage < stages; ++stage) {
      KMeans one = stage == 0 && start.size() != 0 ? KMeans(left, weights_, start)
                                                   : KMeans(left, weights_, centroids, initialisation, seed + stage);
      for (std::size_t step = 0; step < first_steps; ++step) one.step(0);
      one.finish();
      centroids_.middleRows(index(stage * centroids), index(centroids)) = one.centroids();
      for (std::size_t r = 0; r < count(); ++r) left.row(index(r)) -= one.centroids().row(one.codes()[r]);
    }
    report_.samples_per_centroid = static_cast<double>(count()) / static_cast<double>(centroids);
  }

  void step(double tolerance) {
    if (report_.converged) return;
    assign();
    if (report_.ceased_to_fall(std::max(tolerance, least_fall))) {
      report_.converged = true;
      return;
    }
    move();
  }

  /// Judges the final centroids; the clusters are those of every stage.
  void finish() {
    if (!report_.converged) assign();
    std::vector<std::size_t> sizes(stages_ * per_stage_);
    for (std::size_t r = 0; r < count(); ++r) {
      for (std::size_t stage = 0; stage < stages_; ++stage) ++sizes[centroid(r, stage)];
    }
    report_.judge_clusters(sizes);
  }

  [[nodiscard]] bool converged() const noexcept { return report_.converged; }
  [[nodiscard]] const SubspaceReport& report() const noexcept { return report_; }
  /// [stage · centroids][width]
  [[nodiscard]] const RowMatrix& centroids() const noexcept { return centroids_; }

 private:
  static constexpr std::size_t first_steps = 6;
  static constexpr double unknown = 1e300;
  static constexpr double least_fall = 2e-3;  // long tails of small gains are not worth their searches

  [[nodiscard]] static Eigen::Index index(std::size_t i) noexcept { return static_cast<Eigen::Index>(i); }
  [[nodiscard]] std::size_t count() const noexcept { return static_cast<std::size_t>(rows_.rows()); }
  [[nodiscard]] double weight(std::size_t row) const noexcept {
    return weights_.empty() ? 1.0 : static_cast<double>(weights_[row]);
  }
  /// Which row of centroids_ a row has in a stage.
  [[nodiscard]] std::size_t centroid(std::size_t row, std::size_t stage) const noexcept {
    return stage * per_stage_ + codes_[stage * count() + row];
  }
  /// What a row's codes, [stage][row], leave of it, and the squared length of that.
  double left_of(std::size_t row, const std::vector<std::uint8_t>& codes, float* left) const {
    const auto width = static_cast<std::size_t>(rows_.cols());
    std::copy_n(rows_.data() + row * width, width, left);
    for (std::size_t stage = 0; stage < stages_; ++stage) {
      const float* centroid = centroids_.data() + (stage * per_stage_ + codes[stage * count() + row]) * width;
      for (std::size_t d = 0; d < width; ++d) left[d] -= centroid[d];
    }
    double square = 0;
    for (std::size_t d = 0; d < width; ++d) square += static_cast<double>(left[d]) * static_cast<double>(left[d]);
    return square;
  }

  void assign() {
    const auto width = static_cast<std::size_t>(rows_.cols());
    std::vector<float> by_dimension;  // [stage][width][centroid]
    by_dimension.reserve(static_cast<std::size_t>(centroids_.size()));
    for (std::size_t stage = 0; stage < stages_; ++stage) {
      for (std::size_t d = 0; d < width; ++d) {
        for (std::size_t c = 0; c < per_stage_; ++c) by_dimension.push_back(centroids_(index(stage * per_stage_ + c), index(d)));
      }
    }
    const Eigen::VectorXf half_norms = centroids_.rowwise().squaredNorm() / 2;
    CentroidStages book;
    book.centroids = by_dimension.data();
    book.half_norms = half_norms.data();
    book.width = width;
    book.count = per_stage_;
    book.stages = stages_;
    std::vector<std::uint8_t> found(codes_.size());
    nearest_sums(book, rows_.data(), count(), width, found.data(), count());
    double cost = 0, mass = 0;
    for (std::size_t r = 0; r < count(); ++r) {
      float left[CodebookShape::max_staged_width];
      const double now = left_of(r, found, left);
      const double before = known_ ? left_of(r, codes_, left) : unknown;
      if (now < before) {
        for (std::size_t stage = 0; stage < stages_; ++stage) codes_[stage * count() + r] = found[stage * count() + r];
      }
      cost += weight(r) * std::min(now, before);
      mass += weight(r);
    }
    known_ = true;
    report_.objective.push_back(mass > 0 ? cost / mass : 0);
  }

  /// The least squares for the codes, of those the nearest to where the centroids are (a centroid that no row has stays).
  void move() {
    const Eigen::Index all = centroids_.rows();
    Eigen::MatrixXd together = Eigen::MatrixXd::Zero(all, all);  // how much weight two centroids share
    Eigen::MatrixXd left = Eigen::MatrixXd::Zero(all, rows_.cols());
    double mass = 0;
    for (std::size_t r = 0; r < count(); ++r) {
      float error[CodebookShape::max_staged_width];
      left_of(r, codes_, error);
      for (std::size_t stage = 0; stage < stages_; ++stage) {
        const Eigen::Index mine = index(centroid(r, stage));
        for (Eigen::Index d = 0; d < rows_.cols(); ++d) left(mine, d) += weight(r) * static_cast<double>(error[d]);
        for (std::size_t other = 0; other < stages_; ++other) together(mine, index(centroid(r, other))) += weight(r);
      }
      mass += weight(r);
    }
    together.diagonal().array() += 1e-3 * std::max(mass, 1e-300) / static_cast<double>(per_stage_);
    centroids_ += solve_positive(together, left).cast<float>();
  }

  RowMatrix rows_;
  std::span<const float> weights_;
  std::size_t per_stage_;
  std::size_t stages_;
  std::vector<std::uint8_t> codes_;  // [stage][row]
  bool known_ = false;  // codes_ hold an assignment
  RowMatrix centroids_;
  SubspaceReport report_;
};

/// What trains one subspace: KMeans, MiniBatchKMeans where `batch` is not 0, or StagedKMeans where there are several stages
/// (which know no batches).
class SubspaceTrainer {
 public:
  /// `start`: centroids (of the first stage) to start from, or empty; batches do without.
  SubspaceTrainer(RowMatrix rows, std::span<const float> weights, const CodebookShape& shape, Initialisation initialisation,
                  std::uint64_t seed, std::size_t batch, RowMatrix start)
      : trainer_(shape.stages > 1
                     ? Trainer(std::in_place_type<StagedKMeans>, std::move(rows), weights, shape.centroids, shape.stages,
                               initialisation, seed, start)
                 : batch != 0
                     ? Trainer(std::in_place_type<MiniBatchKMeans>, rows, weights, shape.centroids, batch, initialisation, seed)
                 : start.size() != 0
                     ? Trainer(std::in_place_type<KMeans>, std::move(rows), weights, std::move(start))
                     : Trainer(std::in_place_type<KMeans>, std::move(rows), weights, shape.centroids, initialisation, seed)) {}

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
  using Trainer = std::variant<KMeans, MiniBatchKMeans, StagedKMeans>;
  Trainer trainer_;
};

}  // namespace pqkv::inline PQKV_ABI
