// Mass correction: what a cloud of keys gains in softmax over its centroid. Layer 3a.
// A centroid c stands for keys c + e, and E[exp(q·(c + e))] exceeds exp(q·c), q the scaled query: to second order by the factor
// exp(½·qᵀΣq), Σ the spread of the cloud. Without it compressed tokens lose weight against exact ones, and wide
// clouds against narrow ones. In the queries' metric Σ is taken to be a multiple of the identity, so that the correction of
// a table entry is one number per centroid times the squared length of the query's piece: nothing at scan time.
// Where clouds are far from Gaussian it overshoots; hence a factor, fitted on calibration texts, 0 turning it off.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "pqkv/codec/codebook.hpp"
#include "pqkv/train/fit_samples.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// ½·(variance per element of the rows about each centroid), [subspaces][centroids]. The variance of a centroid with
/// few rows leans on its subspace's.
PQKV_COMPILED_ONCE [[nodiscard]] std::vector<float> mass_gains(const RowMatrix& rows, const Codebook& codebook,
                                                               const std::vector<std::uint8_t>& codes);

}  // namespace detail

/// The factor in 0, ¼ … 1 on `gains` (for factor 1) whose attention weights diverge least from the exact ones on the last
/// whole texts among the samples, with everything compressed and with 4 sinks and 32 recent tokens exact, both counting
/// alike. 0 when there is no text to judge on, or these texts are more than a quarter of the samples: their rows then made
/// the centroids that they would judge. `codes`: of the samples (nearest_codes).
PQKV_COMPILED_ONCE [[nodiscard]] float fit_mass_factor(const FitSamples& samples, const Codebook& codebook,
                                                       const std::vector<std::uint8_t>& codes, const std::vector<float>& gains);

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/train/mass_bodies.hpp"
#endif
