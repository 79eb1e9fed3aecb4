// What training says about itself: per subspace, so that a person sees where a codebook is poor. Layer 3a.
#pragma once

#include <cstddef>
#include <vector>

#include "pqkv/base/config.hpp"

namespace pqkv::inline PQKV_ABI {

struct SubspaceReport {
  /// Mean cost of a row after each assignment, the last one with the final centroids. Never rises, up to rounding and
  /// repairs.
  std::vector<double> objective;
  /// k·Σnᵢ²/n² over the sizes of the clusters: 1 when all are alike, k when one holds everything.
  double imbalance = 0;
  /// Rows per centroid; below about 39 a codebook starts to learn its sample by heart (the threshold of FAISS).
  double samples_per_centroid = 0;
  std::size_t smallest_cluster = 0;
  std::size_t largest_cluster = 0;
  /// Clusters that had run empty and were given a badly served row, over all iterations.
  std::size_t repaired = 0;
  /// Stopped early: the objective had ceased to fall.
  bool converged = false;
};

}  // namespace pqkv::inline PQKV_ABI
