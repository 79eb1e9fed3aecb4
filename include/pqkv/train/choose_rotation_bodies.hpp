// Bodies of train/choose_rotation.hpp.
#pragma once

#include <utility>

#include "pqkv/train/choose_rotation.hpp"
#include "pqkv/train/codes.hpp"
#include "pqkv/train/init.hpp"
#include "pqkv/train/learned_rotation.hpp"
#include "pqkv/train/rotation.hpp"
#include "pqkv/train/train_codebook.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// Trains briefly on rotated rows and judges on others; huge when nothing can be trained.
PQKV_WHEN_CALLED [[nodiscard]] double held_back_error(const RowMatrix& rows, std::span<const float> weights, const RowMatrix& held_back,
                                                      const RowMatrix& rotation, const CodebookShape& shape, std::uint64_t seed) {
  TrainOptions options;
  options.iterations = 8;
  options.seed = seed;
  options.weights = weights;
  const RowMatrix turned = rotation.size() == 0 ? rows : rows_through(rotation, rows);
  const RowMatrix judged = rotation.size() == 0 ? held_back : rows_through(rotation, held_back);
  const auto trained = train_codebook({turned.data(), static_cast<std::size_t>(turned.rows()), shape.dim}, shape, options);
  if (!trained) return 1e300;
  const RowMatrix left = judged - decoded_rows(nearest_codes(judged, *trained->codebook), *trained->codebook);
  return static_cast<double>(left.squaredNorm()) / static_cast<double>(judged.rows());
}

}  // namespace detail

PQKV_COMPILED_ONCE [[nodiscard]] RotationChoice choose_rotation(const RowMatrix& rows, const Rope& rope, CodebookShape shape,
                                                                Rotation wanted, std::uint64_t seed, std::span<const float> weights) {
  if (shape.stages > 1) shape.centroids = 256, shape.stages = 1;  // sums of stages are sought as if they were that many centroids
  constexpr std::size_t max_rows = 32768, learning_iterations = 12, sign_patterns = 4;
  RotationChoice choice;
  if (wanted == Rotation::none) return choice;
  Random random(seed);
  const auto count = static_cast<std::size_t>(rows.rows());
  const std::vector<std::size_t> picks = random_indices(count, std::min(count, max_rows), random);
  const bool judges = wanted == Rotation::automatic || wanted == Rotation::hadamard;
  const std::size_t held = judges && picks.size() / 8 * 7 >= shape.centroids ? picks.size() / 8 : 0;
  const auto sample_picks = std::span(picks).subspan(held);
  const RowMatrix held_back = take_rows(rows, std::span(picks).first(held));
  const RowMatrix sample = take_rows(rows, sample_picks);
  std::vector<float> sample_weights;
  if (!weights.empty()) {
    for (const std::size_t pick : sample_picks) sample_weights.push_back(weights[pick]);
  }

  double least = 1e308;
  const auto consider = [&](Rotation rotation, RowMatrix matrix, std::vector<float> centroids = {}) {
    const double error =
        held == 0 ? 0 : detail::held_back_error(sample, sample_weights, held_back, matrix, shape, random.next());
    if (judges) choice.tried.emplace_back(rotation, error);
    if (error >= least) return;
    least = error;
    choice.chosen = rotation;
    choice.matrix = std::move(matrix);
    choice.centroids = std::move(centroids);
  };
  const auto asked = [wanted](Rotation rotation) { return wanted == rotation || wanted == Rotation::automatic; };
  if (wanted == Rotation::automatic) consider(Rotation::none, {});
  if (asked(Rotation::dealt)) consider(Rotation::dealt, dealt_rotation(rows, rope, shape.subspaces, weights));
  if (asked(Rotation::balanced)) consider(Rotation::balanced, balanced_rotation(rows, shape.subspaces, weights));
  if (asked(Rotation::hadamard)) {
    for (std::size_t i = 0; i < sign_patterns; ++i) consider(Rotation::hadamard, hadamard_rotation(shape.dim, random));
  }
  if (asked(Rotation::learned)) {
    LearnedRotation learned = learned_rotation(sample, shape, learning_iterations, random.next(), sample_weights);
    consider(Rotation::learned, std::move(learned.matrix), std::move(learned.centroids));
  }
  return choice;
}

}  // namespace pqkv::inline PQKV_ABI
