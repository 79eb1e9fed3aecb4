// Fitting: the space in which a head's codebook is trained, from sample rows and the queries that read them. Layer 3a.
// What is minimised is not the error of keys but of scores: E[(q·(k − k̂))²] = (k − k̂)ᵀ·H·(k − k̂), H = E[q·qᵀ], which is
// plain squared length after x = H^½·k (as in A2ATS and CQ; methods.md of the project's design has the evidence).
#pragma once

#include <Eigen/Eigenvalues>
#include <Eigen/LU>
#include <Eigen/SVD>

#include <cmath>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "pqkv/train/choose_rotation.hpp"
#include "pqkv/train/fit_samples.hpp"
#include "pqkv/train/mass.hpp"
#include "pqkv/train/train_codebook.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// [rows][dim], turned back by the origin of each row's run and less the mean.
[[nodiscard]] inline RowMatrix turned_rows(const FitSamples& samples, const CodeSpaceParts& parts) {
  const std::size_t dim = parts.dim;
  RowMatrix out(static_cast<Eigen::Index>(samples.rows.count), static_cast<Eigen::Index>(dim));
  std::vector<float> mean(dim);
  const std::size_t rank = parts.term_basis.size() / dim;
  for (std::size_t r = 0; r < samples.rows.count; ++r) {
    float* row = out.data() + r * dim;
    std::memcpy(row, samples.rows.row(r), dim * sizeof(float));
    std::size_t offset = 0;
    if (parts.rope.pairs() != 0) {
      const auto run = static_cast<std::int64_t>(parts.run_tokens);
      offset = static_cast<std::size_t>(samples.positions[r] % run);
      parts.rope.turn(-static_cast<double>(samples.positions[r] - static_cast<std::int64_t>(offset)), row);
    }
    if (parts.mean.empty()) continue;
    if (rank == 0) {
      for (std::size_t d = 0; d < dim; ++d) row[d] -= parts.mean[d];
      continue;
    }
    for (std::size_t i = 0; i < rank; ++i) {
      const float factor = parts.term_rows[offset * rank + i];
      for (std::size_t d = 0; d < dim; ++d) row[d] -= factor * parts.term_basis[i * dim + d];
    }
  }
  return out;
}

/// The mean of rows before rotation, and R(j)·μ for j < run_tokens as a product of low rank: the smallest whose error is
/// below 1 % of the mean. (Any rank is exact: what is subtracted before coding is what is added to scores.)
inline void fit_mean(const FitSamples& samples, CodeSpaceParts& parts) {
  const std::size_t dim = parts.dim;
  Eigen::VectorXd sum = Eigen::VectorXd::Zero(static_cast<Eigen::Index>(dim));
  std::vector<float> row(dim);
  for (std::size_t r = 0; r < samples.rows.count; ++r) {
    std::memcpy(row.data(), samples.rows.row(r), dim * sizeof(float));
    if (parts.rope.pairs() != 0) parts.rope.turn(-static_cast<double>(samples.positions[r]), row.data());
    for (std::size_t d = 0; d < dim; ++d) sum[static_cast<Eigen::Index>(d)] += static_cast<double>(row[d]);
  }
  parts.mean.resize(dim);
  for (std::size_t d = 0; d < dim; ++d) {
    parts.mean[d] = static_cast<float>(sum[static_cast<Eigen::Index>(d)] / static_cast<double>(samples.rows.count));
  }
  if (parts.rope.pairs() == 0) return;
  const std::size_t run = parts.run_tokens;
  RowMatrix curve(static_cast<Eigen::Index>(run), static_cast<Eigen::Index>(dim));
  for (std::size_t j = 0; j < run; ++j) {
    std::memcpy(curve.data() + j * dim, parts.mean.data(), dim * sizeof(float));
    parts.rope.turn(static_cast<double>(j), curve.data() + j * dim);
  }
  const Eigen::BDCSVD<Eigen::MatrixXf> svd(curve, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Eigen::VectorXf& values = svd.singularValues();
  const float all = values.squaredNorm();
  Eigen::Index rank = 0;
  for (float kept = 0; rank < values.size() && all - kept > 1e-4f * all; ++rank) kept += values[rank] * values[rank];
  rank = std::min<Eigen::Index>((std::max<Eigen::Index>(rank, 1) + 7) / 8 * 8, values.size());  // whole registers
  const RowMatrix rows = svd.matrixU().leftCols(rank) * values.head(rank).asDiagonal();
  const RowMatrix basis = svd.matrixV().leftCols(rank).transpose();
  parts.term_rows.assign(rows.data(), rows.data() + rows.size());
  parts.term_basis.assign(basis.data(), basis.data() + basis.size());
}

/// E[q·qᵀ] of queries as runs see them: turned back by origins drawn evenly from those before the query.
[[nodiscard]] inline RowMatrix query_metric(const FitSamples& samples, const CodeSpaceParts& parts, Random& random) {
  const std::size_t dim = parts.dim;
  Eigen::MatrixXd sum = Eigen::MatrixXd::Zero(static_cast<Eigen::Index>(dim), static_cast<Eigen::Index>(dim));
  std::vector<float> query(dim);
  for (std::size_t q = 0; q < samples.queries.count; ++q) {
    std::memcpy(query.data(), samples.queries.row(q), dim * sizeof(float));
    if (parts.rope.pairs() != 0) {
      const std::int64_t position = samples.positions[q / samples.group];
      const auto runs = static_cast<std::size_t>(position) / parts.run_tokens + 1;
      parts.rope.turn(-static_cast<double>(random.below(runs) * parts.run_tokens), query.data());
    }
    const Eigen::Map<const Eigen::VectorXf> vector(query.data(), static_cast<Eigen::Index>(dim));
    sum.selfadjointView<Eigen::Lower>().rankUpdate(vector.cast<double>());
  }
  return RowMatrix(Eigen::MatrixXd(sum.selfadjointView<Eigen::Lower>()).cast<float>());
}

/// M^½ of a symmetric matrix, scaled to a mean eigenvalue of 1 and kept away from singular: no direction counts less than
/// a hundredth of the average.
[[nodiscard]] inline RowMatrix square_root(const RowMatrix& matrix) {
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(matrix.cast<double>());
  const double mean = std::max(solver.eigenvalues().mean(), 1e-300);
  const Eigen::VectorXd roots = (solver.eigenvalues() / mean).cwiseMax(0.0).array() + 1e-2;
  return RowMatrix(
      (solver.eigenvectors() * roots.cwiseSqrt().asDiagonal() * solver.eigenvectors().transpose()).cast<float>());
}

/// Rows of length 1, each weighing as the square of what it had: the error of a row is its length times that of its shape.
inline void to_unit_length(RowMatrix& rows, std::vector<float>& weights) {
  weights.resize(static_cast<std::size_t>(rows.rows()), 1.0f);
  for (Eigen::Index r = 0; r < rows.rows(); ++r) {
    const float length = rows.row(r).norm();
    weights[static_cast<std::size_t>(r)] *= length * length;
    if (length > 0) rows.row(r) /= length;
  }
}

}  // namespace detail

/// What fitting decided.
struct FitReport {
  RotationChoice rotation;
  float mass_factor = 0;  ///< on the mass correction; 0: off, or not asked for
};

struct FittedSpace {
  std::shared_ptr<const CodeSpace> space;
  RowMatrix rows;  ///< the samples in it; of unit length where it has lengths apart
  std::vector<float> weights;  ///< how much each row counts; empty: all alike
  RotationChoice rotation;
};

struct FittedCodebook : TrainedCodebook {
  FitReport fit;
};

/// The space for a codebook of that shape. Errors: invalid_parameter where an option lacks what it needs.
[[nodiscard]] inline Result<FittedSpace> fit_code_space(const FitSamples& samples, const FitOptions& options,
                                                        const CodebookShape& shape, std::uint64_t seed) {
  if (Status status = detail::check_fit(samples, options, shape.dim); !status) return status.error();
  CodeSpaceParts parts;
  parts.dim = shape.dim;
  if (options.run_tokens != 0) {
    parts.rope = samples.rope;
    parts.run_tokens = options.run_tokens;
  }
  if (options.centre) detail::fit_mean(samples, parts);
  RowMatrix rows = detail::turned_rows(samples, parts);
  Random random(seed);
  RowMatrix forward = RowMatrix::Identity(rows.cols(), rows.cols());
  if (options.metric) {
    const bool given = samples.value_metric.size() != 0;
    forward = detail::square_root(given ? samples.value_metric : detail::query_metric(samples, parts, random));
    rows = rows_through(forward, rows);
  }
  std::vector<float> weights;
  if (options.importance) weights.assign(samples.importance.begin(), samples.importance.end());
  if (options.gain) {
    const float typical = std::sqrt(std::max(rows.squaredNorm() / static_cast<float>(rows.rows()), 1e-30f));
    forward /= typical;
    rows /= typical;
    detail::to_unit_length(rows, weights);
    parts.unit_length = true;
  }
  RotationChoice rotation = choose_rotation(rows, parts.rope, shape, options.rotation, random.next(), weights);
  if (rotation.chosen != Rotation::none) {
    forward = rotation.matrix * forward;
    rows = rows_through(rotation.matrix, rows);
  }
  if (options.metric || options.gain || rotation.chosen != Rotation::none) {
    const RowMatrix inverse = forward.cast<double>().inverse().cast<float>();
    parts.forward.assign(forward.data(), forward.data() + forward.size());
    parts.inverse.assign(inverse.data(), inverse.data() + inverse.size());
  }
  auto space = CodeSpace::make(std::move(parts));
  if (!space) return space.error();
  return FittedSpace{std::move(*space), std::move(rows), std::move(weights), std::move(rotation)};
}

/// A codebook in the space that the options ask for, with its mass correction; plain train_codebook when they ask for
/// nothing, and the space alone for a shape without centroids (CodebookShape::of_space).
[[nodiscard]] inline Result<FittedCodebook> train_fitted(const FitSamples& samples, const FitOptions& fit,
                                                         const CodebookShape& shape, const TrainOptions& options = {}) {
  FittedCodebook fitted;
  if (!fit.any()) {
    auto trained = train_codebook(samples.rows, shape, options);
    if (!trained) return trained.error();
    static_cast<TrainedCodebook&>(fitted) = std::move(*trained);
    return fitted;
  }
  if (Status status = detail::check_training_rows(samples.rows, shape, options); !status) return status.error();
  auto space = fit_code_space(samples, fit, shape, options.seed);
  if (!space) return space.error();
  fitted.fit.rotation = space->rotation;
  if (shape.is_space()) {
    auto codebook = Codebook::make(shape, {}, space->space);
    if (!codebook) return codebook.error();
    fitted.codebook = std::move(*codebook);
    return fitted;
  }
  TrainOptions weighted = options;
  if (!space->weights.empty()) weighted.weights = space->weights;
  const std::vector<float>& start = space->rotation.centroids;
  if (options.start.empty() && start.size() == shape.dim * shape.centroids) weighted.start = start;
  auto trained = train_codebook({space->rows.data(), samples.rows.count, shape.dim}, shape, weighted);
  if (!trained) return trained.error();
  const float* first = trained->codebook->centroids(0);
  const std::vector<float> centroids(first, first + shape.floats());
  auto codebook = Codebook::make(shape, centroids, space->space);
  if (codebook && fit.mass) {
    const std::vector<std::uint8_t> codes = nearest_codes(space->rows, **codebook);
    std::vector<float> gains = detail::mass_gains(space->rows, **codebook, codes);
    fitted.fit.mass_factor = fit_mass_factor(samples, **codebook, codes, gains);
    for (float& gain : gains) gain *= fitted.fit.mass_factor;
    if (fitted.fit.mass_factor != 0) codebook = Codebook::make(shape, centroids, space->space, std::move(gains));
  }
  if (!codebook) return codebook.error();
  fitted.codebook = std::move(*codebook);
  fitted.subspaces = std::move(trained->subspaces);
  return fitted;
}

}  // namespace pqkv::inline PQKV_ABI
