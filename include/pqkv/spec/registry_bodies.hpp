// Bodies of spec/registry.hpp: how an entry is found, what it is checked against, and the list for a person.
#pragma once

#include <utility>

#include "pqkv/spec/make_formats.hpp"
#include "pqkv/spec/registry.hpp"

namespace pqkv::inline PQKV_ABI {

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
PQKV_WHEN_CALLED [[nodiscard]] std::string describe(const CodebookShape& shape) {
  if (shape.is_space()) return "a fitted space and no centroids";
  return message(shape.subspaces, " subspaces of ", shape.stages == 1 ? "" : message(shape.stages, " x "), shape.centroids,
                 " centroids");
}

/// Ok, or how the space in front of a codebook differs from the one asked for.
PQKV_WHEN_CALLED [[nodiscard]] Status check_space(const FormatSpec& spec, const FitOptions& fit, const CodeSpace* space) {
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

PQKV_COMPILED_ONCE [[nodiscard]] Result<std::optional<CodebookRequest>> key_codebook_request(const FormatSpec& spec, std::size_t dim) {
  return detail::codebook_request(key_formats(), spec, dim, "key");
}
PQKV_COMPILED_ONCE [[nodiscard]] Result<std::optional<CodebookRequest>> value_codebook_request(const FormatSpec& spec,
                                                                                               std::size_t dim) {
  return detail::codebook_request(value_formats(), spec, dim, "value");
}

PQKV_COMPILED_ONCE [[nodiscard]] Result<AnyKeys> make_keys(const FormatSpec& spec, std::size_t dim,
                                                           std::shared_ptr<const Codebook> codebook) {
  return detail::make_format(key_formats(), spec, dim, std::move(codebook), "key");
}
PQKV_COMPILED_ONCE [[nodiscard]] Result<AnyValues> make_values(const FormatSpec& spec, std::size_t dim,
                                                               std::shared_ptr<const Codebook> codebook) {
  auto made = detail::make_format(value_formats(), spec, dim, std::move(codebook), "value");
  if (!made) return made.error();
  return detail::with_heavy_tokens(spec, std::move(*made));
}

PQKV_COMPILED_ONCE [[nodiscard]] std::string list_formats() {
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
