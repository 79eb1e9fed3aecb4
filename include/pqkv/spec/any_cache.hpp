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
[[nodiscard]] inline Status check_spec_count(std::size_t count, const CacheShape& shape) {
  if (count == 1 || count == shape.layers || count == shape.layers * shape.kv_heads) return {};
  return Error{Errc::invalid_shape, message(count, " specs for ", shape.layers, " layers of ", shape.kv_heads,
                                            " kv heads; give one, one per layer or one per head")};
}

/// A cache of `shape` with one spec for all heads, one per layer, or one per kv head ([layer][head]). Windows are those of
/// the first spec and must agree; what no spec says (token limit, Rope, pages) is taken from `others`. Errors:
/// invalid_parameter, invalid_shape, naming the layer and head.
[[nodiscard]] inline Result<AnyCache> make_any_cache(const CacheShape& shape, const std::vector<CacheSpec>& specs,
                                                     const CodebookSource& codebooks, const CacheOptions& others) {
  if (Status status = check_spec_count(specs.size(), shape); !status) return status.error();
  std::vector<AnyKeys> keys;
  std::vector<AnyValues> values;
  for (std::size_t i = 0; i < shape.layers * shape.kv_heads; ++i) {
    const std::size_t layer = i / shape.kv_heads, head = i % shape.kv_heads;
    const CacheSpec& spec = specs[spec_index(specs.size(), shape, layer, head)];
    const auto at_head = [=](const Error& error) {
      return Error{error.code, message("layer ", layer, " head ", head, ": ", error.message)};
    };
    const CacheOptions& first = specs[0].options;
    if (spec.options.sinks != first.sinks || spec.options.recent != first.recent ||
        spec.options.window != first.window) {
      return Error{Errc::invalid_parameter, message("layer ", layer, " head ", head, ": '", spec.text,
                                                    "' has other windows than '", specs[0].text, "'")};
    }
    const auto key_request = key_codebook_request(spec.keys, shape.dim);
    if (!key_request) return at_head(key_request.error());
    const auto value_request = value_codebook_request(spec.values, shape.dim);
    if (!value_request) return at_head(value_request.error());
    const auto codebook = [&](Side side, const std::optional<CodebookRequest>& wanted) {
      return wanted && codebooks ? codebooks(layer, head, side, *wanted) : nullptr;
    };
    auto key = make_keys(spec.keys, shape.dim, codebook(Side::keys, *key_request));
    if (!key) return at_head(key.error());
    auto value = make_values(spec.values, shape.dim, codebook(Side::values, *value_request));
    if (!value) return at_head(value.error());
    keys.push_back(std::move(*key));
    values.push_back(std::move(*value));
  }
  CacheOptions options = specs[0].options;
  options.max_tokens = others.max_tokens;
  options.rope = others.rope;
  options.pages = others.pages;
  return AnyCache::make(shape, keys, values, options);
}

/// The same, on the heap, for tokens that are not moved.
[[nodiscard]] inline Result<AnyCache> make_any_cache(const CacheShape& shape, const std::vector<CacheSpec>& specs,
                                                     const CodebookSource& codebooks = {},
                                                     std::size_t max_tokens = unlimited_tokens) {
  return make_any_cache(shape, specs, codebooks, CacheOptions{.max_tokens = max_tokens});
}

}  // namespace pqkv::inline PQKV_ABI
