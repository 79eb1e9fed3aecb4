// The version as text. Layer 0.
#pragma once

#include <string_view>

#include "pqkv/base/config.hpp"

#define PQKV_TEXT_EXPANDED(x) #x
#define PQKV_TEXT(x) PQKV_TEXT_EXPANDED(x)

namespace pqkv::inline PQKV_ABI {

/// The library's version, "major.minor.patch".
[[nodiscard]] constexpr std::string_view version() noexcept {
  return PQKV_TEXT(PQKV_VERSION_MAJOR) "." PQKV_TEXT(PQKV_VERSION_MINOR) "." PQKV_TEXT(PQKV_VERSION_PATCH);
}

}  // namespace pqkv::inline PQKV_ABI
