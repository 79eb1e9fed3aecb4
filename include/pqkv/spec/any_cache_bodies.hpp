// Bodies of spec/any_cache.hpp: a cache from specs.
#pragma once

#include <utility>

#include "pqkv/spec/any_cache.hpp"

namespace pqkv::inline PQKV_ABI {

PQKV_COMPILED_ONCE [[nodiscard]] Status check_spec_count(std::size_t count, const CacheShape& shape) {
  if (count == 1 || count == shape.layers || count == shape.layers * shape.kv_heads) return {};
  return Error{Errc::invalid_shape, message(count, " specs for ", shape.layers, " layers of ", shape.kv_heads,
                                            " kv heads; give one, one per layer or one per head")};
}

PQKV_COMPILED_ONCE [[nodiscard]] Result<AnyCache> make_any_cache(const CacheShape& shape, const std::vector<CacheSpec>& specs,
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

PQKV_COMPILED_ONCE [[nodiscard]] Result<AnyCache> make_any_cache(const CacheShape& shape, const std::vector<CacheSpec>& specs,
                                                                 const CodebookSource& codebooks,
                                                                 std::size_t max_tokens) {
  return make_any_cache(shape, specs, codebooks, CacheOptions{.max_tokens = max_tokens});
}

}  // namespace pqkv::inline PQKV_ABI
