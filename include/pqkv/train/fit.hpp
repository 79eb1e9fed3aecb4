// Fitting: the space in which a head's codebook is trained, from sample rows and the queries that read them. Layer 3a.
// What is minimised is not the error of keys but of scores: E[(q·(k − k̂))²] = (k − k̂)ᵀ·H·(k − k̂), H = E[q·qᵀ], which is
// plain squared length after x = H^½·k (as in A2ATS and CQ; methods.md of the project's design has the evidence).
#pragma once

#include <span>
#include <vector>

#include "pqkv/train/choose_rotation.hpp"
#include "pqkv/train/fit_samples.hpp"
#include "pqkv/train/train_codebook.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// [rows][dim], turned back by the origin of each row's run and less the mean.
PQKV_COMPILED_ONCE [[nodiscard]] RowMatrix turned_rows(const FitSamples& samples, const CodeSpaceParts& parts);

/// Rows of length 1, each weighing as the square of what it had: the error of a row is its length times that of its shape.
PQKV_COMPILED_ONCE void to_unit_length(RowMatrix& rows, std::vector<float>& weights);

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
PQKV_COMPILED_ONCE [[nodiscard]] Result<FittedSpace> fit_code_space(const FitSamples& samples, const FitOptions& options,
                                                                    const CodebookShape& shape, std::uint64_t seed);

/// A codebook in the space that the options ask for, with its mass correction; plain train_codebook when they ask for
/// nothing, and the space alone for a shape without centroids (CodebookShape::of_space).
PQKV_COMPILED_ONCE [[nodiscard]] Result<FittedCodebook> train_fitted(const FitSamples& samples, const FitOptions& fit,
                                                                     const CodebookShape& shape, const TrainOptions& options = {});

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/train/fit_bodies.hpp"
#endif
