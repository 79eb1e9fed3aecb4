// What rows must be before a cache takes them: of its shape, and finite. Layer 4.
#pragma once

#include <cstdint>
#include <cstring>

#include "pqkv/base/result.hpp"
#include "pqkv/base/rows.hpp"

namespace pqkv::inline PQKV_ABI {

/// Errors: invalid_data, naming the first element that is NaN or infinite.
[[nodiscard]] inline Status check_finite(Rows rows, const char* what) {
  // By bits, because callers may compile with -ffast-math.
  for (std::size_t i = 0; i < rows.count; ++i) {
    const std::byte* row = rows.row(i);
    for (std::size_t d = 0; d < rows.dim; ++d) {
      bool finite = true;
      if (rows.type == ScalarType::f32) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, row + d * 4, 4);
        finite = (bits & 0x7f800000u) != 0x7f800000u;
      } else {
        const std::uint16_t exponent = rows.type == ScalarType::f16 ? 0x7c00u : 0x7f80u;
        std::uint16_t bits = 0;
        std::memcpy(&bits, row + d * 2, 2);
        finite = (bits & exponent) != exponent;
      }
      if (!finite) {
        return Error{Errc::invalid_data,
                     message("element ", d, " of ", what, " row ", i, " is not finite; nothing was appended")};
      }
    }
  }
  return {};
}

/// Keys and values of the same tokens for a cache of `dim`. Errors: invalid_shape, invalid_data.
[[nodiscard]] inline Status check_rows(Rows keys, Rows values, std::size_t dim) {
  if (keys.count != values.count) {
    return Error{Errc::invalid_shape, message(keys.count, " keys but ", values.count, " values")};
  }
  if (keys.dim != dim || values.dim != dim) {
    return Error{Errc::invalid_shape, message("rows of ", keys.dim, " (keys) and ", values.dim,
                                              " (values) elements for a cache of dim ", dim)};
  }
  if (Status status = check_finite(keys, "key"); !status) return status;
  return check_finite(values, "value");
}

}  // namespace pqkv::inline PQKV_ABI
