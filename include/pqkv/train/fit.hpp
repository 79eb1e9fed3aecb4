// Fitting: the space in which a head's codebook is trained, from sample rows and the queries that read them. Layer 3a.
// What is minimised is not the error of keys but of scores: E[(q·(k − k̂))²] = (k − k̂)ᵀ·H·(k − k̂), H = E[q·qᵀ], which is
// plain squared length after x = H^½·k (as in A2ATS and CQ; methods.md of the project's design has the evidence).
#pragma once

#include <Eigen/Eigenvalues>
#include <Eigen/SVD>

#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "pqkv/train/rotation.hpp"
#include "pqkv/train/train_codebook.hpp"

namespace pqkv::inline PQKV_ABI {

/// Rows of one head with their positions, and what reads them.
struct FitSamples {
  FloatRows rows;                          ///< keys (after RoPE) or values
  std::span<const std::int64_t> positions; ///< of each row; may be empty where nothing turns
  FloatRows queries;                       ///< after RoPE, `group` per row, token by token; may be empty
  std::size_t group = 1;
  Rope rope;                               ///< as the model applies it
  RowMatrix value_metric;                  ///< values: W_oᵀ·W_o of the head's outputs, [dim][dim]; may be empty
};

namespace detail {

/// Runs beyond that are rows as they come.
inline constexpr std::size_t longest_run = 65536;

/// Ok, or what the options need and the samples lack.
[[nodiscard]] inline Status check_fit(const FitSamples& samples, const FitOptions& options, std::size_t dim) {
  const auto bad = [](const auto&... parts) { return Error{Errc::invalid_parameter, message(parts...)}; };
  if (options.run_tokens != 0) {
    if (samples.rope.pairs() == 0) return bad("runs of ", options.run_tokens, " tokens need the model's RoPE, and none was given");
    if (2 * samples.rope.pairs() > dim) return bad("RoPE turns ", 2 * samples.rope.pairs(), " of ", dim, " elements");
    if (samples.positions.size() != samples.rows.count) {
      return bad(samples.positions.size(), " positions for ", samples.rows.count, " rows");
    }
    for (std::size_t r = 0; r < samples.rows.count; ++r) {
      if (samples.positions[r] < 0) return bad("row ", r, " is at position ", samples.positions[r]);
    }
    if (options.run_tokens > longest_run) {
      return bad("runs of ", options.run_tokens, " tokens; choose at most ", longest_run, ", or 0 for rows as they come");
    }
  }
  if (!options.metric) return {};
  const RowMatrix& given = samples.value_metric;
  if (given.size() != 0) {
    const bool fits = given.rows() == static_cast<Eigen::Index>(dim) && given.cols() == given.rows();
    return fits ? Status() : bad("a metric of ", given.rows(), " × ", given.cols(), " for rows of ", dim, " elements");
  }
  if (samples.queries.count == 0) {
    return bad("a metric needs calibration queries (keys) or the output projection (values)");
  }
  // Under RoPE a query's position is that of its row.
  const bool counts = options.run_tokens == 0 || samples.queries.count == samples.rows.count * samples.group;
  if (samples.queries.dim != dim || !counts) {
    return bad(samples.queries.count, " queries of ", samples.queries.dim, " elements for ", samples.rows.count, " rows of ", dim,
               " in groups of ", samples.group);
  }
  return {};
}

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

}  // namespace detail

/// The space for a codebook of that shape. Errors: invalid_parameter where an option lacks what it needs.
[[nodiscard]] inline Result<std::shared_ptr<const CodeSpace>> fit_code_space(const FitSamples& samples,
                                                                             const FitOptions& options,
                                                                             const CodebookShape& shape,
                                                                             std::uint64_t seed) {
  if (Status status = detail::check_fit(samples, options, shape.dim); !status) return status.error();
  CodeSpaceParts parts;
  parts.dim = shape.dim;
  if (options.run_tokens != 0) {
    parts.rope = samples.rope;
    parts.run_tokens = options.run_tokens;
  }
  if (options.centre) detail::fit_mean(samples, parts);
  const RowMatrix rows = detail::turned_rows(samples, parts);
  Random random(seed);
  RowMatrix forward = RowMatrix::Identity(rows.cols(), rows.cols());
  if (options.metric) {
    const bool given = samples.value_metric.size() != 0;
    forward = detail::square_root(given ? samples.value_metric : detail::query_metric(samples, parts, random));
  }
  const RowMatrix weighted = rows * forward.transpose();
  if (options.rotation == Rotation::dealt) forward = dealt_rotation(weighted, parts.rope, shape.subspaces) * forward;
  if (options.rotation == Rotation::learned) forward = learned_rotation(weighted, shape, 12, random.next()) * forward;
  if (options.metric || options.rotation != Rotation::none) {
    const RowMatrix inverse = forward.cast<double>().inverse().cast<float>();
    parts.forward.assign(forward.data(), forward.data() + forward.size());
    parts.inverse.assign(inverse.data(), inverse.data() + inverse.size());
  }
  return CodeSpace::make(std::move(parts));
}

/// A codebook in the space that the options ask for; plain train_codebook when they ask for nothing.
[[nodiscard]] inline Result<TrainedCodebook> train_fitted(const FitSamples& samples, const FitOptions& fit,
                                                          const CodebookShape& shape, const TrainOptions& options = {}) {
  if (!fit.any()) return train_codebook(samples.rows, shape, options);
  if (Status status = detail::check_training_rows(samples.rows, shape, options); !status) return status.error();
  auto space = fit_code_space(samples, fit, shape, options.seed);
  if (!space) return space.error();
  const CodeSpaceParts& parts = (*space)->parts();
  RowMatrix rows = detail::turned_rows(samples, parts);
  if (!parts.forward.empty()) {
    rows = rows * Eigen::Map<const RowMatrix>(parts.forward.data(), rows.cols(), rows.cols()).transpose();
  }
  auto trained = train_codebook({rows.data(), samples.rows.count, shape.dim}, shape, options);
  if (!trained) return trained.error();
  const Codebook& plain = *trained->codebook;
  auto codebook = Codebook::make(shape, {plain.centroids(0), plain.centroids(0) + shape.dim * shape.centroids}, *space);
  if (!codebook) return codebook.error();
  trained->codebook = std::move(*codebook);
  return trained;
}

}  // namespace pqkv::inline PQKV_ABI
