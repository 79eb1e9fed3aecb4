// What a policy stores, all told. Beside the pipeline: nothing in it includes this.
#pragma once

#include <algorithm>
#include <cstddef>

#include "pqkv/cache/head_cache.hpp"

namespace pqkv::inline PQKV_ABI {

/// Bits per element of one side (keys or values) of a sequence of `tokens`: blocks of `block_bytes`, and sinks and recent
/// tokens as the windows hold them. Codebooks are not counted. `run_tokens`: of the key format; runs of fewer tokens than
/// a block leave the rest of it unused.
[[nodiscard]] inline double bits_per_element(std::size_t tokens, std::size_t dim, const CacheOptions& options,
                                             std::size_t block_bytes, std::size_t run_tokens) noexcept {
  const std::size_t exact = std::min(tokens, options.sinks + options.recent);
  const double bytes = static_cast<double>(exact * dim * size_of(options.window)) +
                       static_cast<double>((tokens - exact) * block_bytes) /
                           static_cast<double>(std::min(block_tokens, run_tokens));
  return 8 * bytes / static_cast<double>(tokens * dim);
}

}  // namespace pqkv::inline PQKV_ABI
