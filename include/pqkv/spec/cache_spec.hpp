// FormatSpec and CacheSpec: a policy as text, parsed. Above the pipeline: engines and scripts choose at run time.
//
//   spec    = item {"," item}
//   item    = "k=" format | "v=" format | "sinks=" number | "recent=" number | "window=" ("f32" | "f16" | "bf16")
//   format  = name {":" parameter}
//   parameter = key "=" value | value            (a bare value has the empty key: "exact:f16")
//   e.g.    k=pq8:m=8,v=int4:g=32,sinks=4,recent=64        "m=dim/4" is a value too
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pqkv/base/result.hpp"
#include "pqkv/base/rows.hpp"
#include "pqkv/cache/head_cache.hpp"

namespace pqkv::inline PQKV_ABI {

/// One format's name and parameters, as written.
struct FormatSpec {
  std::string name;
  std::vector<std::pair<std::string, std::string>> parameters;

  [[nodiscard]] const std::string* find(std::string_view key) const noexcept {
    for (const auto& [name_of_parameter, value] : parameters) {
      if (name_of_parameter == key) return &value;
    }
    return nullptr;
  }
};

/// A whole policy: formats and windows.
struct CacheSpec {
  FormatSpec keys;
  FormatSpec values;
  CacheOptions options;
  std::string text;
};

/// A whole number ≥ 0, or "dim/n" where dim is known and divisible. Errors name `what`.
PQKV_COMPILED_ONCE [[nodiscard]] Result<std::size_t> parse_number(std::string_view text, std::string_view what,
                                                                  std::size_t dim = 0);

PQKV_COMPILED_ONCE [[nodiscard]] Result<ScalarType> parse_scalar(std::string_view text, std::string_view what);

/// "int4:g=32" → FormatSpec. The name is not looked up here.
PQKV_COMPILED_ONCE [[nodiscard]] Result<FormatSpec> parse_format_spec(std::string_view text);

/// The grammar above. Errors: invalid_parameter, naming the item.
PQKV_COMPILED_ONCE [[nodiscard]] Result<CacheSpec> parse_cache_spec(std::string_view text);

namespace detail {

/// The pieces of `text` between separators, empty ones too.
[[nodiscard]] inline std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  while (true) {
    const std::size_t at = text.find(separator);
    pieces.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return pieces;
    text.remove_prefix(at + 1);
  }
}

}  // namespace detail

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/spec/cache_spec_bodies.hpp"
#endif
