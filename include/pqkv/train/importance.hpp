// Importance: how much the error of each sample row counts, by the attention that it received in calibration. Layer 3a.
// An error of token t's value reaches the output times its weight p_t, and so does, to first order, an error of its score;
// squared errors therefore count with Σ p_t² over the queries that see the token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "pqkv/base/result.hpp"
#include "pqkv/base/rows.hpp"

namespace pqkv::inline PQKV_ABI {

/// √(Σ p²) per key over the queries of its text from its own on (causal), plus a share of the mean so that every row
/// counts; the mean is 1. [keys.count].
/// `queries` hold `group` rows per key row, token by token; a text begins wherever a position is not above the one before. Errors: invalid_shape.
PQKV_COMPILED_ONCE [[nodiscard]] Result<std::vector<float>> attention_importance(FloatRows queries, std::size_t group, FloatRows keys,
                                                                                 std::span<const std::int64_t> positions, float scale = 0);

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/train/importance_bodies.hpp"
#endif
