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

/// A cache of `shape` in which layer l uses specs[l] (or specs[0] for all). Windows are those of the first spec and must
/// agree; what no spec says (token limit, Rope, pages) is taken from `others`. Errors: invalid_parameter, invalid_shape,
/// naming the layer.
[[nodiscard]] inline Result<AnyCache> make_any_cache(const CacheShape& shape, const std::vector<CacheSpec>& specs,
                                                     const CodebookSource& codebooks, const CacheOptions& others) {
  if (specs.size() != 1 && specs.size() != shape.layers) {
    return Error{Errc::invalid_shape, message(specs.size(), " specs for ", shape.layers, " layers; give one, or one each")};
  }
  std::vector<AnyKeys> keys;
  std::vector<AnyValues> values;
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    const CacheSpec& spec = specs[specs.size() == 1 ? 0 : layer];
    const auto at_layer = [layer](const Error& error) {
      return Error{error.code, message("layer ", layer, ": ", error.message)};
    };
    const CacheOptions& first = specs[0].options;
    if (spec.options.sinks != first.sinks || spec.options.recent != first.recent ||
        spec.options.window != first.window) {
      return Error{Errc::invalid_parameter, message("layer ", layer, ": '", spec.text,
                                                    "' has other windows than '", specs[0].text, "'")};
    }
    const auto key_request = key_codebook_request(spec.keys, shape.dim);
    if (!key_request) return at_layer(key_request.error());
    const auto value_request = value_codebook_request(spec.values, shape.dim);
    if (!value_request) return at_layer(value_request.error());
    for (std::size_t head = 0; head < shape.kv_heads; ++head) {
      const auto codebook = [&](Side side, const std::optional<CodebookRequest>& wanted) {
        return wanted && codebooks ? codebooks(layer, head, side, *wanted) : nullptr;
      };
      auto key = make_keys(spec.keys, shape.dim, codebook(Side::keys, *key_request));
      if (!key) return at_layer(key.error());
      auto value = make_values(spec.values, shape.dim, codebook(Side::values, *value_request));
      if (!value) return at_layer(value.error());
      keys.push_back(std::move(*key));
      values.push_back(std::move(*value));
    }
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
