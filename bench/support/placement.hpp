// Warm and cold. Warm data fits into half of the second-level cache. Cold data is four times the last-level cache that
// the machine reports, or PQKV_BENCH_COLD_MB mebibytes, and is read in turns, so that each read comes from memory. Twice
// was not enough: that cache resists scans, and kept two of nine heads (flushing them showed it).
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <string>
#include <string_view>

namespace pqkv::bench {

enum class Placement { warm, cold };
inline constexpr Placement placements[] = {Placement::warm, Placement::cold};

[[nodiscard]] inline std::string_view name_of(Placement placement) {
  return placement == Placement::warm ? "warm" : "cold";
}

/// What sysconf says of a cache, or `otherwise` where it says nothing (containers, ARM).
[[nodiscard]] inline std::size_t cache_bytes(int name, std::size_t otherwise) {
  const long bytes = sysconf(name);
  return bytes > 0 ? static_cast<std::size_t>(bytes) : otherwise;
}

/// Bytes to go round in.
[[nodiscard]] inline std::size_t working_set(Placement placement) {
  constexpr std::size_t mebibyte = 1 << 20;
  if (placement == Placement::warm) return cache_bytes(_SC_LEVEL2_CACHE_SIZE, mebibyte) / 2;
  if (const char* text = std::getenv("PQKV_BENCH_COLD_MB")) return std::stoull(text) * mebibyte;
  return 4 * cache_bytes(_SC_LEVEL3_CACHE_SIZE, 256 * mebibyte);
}

}  // namespace pqkv::bench
