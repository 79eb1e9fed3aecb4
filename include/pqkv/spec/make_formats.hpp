// How formats are made of their specs: the codebook that each asks for, and the format itself. What keys and values share;
// part of spec/key_formats_bodies.hpp and spec/value_formats_bodies.hpp.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "pqkv/codec/codebook_request.hpp"
#include "pqkv/codec/integer_fit.hpp"
#include "pqkv/spec/any_values.hpp"
#include "pqkv/spec/fit_parameters.hpp"

namespace pqkv::inline PQKV_ABI::detail {

PQKV_WHEN_CALLED [[nodiscard]] Result<std::optional<CodebookRequest>> no_codebook(const FormatSpec&, std::size_t) {
  return std::optional<CodebookRequest>{};
}

/// m subspaces of `centroids` per stage, by default 1 bit per element; and what to fit in front of them.
template <std::size_t centroids, bool keys>
[[nodiscard]] Result<std::optional<CodebookRequest>> pq_codebook(const FormatSpec& spec, std::size_t dim) {
  constexpr std::size_t default_width = centroids == 16 ? 4 : 8;
  CodebookRequest request{{dim, dim / default_width, centroids}, {}};
  if (const std::string* text = spec.find("stages")) {
    const auto stages = parse_number(*text, "stages");
    if (!stages) return stages.error();
    request.shape.stages = *stages;
    if (*stages != 0) request.shape.subspaces = std::max<std::size_t>(request.shape.subspaces / *stages, 1);
  }
  if (const std::string* text = spec.find("m")) {
    const auto subspaces = parse_number(*text, "m", dim);
    if (!subspaces) return subspaces.error();
    request.shape.subspaces = *subspaces;
  }
  if (Status status = check(request.shape); !status) {
    return Error{status.error().code, message(spec.name, ": ", status.error().message)};
  }
  const auto fit = parse_fit(spec, keys);
  if (!fit) return fit.error();
  request.fit = *fit;
  if ((request.shape.stages > 1 || request.fit.gain) && request.fit.mass) {
    if (spec.find("mass") != nullptr) {
      return Error{Errc::invalid_parameter,
                   message(spec.name, ": mass=1: ", request.fit.gain ? "centroids with a gain" : "sums of centroids",
                           " have no mass correction")};
    }
    request.fit.mass = false;
  }
  return std::optional(request);
}

template <class Any, class Concrete>
[[nodiscard]] Result<Any> make_exact(const FormatSpec& spec, std::size_t dim, std::shared_ptr<const Codebook>) {
  ScalarType type = ScalarType::f32;
  if (const std::string* text = spec.find("")) {
    const auto parsed = parse_scalar(*text, "exact");
    if (!parsed) return parsed.error();
    type = *parsed;
  }
  return Any(Concrete(dim, type));
}

/// `inner`, behind `space` where there is one.
template <class Any, template <class> class Spaced, class Inner>
[[nodiscard]] Result<Any> in_space(Inner inner, std::shared_ptr<const CodeSpace> space) {
  if (space == nullptr) return Any(std::move(inner));
  auto spaced = Spaced<Inner>::make(std::move(inner), std::move(space));
  if (!spaced) return spaced.error();
  return Any(std::move(*spaced));
}

/// The space of a codebook that may not be there.
PQKV_WHEN_CALLED [[nodiscard]] std::shared_ptr<const CodeSpace> space_of(const std::shared_ptr<const Codebook>& codebook) {
  return codebook == nullptr ? nullptr : codebook->space();
}

/// What formats without centroids take: the space alone, where anything is to be in it.
template <bool keys>
[[nodiscard]] Result<std::optional<CodebookRequest>> space_codebook(const FormatSpec& spec, std::size_t dim) {
  const auto fit = parse_fit(spec, keys);
  if (!fit) return fit.error();
  if (!fit->any()) return std::optional<CodebookRequest>{};
  const CodebookShape shape = CodebookShape::of_space(dim);
  if (Status status = check(shape); !status) return Error{status.error().code, message(spec.name, ": ", status.error().message)};
  return std::optional(CodebookRequest{shape, *fit});
}

/// The format itself, or with a gain, or behind the codebook's space.
template <class Any, class Concrete, template <class> class Gained, template <class> class Spaced>
[[nodiscard]] Result<Any> make_pq(const FormatSpec&, std::size_t, std::shared_ptr<const Codebook> codebook) {
  const auto space = codebook->space();
  auto made = Concrete::make(std::move(codebook));
  if (!made) return made.error();
  if (space != nullptr && space->parts().unit_length) {
    auto gained = Gained<Concrete>::make(std::move(*made));
    if (!gained) return gained.error();
    return in_space<Any, Spaced>(std::move(*gained), space);
  }
  return in_space<Any, Spaced>(std::move(*made), space);
}

inline constexpr std::string_view kivi_parameters = "search run centre";
inline constexpr std::string_view turbo_key_parameters = "seed run centre";
inline constexpr std::string_view turbo_value_parameters = "seed centre heavy";
inline constexpr std::string_view integer_parameters = "g search fine centre importance heavy";
inline constexpr std::string_view level_key_parameters = "outliers run centre importance";
inline constexpr std::string_view level_value_parameters = "outliers centre importance heavy";

/// 2^bits levels per channel.
template <std::size_t bits, bool keys>
[[nodiscard]] Result<std::optional<CodebookRequest>> level_codebook(const FormatSpec& spec, std::size_t dim) {
  CodebookRequest request{{dim, dim, std::size_t{1} << bits}, {}};
  if (Status status = check(request.shape); !status) {
    return Error{status.error().code, message(spec.name, ": ", status.error().message)};
  }
  const auto fit = parse_fit(spec, keys);
  if (!fit) return fit.error();
  request.fit = *fit;
  return std::optional(request);
}

/// Trained levels, outliers apart, behind the codebook's space.
template <class Any, class Concrete, template <class> class Sparse, template <class> class Spaced>
[[nodiscard]] Result<Any> make_nuq(const FormatSpec& spec, std::size_t, std::shared_ptr<const Codebook> codebook) {
  std::size_t percent = 1;
  if (const std::string* text = spec.find("outliers")) {
    const auto parsed = parse_number(*text, "outliers");
    if (!parsed) return parsed.error();
    percent = *parsed;
  }
  const auto space = codebook->space();
  auto made = Concrete::make(std::move(codebook));
  if (!made) return made.error();
  if (percent == 0) return in_space<Any, Spaced>(std::move(*made), space);
  auto sparse = Sparse<Concrete>::make(std::move(*made), percent);
  if (!sparse) return sparse.error();
  return in_space<Any, Spaced>(std::move(*sparse), space);
}

/// search=1: scales of integers are sought for the least error.
PQKV_WHEN_CALLED [[nodiscard]] Result<IntegerFit> parse_integer_fit(const FormatSpec& spec) {
  const std::string* text = spec.find("search");
  if (text == nullptr) return IntegerFit::range;
  const auto on = parse_switch(*text, "search");
  if (!on) return on.error();
  return *on ? IntegerFit::least_error : IntegerFit::range;
}

/// A format that is fixed by its dim, or it behind a space.
template <class Any, class Concrete, template <class> class Spaced>
[[nodiscard]] Result<Any> make_plain(const FormatSpec&, std::size_t dim, std::shared_ptr<const Codebook> space) {
  auto made = Concrete::make(dim);
  if (!made) return made.error();
  return in_space<Any, Spaced>(std::move(*made), space_of(space));
}

template <class Any, class Concrete, template <class> class Spaced>
[[nodiscard]] Result<Any> make_turbo(const FormatSpec& spec, std::size_t dim, std::shared_ptr<const Codebook> space) {
  std::size_t seed = 1;
  if (const std::string* text = spec.find("seed")) {
    const auto parsed = parse_number(*text, "seed");
    if (!parsed) return parsed.error();
    seed = *parsed;
  }
  auto made = Concrete::make(dim, seed);
  if (!made) return made.error();
  return in_space<Any, Spaced>(std::move(*made), space_of(space));
}

/// heavy=N: the format around any other.
PQKV_COMPILED_ONCE [[nodiscard]] Result<AnyValues> with_heavy_tokens(const FormatSpec& spec, AnyValues inner);

}  // namespace pqkv::inline PQKV_ABI::detail
