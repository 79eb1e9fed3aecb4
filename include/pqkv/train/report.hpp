// What training says about itself: per subspace, so that a person sees where a codebook is poor. Layer 3a.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
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

  /// The last step lowered the objective by no more than `tolerance` of itself.
  [[nodiscard]] bool ceased_to_fall(double tolerance) const noexcept {
    return objective.size() > 1 && objective[objective.size() - 2] - objective.back() <= tolerance * objective.back();
  }
  /// Fills in smallest, largest and imbalance from the rows of each cluster.
  void judge_clusters(std::span<const std::size_t> sizes) noexcept {
    double squares = 0, total = 0;
    for (const std::size_t size : sizes) {
      squares += static_cast<double>(size) * static_cast<double>(size);
      total += static_cast<double>(size);
    }
    smallest_cluster = *std::min_element(sizes.begin(), sizes.end());
    largest_cluster = *std::max_element(sizes.begin(), sizes.end());
    imbalance = static_cast<double>(sizes.size()) * squares / (total * total);
  }
};

}  // namespace pqkv::inline PQKV_ABI
