// What evaluate_head lets a format know: of a token no more than a cache with the same windows would.
#include "catch.hpp"
#include "pqkv/measure/evaluate.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

TEST_CASE("heavy tokens are judged by the queries that a recent window sees, and by no later ones") {
  // All queries ask for 4 tokens of each block, from 20 tokens behind the block on: with a recent window of less than that
  // nobody knows them when the block is sealed.
  constexpr std::size_t tokens = 320, dim = 32, late = 20;
  auto keys = normal_floats(tokens * dim, 1), queries = normal_floats(tokens * dim, 2);
  const auto values = normal_floats(tokens * dim, 3);
  for (std::size_t t = 0; t < tokens; ++t) {
    const bool asked = t % 8 == 5;
    for (std::size_t i = 0; i < 10; ++i) {  // a channel per block
      queries[t * dim + i] = t >= 32 * (i + 1) + late ? 10.0f : 0.0f;
      keys[t * dim + i] = asked && t / 32 == i ? 4.0f : 0.0f;
    }
  }
  const auto error_of = [&](const AnyValues& format, std::size_t recent) {
    const CacheOptions options{.recent = recent};
    const auto qualities = evaluate_head(AnyKeys(ExactKeys{dim}), format, options, {queries.data(), tokens, 1, dim, dim},
                                         {keys.data(), tokens, dim}, {values.data(), tokens, dim});
    return qualities.value().front().output_error;
  };
  const AnyValues plain = Turbo2Values::make(dim).value();
  const AnyValues heavy = HeavyValues<AnyValues>::make(plain, 4).value();
  CHECK(error_of(heavy, 32) < 0.5 * error_of(plain, 32));
  CHECK(error_of(heavy, late) > 0.8 * error_of(plain, late));
  CHECK(error_of(heavy, 0) > 0.8 * error_of(plain, 0));
}
