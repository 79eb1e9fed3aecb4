// zlib's CRC-32 as the checksum of saved files. Needs zlib (-lz); nothing else of pqkv does.
#pragma once

#include "pqkv/io/archive.hpp"

#if __has_include(<zlib.h>)
#include <zlib.h>

namespace pqkv::inline PQKV_ABI {

/// "crc3" in files.
[[nodiscard]] inline Checksum crc32_checksum() noexcept {
  return {tag("crc3"), [](std::uint32_t state, const void* data, std::size_t bytes) noexcept {
            if (bytes == 0) return state;  // zlib takes a null pointer for a new start
            return static_cast<std::uint32_t>(::crc32_z(state, static_cast<const Bytef*>(data), bytes));
          }};
}

}  // namespace pqkv::inline PQKV_ABI
#endif
