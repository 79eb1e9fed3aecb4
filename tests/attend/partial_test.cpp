// Partial: attention over ranges, merged in any order and grouping.
#include <cmath>

#include "catch.hpp"
#include "pqkv/attend/partial.hpp"
#include "support/data.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

/// Rounding of a few float rescalings.
constexpr double merge_tolerance = 1e-6;
constexpr std::size_t dim = 4;

/// A partial over `tokens` random tokens; scores spread over ±spread.
Partial random_partial(std::size_t tokens, std::uint64_t seed, float spread) {
  Random random(seed);
  Partial partial;
  partial.reset(2, dim);
  for (std::size_t t = 0; t < tokens; ++t) {
    float factors[2];
    float weights[2];
    for (std::size_t q = 0; q < 2; ++q) {
      const float score = spread * static_cast<float>(random.normal());
      factors[q] = partial.raise(q, score);
      weights[q] = std::exp(score - partial.largest(q));
    }
    partial.rescale_out(factors);
    for (std::size_t q = 0; q < 2; ++q) {
      partial.add_sum(q, weights[q]);
      for (std::size_t d = 0; d < dim; ++d) partial.out()[q * dim + d] += weights[q] * static_cast<float>(random.normal());
    }
  }
  return partial;
}

void require_equal(const Partial& a, const Partial& b) {
  std::vector<float> out_a(2 * dim), out_b(2 * dim);
  a.write(out_a.data(), dim);
  b.write(out_b.data(), dim);
  for (std::size_t i = 0; i < out_a.size(); ++i) REQUIRE(std::fabs(out_a[i] - out_b[i]) <= merge_tolerance);
  for (std::size_t q = 0; q < 2; ++q) {
    REQUIRE(a.largest(q) == b.largest(q));
    REQUIRE(std::fabs(a.sum(q) - b.sum(q)) <= merge_tolerance * a.sum(q));
  }
}

Partial merged(std::initializer_list<const Partial*> parts) {
  Partial all;
  all.reset(2, dim);
  for (const Partial* part : parts) all.merge(*part);
  return all;
}

}  // namespace

TEST_CASE("merging is associative and commutative") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const float spread = seed % 2 == 0 ? 1.0f : 30.0f;  // 30: most of the mass in one part
    const Partial a = random_partial(5, seed, spread), b = random_partial(1, seed + 100, spread),
                  c = random_partial(17, seed + 200, spread);
    const Partial bc = merged({&b, &c});
    require_equal(merged({&a, &b, &c}), merged({&a, &bc}));
    require_equal(merged({&a, &b, &c}), merged({&c, &a, &b}));
  }
}

TEST_CASE("an empty range changes nothing, whatever the scores are") {
  for (const float spread : {1.0f, 1000.0f}) {
    const Partial a = random_partial(9, 1, spread);
    const Partial nothing = random_partial(0, 1, spread);
    require_equal(merged({&a, &nothing}), merged({&nothing, &a}));
    CHECK(nothing.empty(0));
    CHECK(nothing.skipped_mass() == 0.0f);
    std::vector<float> out(2 * dim, 7.0f);
    nothing.write(out.data(), dim);
    CHECK(out == std::vector<float>(2 * dim, 0.0f));
  }
}

TEST_CASE("skipped mass is a share, and survives merging") {
  Partial a, b;
  a.reset(1, dim);
  b.reset(1, dim);
  (void)a.raise(0, 2.0f);
  a.add_sum(0, 3.0f);
  a.add_skipped(0, 1.0f);
  CHECK(a.skipped_mass() == 0.25f);
  (void)b.raise(0, 2.0f);
  b.add_sum(0, 4.0f);
  a.merge(b);
  CHECK(a.skipped_mass() == 0.125f);
  (void)a.raise(0, 50.0f);  // a later, much larger score shrinks both alike
  CHECK(std::fabs(a.skipped_mass() - 0.125f) < 1e-6f);
}
