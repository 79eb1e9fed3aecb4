// What a policy stores, all told. Beside the pipeline: nothing in it includes this.
#pragma once

#include <algorithm>
#include <cstddef>

#include "pqkv/cache/head_cache.hpp"

namespace pqkv::inline PQKV_ABI {

/// Bits per element of one side (keys or values) of a sequence of `tokens`: blocks of `block_bytes` per 32 tokens, and
/// sinks and recent tokens as the windows hold them. Codebooks are not counted.
[[nodiscard]] inline double bits_per_element(std::size_t tokens, std::size_t dim, const CacheOptions& options,
                                             std::size_t block_bytes) noexcept {
  const std::size_t exact = std::min(tokens, options.sinks + options.recent);
  const double bytes = static_cast<double>(exact * dim * size_of(options.window)) +
                       static_cast<double>((tokens - exact) * block_bytes) / static_cast<double>(block_tokens);
  return 8 * bytes / static_cast<double>(tokens * dim);
}

}  // namespace pqkv::inline PQKV_ABI
