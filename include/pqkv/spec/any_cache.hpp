// AnyCache: a cache whose formats are chosen at run time from text, per layer and head if wanted.
#pragma once

#include <functional>

#include "pqkv/cache/compressed_kv_cache.hpp"
#include "pqkv/spec/registry.hpp"

namespace pqkv::inline PQKV_ABI {

/// Type-erased per head: one virtual call per tile of hundreds of tokens, none per token.
using AnyCache = CompressedKVCache<AnyKeys, AnyValues>;

enum class Side { keys, values };

/// The codebook of a (layer, kv head) for a format that asks for one; nullptr: there is none.
using CodebookSource = std::function<std::shared_ptr<const Codebook>(std::size_t layer, std::size_t head, Side side,
                                                                     const CodebookRequest& request)>;

/// Which of `count` specs a head uses: the only one, its layer's, or its own (layer · kv_heads + head).
[[nodiscard]] inline std::size_t spec_index(std::size_t count, const CacheShape& shape, std::size_t layer,
                                            std::size_t head) noexcept {
  return count == 1 ? 0 : count == shape.layers ? layer : layer * shape.kv_heads + head;
}

/// Ok, or why so many specs do not suit the shape.
PQKV_COMPILED_ONCE [[nodiscard]] Status check_spec_count(std::size_t count, const CacheShape& shape);

/// A cache of `shape` with one spec for all heads, one per layer, or one per kv head ([layer][head]). Windows are those of
/// the first spec and must agree; what no spec says (token limit, Rope, pages) is taken from `others`. Errors:
/// invalid_parameter, invalid_shape, naming the layer and head.
PQKV_COMPILED_ONCE [[nodiscard]] Result<AnyCache> make_any_cache(const CacheShape& shape, const std::vector<CacheSpec>& specs,
                                                                 const CodebookSource& codebooks,
                                                                 const CacheOptions& others);

/// The same, on the heap, for tokens that are not moved.
PQKV_COMPILED_ONCE [[nodiscard]] Result<AnyCache> make_any_cache(const CacheShape& shape, const std::vector<CacheSpec>& specs,
                                                                 const CodebookSource& codebooks = {},
                                                                 std::size_t max_tokens = unlimited_tokens);

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/spec/any_cache_bodies.hpp"
#endif
