// Codes of many rows in a codebook's space, and what they stand for: how trainers judge what they made. Layer 3a.
#pragma once

#include <cstdint>
#include <vector>

#include "pqkv/codec/codebook.hpp"
#include "pqkv/train/metric.hpp"

namespace pqkv::inline PQKV_ABI {

/// Codes of rows [count][dim] that lie in the codebook's space: [code][count].
PQKV_COMPILED_ONCE [[nodiscard]] std::vector<std::uint8_t> nearest_codes(const RowMatrix& rows, const Codebook& codebook);

/// The rows [count][dim] that codes [code][count] stand for, in the codebook's space.
PQKV_COMPILED_ONCE [[nodiscard]] RowMatrix decoded_rows(const std::vector<std::uint8_t>& codes, const Codebook& codebook);

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/train/codes_bodies.hpp"
#endif
