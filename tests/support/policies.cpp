// The policies that the conformance tests run over: a new format is one more line here.
#include "support/policies.hpp"

#include <algorithm>

namespace pqkv::test {

std::shared_ptr<const Codebook> random_codebook(std::size_t dim, std::size_t subspaces, std::size_t centroids,
                                                std::size_t stages) {
  const CodebookShape shape{dim, subspaces, centroids, stages};
  return Codebook::make(shape, normal_floats(shape.floats(), codebook_seed)).value();
}

std::vector<SpaceChoice> space_choices(std::size_t dim, bool turning) {
  if (!turning) return {{.mean = true}, {.mapped = true}, {.mean = true, .mapped = true}};
  return {{.rotary = dim},
          {.mean = true, .mapped = true},
          {.rotary = dim, .run_tokens = 64, .mean = true},
          {.rotary = dim, .run_tokens = 96, .pairing = RopePairing::half_split, .mapped = true},
          {.rotary = dim / 2, .run_tokens = 64, .pairing = RopePairing::half_split, .mean = true, .mapped = true}};
}

std::vector<AnyKeys> key_policies(std::size_t dim) {
  std::vector<AnyKeys> policies;
  for (const ScalarType type : {ScalarType::f32, ScalarType::f16, ScalarType::bf16}) {
    policies.emplace_back(ExactKeys(dim, type));
  }
  for (const std::size_t width : {2, 4, 16}) {
    policies.emplace_back(Pq8Keys::make(random_codebook(dim, dim / width, 256)).value());
    policies.emplace_back(Pq6Keys::make(random_codebook(dim, dim / width, 64)).value());
    policies.emplace_back(Pq4Keys::make(random_codebook(dim, dim / width, 16)).value());
  }
  for (const std::size_t stages : {2, 3}) {
    policies.emplace_back(Pq8Keys::make(random_codebook(dim, dim / 16, 256, stages)).value());
    policies.emplace_back(Pq6Keys::make(random_codebook(dim, dim / 16, 64, stages)).value());
    policies.emplace_back(Pq4Keys::make(random_codebook(dim, dim / 8, 16, stages)).value());
  }
  policies.emplace_back(Kivi8Keys::make(dim).value());
  policies.emplace_back(Kivi4Keys::make(dim).value());
  policies.emplace_back(Kivi2Keys::make(dim).value());
  policies.emplace_back(Kivi4Keys::make(dim, IntegerFit::least_error).value());
  if (dim % 32 == 0) {
    policies.emplace_back(Q8Keys::make(dim).value());
    policies.emplace_back(Q4Keys::make(dim).value());
  }
  policies.emplace_back(Turbo4Keys::make(dim).value());
  policies.emplace_back(Turbo3Keys::make(dim).value());
  policies.emplace_back(Turbo2Keys::make(dim, 5).value());
  policies.emplace_back(Nuq4Keys::make(random_codebook(dim, dim, 16)).value());
  policies.emplace_back(Nuq3Keys::make(random_codebook(dim, dim, 8)).value());
  policies.emplace_back(Nuq2Keys::make(random_codebook(dim, dim, 4)).value());
  const auto sparse = [&](auto inner, std::size_t percent) {
    policies.emplace_back(SparseKeys<decltype(inner)>::make(std::move(inner), percent).value());
  };
  sparse(Nuq2Keys::make(random_codebook(dim, dim, 4)).value(), 1);
  const auto spaced = [&](auto inner, const SpaceChoice& choice) {
    const auto space = random_space(dim, choice, codebook_seed + 10);
    policies.emplace_back(SpacedKeys<decltype(inner)>::make(std::move(inner), space).value());
  };
  for (const SpaceChoice& choice : space_choices(dim, true)) {
    spaced(Pq8Keys::make(random_codebook(dim, dim / 4, 256)).value(), choice);
    spaced(Pq4Keys::make(random_codebook(dim, dim / 2, 16)).value(), choice);
  }
  sparse(Kivi2Keys::make(dim).value(), 5);
  policies.emplace_back(GainedKeys<Pq8Keys>::make(Pq8Keys::make(random_codebook(dim, dim / 4, 256)).value()).value());
  spaced(GainedKeys<Pq4Keys>::make(Pq4Keys::make(random_codebook(dim, dim / 4, 16)).value()).value(),
         space_choices(dim, true)[2]);
  spaced(SparseKeys<Nuq2Keys>::make(Nuq2Keys::make(random_codebook(dim, dim, 4)).value()).value(), space_choices(dim, true)[2]);
  spaced(ExactKeys(dim, ScalarType::f32), space_choices(dim, true).back());
  spaced(Kivi2Keys::make(dim, IntegerFit::least_error).value(), space_choices(dim, true)[2]);
  spaced(Turbo3Keys::make(dim).value(), space_choices(dim, true)[2]);
  if (dim % 32 == 0) spaced(Q4Keys::make(dim).value(), space_choices(dim, true)[2]);
  std::vector<std::size_t> channels;
  for (std::size_t c = 0; c < dim; ++c) {
    if (c % 4 != 1) channels.push_back(c);
  }
  policies.emplace_back(
      PrunedKeys<Pq4Keys>::make(Pq4Keys::make(random_codebook(channels.size(), channels.size() / 4, 16)).value(), channels, dim)
          .value());
  return policies;
}

bool has_byte_tables(const AnyKeys& policy) {
  return policy.describe().starts_with("pq") && !policy.describe().starts_with("pq8");
}

std::vector<AnyValues> value_policies(std::size_t dim) {
  std::vector<AnyValues> policies;
  for (const ScalarType type : {ScalarType::f32, ScalarType::f16, ScalarType::bf16}) {
    policies.emplace_back(ExactValues(dim, type));
  }
  for (const std::size_t group : {std::size_t{16}, std::size_t{0}}) {
    policies.emplace_back(Int8Values::make(dim, group).value());
    policies.emplace_back(Int4Values::make(dim, group).value());
    policies.emplace_back(Int2Values::make(dim, group).value());
    policies.emplace_back(Int2Values::make(dim, group, IntegerFit::least_error).value());
  }
  for (const std::size_t width : {2, 4, 16}) {
    policies.emplace_back(Pq8Values::make(random_codebook(dim, dim / width, 256)).value());
    policies.emplace_back(Pq4Values::make(random_codebook(dim, dim / width, 16)).value());
  }
  for (const std::size_t stages : {2, 3}) {
    policies.emplace_back(Pq8Values::make(random_codebook(dim, dim / 16, 256, stages)).value());
    policies.emplace_back(Pq4Values::make(random_codebook(dim, dim / 8, 16, stages)).value());
  }
  if (dim % 32 == 0) {
    policies.emplace_back(Q8Values::make(dim).value());
    policies.emplace_back(Q4Values::make(dim).value());
  }
  policies.emplace_back(Turbo4Values::make(dim).value());
  policies.emplace_back(Turbo3Values::make(dim).value());
  policies.emplace_back(Turbo2Values::make(dim, 5).value());
  policies.emplace_back(Nuq4Values::make(random_codebook(dim, dim, 16)).value());
  policies.emplace_back(Nuq3Values::make(random_codebook(dim, dim, 8)).value());
  policies.emplace_back(Nuq2Values::make(random_codebook(dim, dim, 4)).value());
  const auto sparse = [&](auto inner, std::size_t percent) {
    policies.emplace_back(SparseValues<decltype(inner)>::make(std::move(inner), percent).value());
  };
  sparse(Nuq2Values::make(random_codebook(dim, dim, 4)).value(), 1);
  const auto spaced = [&](auto inner, const SpaceChoice& choice) {
    const auto space = random_space(dim, choice, codebook_seed + 10);
    policies.emplace_back(SpacedValues<decltype(inner)>::make(std::move(inner), space).value());
  };
  for (const SpaceChoice& choice : space_choices(dim, false)) {
    spaced(Pq8Values::make(random_codebook(dim, dim / 4, 256)).value(), choice);
    spaced(Pq4Values::make(random_codebook(dim, dim / 2, 16)).value(), choice);
  }
  policies.emplace_back(MixedValues<Int8Values>::make(Int8Values::make(dim, 16).value(), {0, 7, 8, 15}).value());
  policies.emplace_back(MixedValues<Int4Values>::make(Int4Values::make(dim, 0).value(), {3}).value());
  policies.emplace_back(HeavyValues<Turbo2Values>::make(Turbo2Values::make(dim).value(), 3).value());
  policies.emplace_back(HeavyValues<Int2Values>::make(Int2Values::make(dim, 16).value(), 16).value());
  sparse(Pq8Values::make(random_codebook(dim, dim / 4, 256)).value(), 5);
  policies.emplace_back(GainedValues<Pq8Values>::make(Pq8Values::make(random_codebook(dim, dim / 4, 256)).value()).value());
  spaced(GainedValues<Pq4Values>::make(Pq4Values::make(random_codebook(dim, dim / 4, 16)).value()).value(),
         space_choices(dim, false)[0]);
  spaced(Int8Values::make(dim, 16).value(), space_choices(dim, false).back());
  spaced(Turbo4Values::make(dim).value(), space_choices(dim, false)[0]);
  return policies;
}

std::vector<std::pair<AnyKeys, AnyValues>> format_pairs(std::size_t dim) {
  const auto keys = key_policies(dim);
  const auto values = value_policies(dim);
  std::vector<std::pair<AnyKeys, AnyValues>> pairs;
  for (std::size_t i = 0; i < 3 * std::max(keys.size(), values.size()); ++i) {
    pairs.emplace_back(keys[i % keys.size()], values[(i + i / keys.size()) % values.size()]);
  }
  return pairs;
}

}  // namespace pqkv::test
