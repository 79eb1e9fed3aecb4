// read_all, once per instruction set; a file of its own, because Clang 14 does not merge clones of several files.
#include "support/bandwidth.hpp"

#include <cstring>

#include "pqkv/base/config.hpp"

namespace pqkv::bench {

#if defined(PQKV_X86)
[[gnu::target_clones("avx512f", "avx2", "default")]]
#endif
std::uint64_t read_all(const std::byte* data, std::size_t bytes) {
  using Line [[gnu::vector_size(64)]] = std::uint64_t;
  constexpr std::size_t lines = 8;
  Line sums[lines] = {};
  for (std::size_t at = 0; at < bytes; at += sizeof sums) {
    for (std::size_t i = 0; i < lines; ++i) {
      Line line;
      std::memcpy(&line, data + at + i * sizeof line, sizeof line);
      sums[i] += line;
    }
  }
  std::uint64_t sum = 0;
  for (const Line& line : sums) {
    for (std::size_t i = 0; i < 8; ++i) sum += line[i];
  }
  return sum;
}

}  // namespace pqkv::bench
