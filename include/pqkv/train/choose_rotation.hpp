// Which rotation goes in front of a head's codebook: the one asked for, or the one that errs least. Layer 3a.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "pqkv/codec/codebook_request.hpp"
#include "pqkv/codec/rope.hpp"
#include "pqkv/train/metric.hpp"

namespace pqkv::inline PQKV_ABI {

/// What was chosen, and the errors of what was tried: mean squared length per row held back, in the space of the codes
/// (where the metric is on, that is the squared error of scores or outputs). Empty when the caller chose.
struct RotationChoice {
  Rotation chosen = Rotation::none;
  RowMatrix matrix;  ///< [dim][dim]; empty for none
  /// Where the codes ended that the learned rotation was sought by, [subspace][centroid][width]; empty for others.
  std::vector<float> centroids{};
  std::vector<std::pair<Rotation, double>> tried;
};

/// The rotation for rows [count][dim], which count by `weights` (empty: all alike). Candidates and the learned rotation see
/// a sample of the rows; what was held back for judging is an eighth of it.
PQKV_COMPILED_ONCE [[nodiscard]] RotationChoice choose_rotation(const RowMatrix& rows, const Rope& rope, CodebookShape shape,
                                                                Rotation wanted, std::uint64_t seed, std::span<const float> weights = {});

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/train/choose_rotation_bodies.hpp"
#endif
