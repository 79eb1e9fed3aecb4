// refine_codebook: a codebook from calibration, moved towards the rows of the prompt at hand. Layer 3a.
// Centroids go to the means of the rows that choose them, as in k-means, but each holds on to where calibration had put it
// as if `prior_rows` rows lay there (the maximum a posteriori estimate, Gauvain, Lee 1994): a prompt of a few hundred tokens
// has about one row per centroid, and trained on nothing else a codebook would learn it by heart. The space in front of the
// codes stays, so that a refined codebook is one of the same request.
#pragma once

#include <memory>
#include <vector>

#include "pqkv/train/fit.hpp"

namespace pqkv::inline PQKV_ABI {

struct RefineOptions {
  std::size_t iterations = 4;
  double prior_rows = 16;  ///< how many rows of the prompt calibration weighs, per centroid
};

/// `samples.rows`: the prompt's keys (with positions where the space turns) or values; `samples.importance` weighs them
/// where given. Errors: invalid_shape, invalid_parameter, invalid_data.
PQKV_COMPILED_ONCE [[nodiscard]] Result<std::shared_ptr<const Codebook>> refine_codebook(const Codebook& start, const FitSamples& samples,
                                                                                         const RefineOptions& options = {});

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/train/refine_bodies.hpp"
#endif
