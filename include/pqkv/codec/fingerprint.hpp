// Fingerprint: a number that tells contents apart, for refusing codes of a foreign codebook. Layer 2. Not a checksum: files
// have a library's (io/archive.hpp).
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "pqkv/base/config.hpp"

namespace pqkv::inline PQKV_ABI {

/// FNV-1a (Fowler, Noll, Vo) over words.
class Fingerprint {
 public:
  void add(std::uint64_t word) noexcept { value_ = (value_ ^ word) * 0x100000001b3u; }
  void add(const std::vector<float>& numbers) noexcept {
    for (const float number : numbers) add(std::bit_cast<std::uint32_t>(number));
  }
  [[nodiscard]] std::uint64_t value() const noexcept { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace pqkv::inline PQKV_ABI
