// FitSamples: what a head's space and codebook are fitted on. Layer 3a.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "pqkv/base/result.hpp"
#include "pqkv/base/rows.hpp"
#include "pqkv/codec/codebook_request.hpp"
#include "pqkv/codec/rope.hpp"
#include "pqkv/train/metric.hpp"

namespace pqkv::inline PQKV_ABI {

/// Sample rows of one head, and what reads them. Rows of several texts lie one text behind the other; a text begins
/// wherever a position is not above the one before.
struct FitSamples {
  FloatRows rows;                           ///< keys (after RoPE) or values
  std::span<const std::int64_t> positions;  ///< of each row in its text; may be empty where nothing turns
  FloatRows queries;                        ///< after RoPE, `group` per row, token by token; may be empty
  std::size_t group = 1;
  Rope rope;                                ///< as the model applies it
  float scale = 0;                          ///< of scores, as AttendOptions has it; 0: 1/√dim
  std::span<const float> importance;        ///< one per row (attention_importance); may be empty
  RowMatrix value_metric;                   ///< values: W_oᵀ·W_o of the head's outputs, [dim][dim]; may be empty

  [[nodiscard]] float scale_of() const noexcept {
    return scale != 0 ? scale : 1.0f / std::sqrt(static_cast<float>(rows.dim));
  }
};

namespace detail {

/// Runs beyond that are rows as they come.
inline constexpr std::size_t longest_run = 65536;

/// Ok, or what the options need and the samples lack.
PQKV_COMPILED_ONCE [[nodiscard]] Status check_fit(const FitSamples& samples, const FitOptions& options, std::size_t dim);

}  // namespace detail

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/train/fit_samples_bodies.hpp"
#endif
