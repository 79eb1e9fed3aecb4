// A checksum for tests, so that they need no library: FNV-1a over bytes.
#pragma once

#include "pqkv/io/archive.hpp"

namespace pqkv::test {

inline Checksum test_checksum() {
  return {tag("test"), [](std::uint32_t state, const void* data, std::size_t bytes) noexcept {
            for (std::size_t i = 0; i < bytes; ++i)
              state = (state ^ static_cast<const unsigned char*>(data)[i]) * 0x01000193u + 1;
            return state;
          }};
}

}  // namespace pqkv::test
