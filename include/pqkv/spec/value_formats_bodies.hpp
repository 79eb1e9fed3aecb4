// The value formats that can be named in a spec: one entry each. Bodies of spec/registry.hpp.
#pragma once

#include <utility>

#include "pqkv/spec/make_formats.hpp"
#include "pqkv/spec/registry.hpp"
#include "pqkv/values.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// Fine channels of integer values; 0: none.
PQKV_WHEN_CALLED [[nodiscard]] Result<std::size_t> parse_fine(const FormatSpec& spec, std::size_t dim) {
  const std::string* text = spec.find("fine");
  return text == nullptr ? Result<std::size_t>(std::size_t{0}) : parse_number(*text, "fine", dim);
}

/// Integers need to know their widest channels where some are kept fine: a few levels of each tell.
PQKV_WHEN_CALLED [[nodiscard]] Result<std::optional<CodebookRequest>> integer_codebook(const FormatSpec& spec, std::size_t dim) {
  const auto fine = parse_fine(spec, dim);
  if (!fine) return fine.error();
  if (*fine != 0) return level_codebook<2, false>(spec, dim);
  if (spec.find("importance") != nullptr) {
    return Error{Errc::invalid_parameter, message(spec.name, ": importance says which channels are fine; there is no fine=N")};
  }
  return space_codebook<false>(spec, dim);
}

template <std::size_t bits>
[[nodiscard]] Result<AnyValues> make_integer(const FormatSpec& spec, std::size_t dim, std::shared_ptr<const Codebook> codebook) {
  std::size_t group = 32;
  if (const std::string* text = spec.find("g")) {
    if (*text == "row") {
      group = 0;
    } else {
      const auto parsed = parse_number(*text, "g", dim);
      if (!parsed) return parsed.error();
      if (*parsed == 0) return Error{Errc::invalid_parameter, "g=0: groups have 16, 32, 64 or 'row' channels"};
      group = *parsed;
    }
  }
  const auto fit = parse_integer_fit(spec);
  if (!fit) return fit.error();
  auto made = IntegerValues<bits>::make(dim, group, *fit);
  if (!made) return made.error();
  const auto fine = parse_fine(spec, dim);
  if (!fine) return fine.error();
  const auto space = space_of(codebook);
  if (*fine == 0) return in_space<AnyValues, SpacedValues>(std::move(*made), space);
  if (*fine > dim) return Error{Errc::invalid_parameter, message("fine=", *fine, " of ", dim, " channels")};
  auto mixed = MixedValues<IntegerValues<bits>>::make(std::move(*made), widest_channels(*codebook, *fine));
  if (!mixed) return mixed.error();
  return in_space<AnyValues, SpacedValues>(std::move(*mixed), space);
}

PQKV_COMPILED_ONCE [[nodiscard]] Result<AnyValues> with_heavy_tokens(const FormatSpec& spec, AnyValues inner) {
  const std::string* text = spec.find("heavy");
  if (text == nullptr) return inner;
  const auto heavy = parse_number(*text, "heavy");
  if (!heavy) return heavy.error();
  if (*heavy == 0) return inner;
  auto made = HeavyValues<AnyValues>::make(std::move(inner), *heavy);
  if (!made) return made.error();
  return AnyValues(std::move(*made));
}

}  // namespace detail

PQKV_COMPILED_ONCE [[nodiscard]] std::span<const Format<AnyValues>> value_formats() {
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

}  // namespace pqkv::inline PQKV_ABI
