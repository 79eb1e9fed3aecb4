// What one core can read at best: a loop over memory that does nothing but load. The number to compare with.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pqkv::bench {

/// The sum of `bytes` bytes (a multiple of 512) as 64-bit numbers, in the widest registers that the CPU has.
[[nodiscard]] std::uint64_t read_all(const std::byte* data, std::size_t bytes);

}  // namespace pqkv::bench
