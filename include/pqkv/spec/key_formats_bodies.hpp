// The key formats that can be named in a spec: one entry each. Bodies of spec/registry.hpp.
#pragma once

#include <utility>

#include "pqkv/keys.hpp"
#include "pqkv/spec/make_formats.hpp"
#include "pqkv/spec/registry.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

template <class Concrete>
[[nodiscard]] Result<AnyKeys> make_kivi(const FormatSpec& spec, std::size_t dim, std::shared_ptr<const Codebook> space) {
  const auto fit = parse_integer_fit(spec);
  if (!fit) return fit.error();
  auto made = Concrete::make(dim, *fit);
  if (!made) return made.error();
  return in_space<AnyKeys, SpacedKeys>(std::move(*made), space_of(space));
}

}  // namespace detail

PQKV_COMPILED_ONCE [[nodiscard]] std::span<const Format<AnyKeys>> key_formats() {
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

}  // namespace pqkv::inline PQKV_ABI
