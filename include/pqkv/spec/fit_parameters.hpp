// What a format may ask to be fitted in front of its codebook, from the parameters of its spec. Part of spec/registry.hpp.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "pqkv/codec/codebook_request.hpp"
#include "pqkv/policy.hpp"
#include "pqkv/spec/cache_spec.hpp"

namespace pqkv::inline PQKV_ABI::detail {

/// "1" or "0".
PQKV_WHEN_CALLED [[nodiscard]] Result<bool> parse_switch(std::string_view text, std::string_view what) {
  if (text == "0" || text == "1") return text == "1";
  return Error{Errc::invalid_parameter, message(what, "=", text, ": choose 0 or 1")};
}

inline constexpr std::string_view fitted_key_parameters = "m stages fit run centre metric rotate importance mass gain";
inline constexpr std::string_view fitted_value_parameters = "m stages fit centre metric rotate importance gain heavy";
/// Of formats without centroids.
inline constexpr std::string_view space_key_parameters = "run centre";
inline constexpr std::string_view space_value_parameters = "centre heavy";

/// Tokens per run.
PQKV_WHEN_CALLED [[nodiscard]] Result<std::size_t> parse_run(const std::string& text, std::string_view what) {
  const auto tokens = parse_number(text, what);
  if (!tokens) return tokens.error();
  const bool fits = *tokens == 16 || (*tokens % block_tokens == 0 && *tokens >= block_tokens && *tokens <= 4096);
  if (!fits) return Error{Errc::invalid_parameter, message(what, "=", text, ": choose 16, or a multiple of 32 up to 4096")};
  return *tokens;
}

/// What a format asks to be fitted in front of its codebook. `fit` turns on all that takes no bits; single parameters overrule
/// it.
PQKV_WHEN_CALLED [[nodiscard]] Result<FitOptions> parse_fit(const FormatSpec& spec, bool keys) {
  FitOptions fit;
  if (const std::string* text = spec.find("fit")) {
    fit = {0, true, true, Rotation::learned, true, keys};
    if (keys) {
      const auto run = parse_run(*text, "fit");
      if (!run) return run.error();
      fit.run_tokens = *run;
    } else {
      const auto on = parse_switch(*text, "fit");
      if (!on) return on.error();
      if (!*on) fit = {};
    }
  }
  if (const std::string* text = spec.find("run")) {
    const auto run = parse_run(*text, "run");
    if (!run) return run.error();
    fit.run_tokens = *run;
  }
  for (const auto& [name, out] : {std::pair{"centre", &fit.centre}, {"metric", &fit.metric}, {"importance", &fit.importance},
                                  {"mass", &fit.mass}, {"gain", &fit.gain}}) {
    const std::string* text = spec.find(name);
    if (text == nullptr) continue;
    const auto on = parse_switch(*text, name);
    if (!on) return on.error();
    *out = *on;
  }
  if (const std::string* text = spec.find("rotate")) {
    static constexpr std::pair<std::string_view, Rotation> rotations[] = {
        {"none", Rotation::none},        {"deal", Rotation::dealt},  {"hadamard", Rotation::hadamard},
        {"balance", Rotation::balanced}, {"opq", Rotation::learned}, {"auto", Rotation::automatic}};
    const auto* found = std::find_if(std::begin(rotations), std::end(rotations), [&](const auto& r) { return r.first == *text; });
    if (found == std::end(rotations)) {
      return Error{Errc::invalid_parameter, message("rotate=", *text, ": choose none, deal, hadamard, balance, opq or auto")};
    }
    fit.rotation = found->second;
  }
  return fit;
}

}  // namespace pqkv::inline PQKV_ABI::detail
