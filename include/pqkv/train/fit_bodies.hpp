// Bodies of train/fit.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "pqkv/train/codes.hpp"
#include "pqkv/train/fit.hpp"
#include "pqkv/train/linear_algebra.hpp"
#include "pqkv/train/mass.hpp"
#include "pqkv/train/rotation.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

PQKV_COMPILED_ONCE [[nodiscard]] RowMatrix turned_rows(const FitSamples& samples, const CodeSpaceParts& parts) {
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
PQKV_WHEN_CALLED void fit_mean(const FitSamples& samples, CodeSpaceParts& parts) {
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
  // curve = U·S·Vᵀ; V are eigenvectors of curveᵀ·curve, the largest eigenvalue last, and U·S = curve·V.
  const Eigen::MatrixXd points = curve.cast<double>(), transposed = points.transpose();
  const SymmetricEigen axes = symmetric_eigen(transposed * points);
  const Eigen::Index most = std::min(points.rows(), points.cols());
  const double all = axes.values.sum();
  Eigen::Index rank = 0;
  for (double kept = 0; rank < most && all - kept > 1e-4 * all; ++rank) kept += axes.values[points.cols() - 1 - rank];
  rank = std::min<Eigen::Index>((std::max<Eigen::Index>(rank, 1) + 7) / 8 * 8, most);  // whole registers
  const Eigen::MatrixXd vectors = axes.vectors.rowwise().reverse().leftCols(rank);
  const RowMatrix rows = Eigen::MatrixXd(points * vectors).cast<float>();
  const RowMatrix basis = vectors.transpose().cast<float>();
  parts.term_rows.assign(rows.data(), rows.data() + rows.size());
  parts.term_basis.assign(basis.data(), basis.data() + basis.size());
}

/// E[q·qᵀ] of queries as runs see them: turned back by origins drawn evenly from those before the query.
PQKV_WHEN_CALLED [[nodiscard]] RowMatrix query_metric(const FitSamples& samples, const CodeSpaceParts& parts, Random& random) {
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
PQKV_WHEN_CALLED [[nodiscard]] RowMatrix square_root(const RowMatrix& matrix) {
  const auto [values, vectors] = symmetric_eigen(matrix.cast<double>());
  const double mean = std::max(values.mean(), 1e-300);
  Eigen::MatrixXd scaled = vectors;
  for (Eigen::Index i = 0; i < values.size(); ++i) scaled.col(i) *= std::sqrt(std::max(values[i] / mean, 0.0) + 1e-2);
  const Eigen::MatrixXd transposed = vectors.transpose();
  return Eigen::MatrixXd(scaled * transposed).cast<float>();
}

PQKV_COMPILED_ONCE void to_unit_length(RowMatrix& rows, std::vector<float>& weights) {
  weights.resize(static_cast<std::size_t>(rows.rows()), 1.0f);
  for (Eigen::Index r = 0; r < rows.rows(); ++r) {
    const float length = rows.row(r).norm();
    weights[static_cast<std::size_t>(r)] *= length * length;
    if (length > 0) rows.row(r) /= length;
  }
}

}  // namespace detail

PQKV_COMPILED_ONCE [[nodiscard]] Result<FittedSpace> fit_code_space(const FitSamples& samples, const FitOptions& options,
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
    const RowMatrix backward = inverse(forward.cast<double>()).cast<float>();
    parts.forward.assign(forward.data(), forward.data() + forward.size());
    parts.inverse.assign(backward.data(), backward.data() + backward.size());
  }
  auto space = CodeSpace::make(std::move(parts));
  if (!space) return space.error();
  return FittedSpace{std::move(*space), std::move(rows), std::move(weights), std::move(rotation)};
}

PQKV_COMPILED_ONCE [[nodiscard]] Result<FittedCodebook> train_fitted(const FitSamples& samples, const FitOptions& fit,
                                                                     const CodebookShape& shape, const TrainOptions& options) {
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
