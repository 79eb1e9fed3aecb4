// What the trainers of codebooks take and return. Layer 3a.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "pqkv/codec/codebook.hpp"
#include "pqkv/train/report.hpp"

namespace pqkv::inline PQKV_ABI {

enum class Initialisation {
  plus_plus,  ///< each next centroid is a row drawn by its squared distance from those before
  random,     ///< distinct rows, all alike
};

struct TrainOptions {
  std::size_t iterations = 25;
  double tolerance = 1e-4;  ///< a subspace stops when its objective falls by less than this share
  std::uint64_t seed = 1;
  Initialisation initialisation = Initialisation::plus_plus;
  std::size_t max_rows = 65536;      ///< beyond, a random sample of this many rows is used
  std::span<const float> weights{};  ///< one per row, ≥ 0, or none: how much its error counts
  /// Centroids (of the first stage) to start from instead of `initialisation`, [subspace][centroid][width], or none.
  std::span<const float> start{};
  /// Rows per iteration (MiniBatchKMeans); 0: all. Eight times as many as centroids, and iterations for five passes over the
  /// rows, took a fifth of the time of 25 full iterations and left an error 2 % larger (bench/README.md).
  std::size_t batch = 0;
};

struct TrainedCodebook {
  std::shared_ptr<const Codebook> codebook;
  std::vector<SubspaceReport> subspaces;
};

}  // namespace pqkv::inline PQKV_ABI
