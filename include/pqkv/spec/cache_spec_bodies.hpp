// Bodies of spec/cache_spec.hpp: the parser of policies.
#pragma once

#include <charconv>

#include "pqkv/spec/cache_spec.hpp"

namespace pqkv::inline PQKV_ABI {

PQKV_COMPILED_ONCE [[nodiscard]] Result<std::size_t> parse_number(std::string_view text, std::string_view what,
                                                                  std::size_t dim) {
  const bool quotient = dim != 0 && text.starts_with("dim/");
  const std::string_view digits = quotient ? text.substr(4) : text;
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size() || (quotient && number == 0)) {
    return Error{Errc::invalid_parameter, message("'", text, "' is not a number for ", what)};
  }
  if (!quotient) return number;
  if (dim % number != 0) {
    return Error{Errc::invalid_parameter, message(what, "=", text, ": dim ", dim, " is not divisible by ", number)};
  }
  return dim / number;
}

PQKV_COMPILED_ONCE [[nodiscard]] Result<ScalarType> parse_scalar(std::string_view text, std::string_view what) {
  for (const ScalarType type : {ScalarType::f32, ScalarType::f16, ScalarType::bf16}) {
    if (text == name_of(type)) return type;
  }
  return Error{Errc::invalid_parameter, message("'", text, "' is not a scalar type for ", what,
                                                "; choose f32, f16 or bf16")};
}

PQKV_COMPILED_ONCE [[nodiscard]] Result<FormatSpec> parse_format_spec(std::string_view text) {
  FormatSpec spec;
  bool first = true;
  for (const std::string_view piece : detail::split(text, ':')) {
    if (piece.empty()) return Error{Errc::invalid_parameter, message("empty name or parameter in format '", text, "'")};
    if (std::exchange(first, false)) {
      spec.name = piece;
      continue;
    }
    const std::size_t equals = piece.find('=');
    std::string key(equals == std::string_view::npos ? "" : piece.substr(0, equals));
    std::string value(equals == std::string_view::npos ? piece : piece.substr(equals + 1));
    if (spec.find(key) != nullptr) {
      return Error{Errc::invalid_parameter, message("parameter '", piece, "' of format '", text, "' is given twice")};
    }
    spec.parameters.emplace_back(std::move(key), std::move(value));
  }
  return spec;
}

PQKV_COMPILED_ONCE [[nodiscard]] Result<CacheSpec> parse_cache_spec(std::string_view text) {
  CacheSpec spec;
  spec.text = text;
  std::vector<std::string_view> seen;
  for (const std::string_view item : detail::split(text, ',')) {
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos) {
      return Error{Errc::invalid_parameter, message("'", item, "' in '", text, "' is not of the form key=value")};
    }
    const std::string_view key = item.substr(0, equals);
    const std::string_view value = item.substr(equals + 1);
    for (const std::string_view other : seen) {
      if (other == key) return Error{Errc::invalid_parameter, message("'", key, "' is given twice in '", text, "'")};
    }
    seen.push_back(key);
    if (key == "k" || key == "v") {
      auto format = parse_format_spec(value);
      if (!format) return format.error();
      (key == "k" ? spec.keys : spec.values) = std::move(*format);
    } else if (key == "sinks" || key == "recent") {
      const auto number = parse_number(value, key);
      if (!number) return number.error();
      if (*number > 1048576) {
        return Error{Errc::invalid_parameter, message(key, "=", *number, " is more than 1048576 tokens")};
      }
      (key == "sinks" ? spec.options.sinks : spec.options.recent) = *number;
    } else if (key == "window") {
      const auto type = parse_scalar(value, key);
      if (!type) return type.error();
      spec.options.window = *type;
    } else {
      return Error{Errc::invalid_parameter, message("unknown key '", key, "' in '", text,
                                                    "'; known: k, v, sinks, recent, window")};
    }
  }
  if (spec.keys.name.empty()) return Error{Errc::invalid_parameter, message("'", text, "' has no key format (k=…)")};
  if (spec.values.name.empty()) return Error{Errc::invalid_parameter, message("'", text, "' has no value format (v=…)")};
  return spec;
}

}  // namespace pqkv::inline PQKV_ABI
