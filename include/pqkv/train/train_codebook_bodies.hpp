// Bodies of train/train_codebook.hpp: checks, and k-means per subspace.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "pqkv/train/levels.hpp"
#include "pqkv/train/staged.hpp"
#include "pqkv/train/train_codebook.hpp"

namespace pqkv::inline PQKV_ABI::detail {

PQKV_COMPILED_ONCE [[nodiscard]] Status check_rows(FloatRows rows, const CodebookShape& shape, const TrainOptions& options) {
  if (Status status = check(shape); !status) return status;
  if (rows.dim != shape.dim) {
    return Error{Errc::invalid_shape, message("rows of ", rows.dim, " elements for a codebook of dim ", shape.dim)};
  }
  if (options.iterations == 0) return Error{Errc::invalid_parameter, "0 iterations train nothing"};
  if (options.batch != 0 && (options.batch < shape.centroids || shape.stages > 1)) {
    return Error{Errc::invalid_parameter, message("batches of ", options.batch, " rows for ", shape.centroids, " centroids in ",
                                                  shape.stages, " stages: at least as many rows, and for one stage only")};
  }
  if (!options.weights.empty() && options.weights.size() != rows.count) {
    return Error{Errc::invalid_shape, message(options.weights.size(), " weights for ", rows.count, " rows")};
  }
  if (!options.start.empty() && options.start.size() != shape.dim * shape.centroids) {
    return Error{Errc::invalid_shape, message(options.start.size(), " numbers to start from, but ", shape.centroids,
                                              " centroids of dim ", shape.dim, " have ", shape.dim * shape.centroids)};
  }
  for (std::size_t r = 0; r < rows.count; ++r) {
    if (!options.weights.empty() && !(options.weights[r] >= 0 && std::isfinite(options.weights[r]))) {
      return Error{Errc::invalid_data, message("weight ", r, " is negative or not finite")};
    }
    for (std::size_t d = 0; d < rows.dim; ++d) {
      if (!std::isfinite(rows.row(r)[d])) {
        return Error{Errc::invalid_data, message("element ", d, " of training row ", r, " is not finite")};
      }
    }
  }
  return {};
}

PQKV_COMPILED_ONCE [[nodiscard]] Status check_training_rows(FloatRows rows, const CodebookShape& shape, const TrainOptions& options) {
  if (Status status = check_rows(rows, shape, options); !status) return status;
  if (std::min(rows.count, options.max_rows) >= std::max<std::size_t>(shape.centroids, 1)) return {};
  return Error{Errc::too_few_samples, message(std::min(rows.count, options.max_rows), " training rows for ", shape.centroids,
                                              " centroids; at least as many are needed, and about ", 39 * shape.centroids,
                                              " to serve well")};
}

PQKV_COMPILED_ONCE [[nodiscard]] Result<TrainedCodebook> train_codebook(FloatRows rows, const CodebookShape& shape,
                                                                        const TrainOptions& options, ExecutorRef executor,
                                                                        ProgressRef progress, MetricRef metric) {
  if (Status status = check_training_rows(rows, shape, options); !status) return status.error();
  if (shape.is_space()) return Error{Errc::invalid_shape, "no centroids to train; train_fitted fits a space on its own"};
  Random random(options.seed);
  std::vector<std::size_t> sample;
  std::vector<float> sample_weights(options.weights.begin(), options.weights.end());
  if (rows.count > options.max_rows) {
    sample = random_indices(rows.count, options.max_rows, random);
    if (!sample_weights.empty()) {
      for (std::size_t i = 0; i < sample.size(); ++i) sample_weights[i] = options.weights[sample[i]];
      sample_weights.resize(sample.size());
    }
  }
  const std::size_t count = sample.empty() ? rows.count : sample.size();
  const std::size_t width = shape.width();
  if (shape.centroids < 16) return train_levels(rows, sample, sample_weights, shape, options, executor, progress);
  std::vector<std::uint64_t> seeds(shape.subspaces);
  for (std::uint64_t& seed : seeds) seed = random.next();

  std::vector<std::optional<SubspaceTrainer>> subspaces(shape.subspaces);
  executor.run(shape.subspaces, [&](std::size_t s, std::size_t /*worker*/) {
    RowMatrix piece(static_cast<Eigen::Index>(count), static_cast<Eigen::Index>(width));
    for (std::size_t r = 0; r < count; ++r) {
      const float* row = rows.row(sample.empty() ? r : sample[r]) + s * width;
      piece.row(static_cast<Eigen::Index>(r)) =
          Eigen::Map<const Eigen::RowVectorXf>(row, static_cast<Eigen::Index>(width));
    }
    metric.to_euclidean(s, piece);
    RowMatrix start;
    if (!options.start.empty()) {
      start = Eigen::Map<const RowMatrix>(options.start.data() + s * shape.centroids * width,
                                          static_cast<Eigen::Index>(shape.centroids), static_cast<Eigen::Index>(width));
      metric.to_euclidean(s, start);
    }
    subspaces[s].emplace(std::move(piece), sample_weights, shape, options.initialisation, seeds[s], options.batch,
                         std::move(start));
  });
  for (std::size_t iteration = 0; iteration < options.iterations; ++iteration) {
    executor.run(shape.subspaces,
                 [&](std::size_t s, std::size_t /*worker*/) { subspaces[s]->step(options.tolerance); });
    if (!progress(iteration + 1, options.iterations)) {
      return Error{Errc::stopped, message("training was stopped after ", iteration + 1, " of ", options.iterations,
                                          " iterations")};
    }
    bool all = true;
    for (const auto& subspace : subspaces) all = all && subspace->converged();
    if (all) break;
  }
  executor.run(shape.subspaces, [&](std::size_t s, std::size_t /*worker*/) { subspaces[s]->finish(); });

  TrainedCodebook trained;
  std::vector<float> centroids;
  centroids.reserve(shape.floats());
  for (std::size_t s = 0; s < shape.subspaces; ++s) {
    RowMatrix mine = subspaces[s]->centroids();
    metric.from_euclidean(s, mine);
    const auto per_stage = static_cast<Eigen::Index>(shape.centroids);
    for (Eigen::Index first = 0; first < mine.rows(); first += per_stage) {
      for (Eigen::Index d = 0; d < mine.cols(); ++d) {
        for (Eigen::Index c = 0; c < per_stage; ++c) centroids.push_back(mine(first + c, d));
      }
    }
    trained.subspaces.push_back(subspaces[s]->report());
  }
  auto codebook = Codebook::make(shape, std::move(centroids));
  if (!codebook) return codebook.error();
  trained.codebook = std::move(*codebook);
  return trained;
}

}  // namespace pqkv::inline PQKV_ABI::detail
