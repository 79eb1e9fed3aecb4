// The formats that can be named in a spec: one entry each, with its parameters and how it is made.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "pqkv/codec/codebook_request.hpp"
#include "pqkv/spec/cache_spec.hpp"
#include "pqkv/spec/make_formats.hpp"

namespace pqkv::inline PQKV_ABI {

/// One entry. `Any` is AnyKeys or AnyValues.
template <class Any>
struct Format {
  std::string_view name;
  std::string_view parameters;  ///< for a person: "m=N (subspaces; dim/8)"
  std::string_view summary;
  std::string_view keys;        ///< the parameter keys it takes, separated by spaces; "" is written "type"
  /// The codebook it needs for rows of that dim, or none.
  Result<std::optional<CodebookRequest>> (*codebook)(const FormatSpec& spec, std::size_t dim);
  /// Expects the codebook of that shape where one is needed.
  Result<Any> (*make)(const FormatSpec& spec, std::size_t dim, std::shared_ptr<const Codebook> codebook);
};

[[nodiscard]] inline std::span<const Format<AnyKeys>> key_formats() {
  static constexpr std::string_view spaced_keys = "run, centre";
  static constexpr std::string_view seeded_keys = "seed=N of the rotation (default 1), run, centre";
  static const Format<AnyKeys> formats[] = {
      {"exact", "f32 | f16 | bf16 (default f32)", "rows as they are", "type", detail::no_codebook,
       detail::make_exact<AnyKeys, ExactKeys>},
      {"pq8", "m=N subspaces (default dim/8), stages=N; fitted", "256 centroids per subspace, float tables (LOOKAT)",
       detail::fitted_key_parameters,
       detail::pq_codebook<256, true>, detail::make_pq<AnyKeys, Pq8Keys, GainedKeys, SpacedKeys>},
      {"pq6", "m=N subspaces (default dim/8), stages=N; fitted", "64 centroids per subspace, 8-bit tables in registers",
       detail::fitted_key_parameters,
       detail::pq_codebook<64, true>, detail::make_pq<AnyKeys, Pq6Keys, GainedKeys, SpacedKeys>},
      {"pq4", "m=N subspaces (default dim/4), stages=N; fitted", "16 centroids per subspace, 8-bit tables in registers",
       detail::fitted_key_parameters,
       detail::pq_codebook<16, true>, detail::make_pq<AnyKeys, Pq4Keys, GainedKeys, SpacedKeys>},
      {"kivi8", "search=1, run, centre", "8 bits, scale and offset per channel and block of 32 tokens",
       detail::kivi_parameters, detail::space_codebook<true>, detail::make_kivi<Kivi8Keys>},
      {"kivi4", "search=1, run, centre", "4 bits, scale and offset per channel and block of 32 tokens",
       detail::kivi_parameters, detail::space_codebook<true>, detail::make_kivi<Kivi4Keys>},
      {"kivi2", "search=1, run, centre", "2 bits, scale and offset per channel and block of 32 tokens",
       detail::kivi_parameters, detail::space_codebook<true>, detail::make_kivi<Kivi2Keys>},
      {"q8_0", spaced_keys, "ggml's q8_0: 8 bits, a scale per token and 32 channels", detail::space_key_parameters,
       detail::space_codebook<true>, detail::make_plain<AnyKeys, Q8Keys, SpacedKeys>},
      {"q4_0", spaced_keys, "ggml's q4_0: 4 bits, a scale per token and 32 channels", detail::space_key_parameters,
       detail::space_codebook<true>, detail::make_plain<AnyKeys, Q4Keys, SpacedKeys>},
      {"turbo4", seeded_keys, "4 bits, rotated, levels of a normal distribution, no training",
       detail::turbo_key_parameters, detail::space_codebook<true>, detail::make_turbo<AnyKeys, Turbo4Keys, SpacedKeys>},
      {"turbo3", seeded_keys, "3 bits, rotated, levels of a normal distribution, no training",
       detail::turbo_key_parameters, detail::space_codebook<true>, detail::make_turbo<AnyKeys, Turbo3Keys, SpacedKeys>},
      {"turbo2", seeded_keys, "2 bits, rotated, levels of a normal distribution, no training",
       detail::turbo_key_parameters, detail::space_codebook<true>, detail::make_turbo<AnyKeys, Turbo2Keys, SpacedKeys>},
      {"nuq4", "outliers=0..5 percent (default 1), run, centre, importance", "16 levels per channel, outliers apart",
       detail::level_key_parameters, detail::level_codebook<4, true>,
       detail::make_nuq<AnyKeys, Nuq4Keys, SparseKeys, SpacedKeys>},
      {"nuq3", "outliers=0..5 percent (default 1), run, centre, importance", "8 levels per channel, outliers apart",
       detail::level_key_parameters, detail::level_codebook<3, true>,
       detail::make_nuq<AnyKeys, Nuq3Keys, SparseKeys, SpacedKeys>},
      {"nuq2", "outliers=0..5 percent (default 1), run, centre, importance", "4 levels per channel, outliers apart",
       detail::level_key_parameters, detail::level_codebook<2, true>,
       detail::make_nuq<AnyKeys, Nuq2Keys, SparseKeys, SpacedKeys>},
  };
  return formats;
}

[[nodiscard]] inline std::span<const Format<AnyValues>> value_formats() {
  static constexpr std::string_view groups = "g=16 | 32 | 64 | row (default 32), search=1, fine=N channels in f16, centre, heavy=N";
  static constexpr std::string_view spaced_values = "centre, heavy=N";
  static constexpr std::string_view seeded_values = "seed=N of the rotation (default 1), centre, heavy=N";
  static const Format<AnyValues> formats[] = {
      {"exact", "f32 | f16 | bf16 (default f32)", "rows as they are", "type", detail::no_codebook,
       detail::make_exact<AnyValues, ExactValues>},
      {"int8", groups, "8 bits, scale and offset per token and group", detail::integer_parameters, detail::integer_codebook,
       detail::make_integer<8>},
      {"int4", groups, "4 bits, scale and offset per token and group", detail::integer_parameters, detail::integer_codebook,
       detail::make_integer<4>},
      {"int2", groups, "2 bits, scale and offset per token and group", detail::integer_parameters, detail::integer_codebook,
       detail::make_integer<2>},
      {"pq8", "m=N subspaces (default dim/8), stages=N; fitted, heavy=N", "256 centroids per subspace, summed in buckets",
       detail::fitted_value_parameters,
       detail::pq_codebook<256, false>, detail::make_pq<AnyValues, Pq8Values, GainedValues, SpacedValues>},
      {"pq4", "m=N subspaces (default dim/4), stages=N; fitted, heavy=N", "16 centroids per subspace, summed in buckets",
       detail::fitted_value_parameters,
       detail::pq_codebook<16, false>, detail::make_pq<AnyValues, Pq4Values, GainedValues, SpacedValues>},
      {"q8_0", spaced_values, "ggml's q8_0: 8 bits, a scale per token and 32 channels", detail::space_value_parameters,
       detail::space_codebook<false>, detail::make_plain<AnyValues, Q8Values, SpacedValues>},
      {"q4_0", spaced_values, "ggml's q4_0: 4 bits, a scale per token and 32 channels", detail::space_value_parameters,
       detail::space_codebook<false>, detail::make_plain<AnyValues, Q4Values, SpacedValues>},
      {"turbo4", seeded_values, "4 bits, rotated, levels of a normal distribution, no training",
       detail::turbo_value_parameters, detail::space_codebook<false>, detail::make_turbo<AnyValues, Turbo4Values, SpacedValues>},
      {"turbo3", seeded_values, "3 bits, rotated, levels of a normal distribution, no training",
       detail::turbo_value_parameters, detail::space_codebook<false>, detail::make_turbo<AnyValues, Turbo3Values, SpacedValues>},
      {"turbo2", seeded_values, "2 bits, rotated, levels of a normal distribution, no training",
       detail::turbo_value_parameters, detail::space_codebook<false>, detail::make_turbo<AnyValues, Turbo2Values, SpacedValues>},
      {"nuq4", "outliers=0..5 percent (default 1), centre, importance, heavy=N", "16 levels per channel, outliers apart",
       detail::level_value_parameters, detail::level_codebook<4, false>,
       detail::make_nuq<AnyValues, Nuq4Values, SparseValues, SpacedValues>},
      {"nuq3", "outliers=0..5 percent (default 1), centre, importance, heavy=N", "8 levels per channel, outliers apart",
       detail::level_value_parameters, detail::level_codebook<3, false>,
       detail::make_nuq<AnyValues, Nuq3Values, SparseValues, SpacedValues>},
      {"nuq2", "outliers=0..5 percent (default 1), centre, importance, heavy=N", "4 levels per channel, outliers apart",
       detail::level_value_parameters, detail::level_codebook<2, false>,
       detail::make_nuq<AnyValues, Nuq2Values, SparseValues, SpacedValues>},
  };
  return formats;
}

namespace detail {

/// The entry that a spec names, once its parameter keys are known to be the format's.
template <class Any>
[[nodiscard]] Result<const Format<Any>*> find_format(std::span<const Format<Any>> formats, const FormatSpec& spec,
                                                     std::string_view side) {
  std::string known;
  for (const Format<Any>& format : formats) {
    known += (known.empty() ? "" : ", ") + std::string(format.name);
    if (format.name != spec.name) continue;
    for (const auto& [key, value] : spec.parameters) {
      bool takes = false;
      for (const std::string_view taken : split(format.keys, ' ')) takes = takes || taken == (key.empty() ? "type" : key);
      if (!takes) {
        return Error{Errc::invalid_parameter, message("format '", spec.name, "' has no parameter '",
                                                      key.empty() ? value : key, "'; it takes ", format.parameters)};
      }
    }
    return &format;
  }
  return Error{Errc::invalid_parameter, message("unknown ", side, " format '", spec.name, "'; known: ", known)};
}

template <class Any>
[[nodiscard]] Result<std::optional<CodebookRequest>> codebook_request(std::span<const Format<Any>> formats,
                                                                  const FormatSpec& spec, std::size_t dim,
                                                                  std::string_view side) {
  const auto format = find_format(formats, spec, side);
  if (!format) return format.error();
  return (*format)->codebook(spec, dim);
}

/// "8 subspaces of 256 centroids", "4 subspaces of 2 x 256 centroids"
[[nodiscard]] inline std::string describe(const CodebookShape& shape) {
  if (shape.is_space()) return "a fitted space and no centroids";
  return message(shape.subspaces, " subspaces of ", shape.stages == 1 ? "" : message(shape.stages, " x "), shape.centroids,
                 " centroids");
}

/// Ok, or how the space in front of a codebook differs from the one asked for.
[[nodiscard]] inline Status check_space(const FormatSpec& spec, const FitOptions& fit, const CodeSpace* space) {
  if ((space != nullptr) != fit.any()) {
    return Error{Errc::invalid_parameter, message("format '", spec.name, "' ", fit.any() ? "needs a" : "takes no",
                                                  " fitted space in front of its codebook")};
  }
  if (space == nullptr) return {};
  const std::size_t run = space->turns() ? space->parts().run_tokens : 0;
  if (run != fit.run_tokens) {
    return Error{Errc::invalid_parameter, message("format '", spec.name, "' asks for run=", fit.run_tokens,
                                                  ", and its codebook's space has run=", run, " (0: none)")};
  }
  if (space->parts().mean.empty() == fit.centre) {
    return Error{Errc::invalid_parameter, message("format '", spec.name, "' asks for centre=", fit.centre ? 1 : 0,
                                                  ", and its codebook's space has ", fit.centre ? "no mean" : "a mean")};
  }
  if (space->parts().unit_length != fit.gain) {
    return Error{Errc::invalid_parameter, message("format '", spec.name, "' asks for gain=", fit.gain ? 1 : 0,
                                                  ", and its codebook is ", fit.gain ? "not of" : "of", " rows of unit length")};
  }
  return {};
}

template <class Any>
[[nodiscard]] Result<Any> make_format(std::span<const Format<Any>> formats, const FormatSpec& spec, std::size_t dim,
                                      std::shared_ptr<const Codebook> codebook, std::string_view side) {
  const auto format = find_format(formats, spec, side);
  if (!format) return format.error();
  const auto request = (*format)->codebook(spec, dim);
  if (!request) return request.error();
  if (request->has_value() && (codebook == nullptr || codebook->shape() != (*request)->shape)) {
    const CodebookShape& shape = (*request)->shape;
    return Error{Errc::invalid_shape,
                 message("format '", spec.name, "' needs a codebook of dim ", dim, " with ", describe(shape), ", and got ",
                         codebook == nullptr ? std::string("none")
                                             : message("dim ", codebook->shape().dim, " with ",
                                                       describe(codebook->shape())))};
  }
  if (!request->has_value()) return (*format)->make(spec, dim, nullptr);
  if (Status status = check_space(spec, (*request)->fit, codebook->space().get()); !status) return status.error();
  return (*format)->make(spec, dim, std::move(codebook));
}

}  // namespace detail

/// The codebook that a key format needs for rows of that dim; none for formats without one.
[[nodiscard]] inline Result<std::optional<CodebookRequest>> key_codebook_request(const FormatSpec& spec, std::size_t dim) {
  return detail::codebook_request(key_formats(), spec, dim, "key");
}
[[nodiscard]] inline Result<std::optional<CodebookRequest>> value_codebook_request(const FormatSpec& spec,
                                                                               std::size_t dim) {
  return detail::codebook_request(value_formats(), spec, dim, "value");
}

/// A key policy from its spec. `codebook` where key_codebook_request asks for one, else nullptr.
[[nodiscard]] inline Result<AnyKeys> make_keys(const FormatSpec& spec, std::size_t dim,
                                               std::shared_ptr<const Codebook> codebook = nullptr) {
  return detail::make_format(key_formats(), spec, dim, std::move(codebook), "key");
}
[[nodiscard]] inline Result<AnyValues> make_values(const FormatSpec& spec, std::size_t dim,
                                                   std::shared_ptr<const Codebook> codebook = nullptr) {
  auto made = detail::make_format(value_formats(), spec, dim, std::move(codebook), "value");
  if (!made) return made.error();
  return detail::with_heavy_tokens(spec, std::move(*made));
}

/// Every format with its parameters, a line each.
[[nodiscard]] inline std::string list_formats() {
  std::string text = "keys (k=…)\n";
  const auto add = [&text](const auto& format) {
    text += message("  ", format.name, std::string(8 - format.name.size(), ' '), format.parameters,
                    std::string(format.parameters.size() < 60 ? 60 - format.parameters.size() : 1, ' '),
                    format.summary, "\n");
  };
  for (const auto& format : key_formats()) add(format);
  text += "values (v=…)\n";
  for (const auto& format : value_formats()) add(format);
  text += "several stages per subspace\n"
          "  stages=N                      a piece is the sum of N centroids (1 to 4): N codes per subspace, trained together\n"
          "scales of integers\n"
          "  search=1                      sought for the least error, instead of a group's range; encoding takes longer\n"
          "tokens at more bits (any values but exact ones)\n"
          "  heavy=N                       of each 32 tokens those N (4, say) finer whose errors attention feels most; recent=32 or more\n"
          "                                tells which\n"
          "fitted in front of codes (all off by default)\n"
          "  fit=N (keys), fit=1 (values)  everything below, keys in runs of N tokens\n"
          "  run=N                         keys under RoPE: N tokens (16, or a multiple of 32 up to 4096) are turned back to the first\n"
          "  centre=1                      rows less their mean; with run, the mean before RoPE\n"
          "  metric=1                      errors weigh as queries (keys) or the output projection (values) feel them\n"
          "  rotate=…                      none | deal (pairs dealt by variance) | hadamard | balance (principal axes dealt by\n"
          "                                variance) | opq (learned) | auto (what errs least)\n"
          "  importance=1                  errors count by the attention that rows received in calibration\n"
          "  gain=1                        lengths of rows apart from codes: 8 bits per token (not part of fit)\n"
          "  mass=1                        keys: centroids gain what a cloud of keys has over its centre in softmax\n";
  return text;
}

}  // namespace pqkv::inline PQKV_ABI
