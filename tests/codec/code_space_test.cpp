// CodeSpace against its definition in double, for every combination of its parts.
#include "pqkv/codec/code_space.hpp"

#include <cmath>

#include "catch.hpp"
#include "pqkv/keys.hpp"
#include "pqkv/values.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr double space_tolerance = 2e-5;  // of elements of order 1 after sums of up to 48 products in float

std::vector<SpaceChoice> every_choice(std::size_t dim) {
  std::vector<SpaceChoice> choices;
  for (const bool mean : {false, true}) {
    for (const bool mapped : {false, true}) {
      choices.push_back({.mean = mean, .mapped = mapped});
      for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
        for (const std::size_t rotary : {dim, dim / 2}) choices.push_back({rotary, 64, pairing, mean, mapped});
      }
    }
  }
  return choices;
}

}  // namespace

TEST_CASE("rows go into a space and back, and scores are those of the rows") {
  const std::size_t dim = 48, count = 32;
  const auto rows = normal_floats(count * dim, 1), query = normal_floats(dim, 2);
  for (const SpaceChoice& choice : every_choice(dim)) {
    const auto space = random_space(dim, choice);
    const CodeSpaceParts& parts = space->parts();
    for (const RunPlace place : {RunPlace{0, 0}, {640, 0}, {640, 32}, {-64, 32}}) {
      INFO("rotary " << choice.rotary << " mean " << choice.mean << " mapped " << choice.mapped << " origin " << place.origin
                     << " offset " << place.offset << " on " << isa::best().name);
      std::vector<float> spaced(count * dim), row(dim), turned = query, query_in(space->query_width());
      space->rows_in({rows.data(), count, dim}, place, spaced.data());
      parts.rope.turn(-static_cast<double>(place.origin), turned.data());
      space->queries_in(turned.data(), 1, query_in.data());
      std::vector<double> turned64(query.begin(), query.end());
      turn64(parts.rope, -static_cast<double>(place.origin), turned64);
      double most_in = 0, most_out = 0, most_score = 0;
      for (std::size_t t = 0; t < count; ++t) {
        const auto expected = spaced64(parts, rows.data() + t * dim, place.origin, place.offset + t);
        const float* x = spaced.data() + t * dim;
        space->row_out(x, place, t, row.data());
        const auto mean = mean64(parts, place.offset + t);
        double term = 0;
        for (std::size_t d = 0; d < dim; ++d) {
          most_in = std::max(most_in, std::fabs(static_cast<double>(x[d]) - expected[d]));
          most_out = std::max(most_out, std::fabs(static_cast<double>(row[d]) - static_cast<double>(rows[t * dim + d])));
          term += turned64[d] * mean[d];
        }
        const double score = dot(query_in.data(), x, dim) + term;
        most_score = std::max(most_score, std::fabs(score - dot(query.data(), rows.data() + t * dim, dim)));
      }
      CHECK(most_in < space_tolerance);
      CHECK(most_out < space_tolerance);
      CHECK(most_score < 10 * space_tolerance);
    }
  }
}

TEST_CASE("no token's positional term exceeds the bound of its run") {
  const std::size_t dim = 16;
  const auto space = random_space(dim, {.rotary = 8, .run_tokens = 50, .mean = true, .mapped = true});
  const auto turned = normal_floats(3 * dim, 21);
  std::vector<float> queries(3 * space->query_width());
  space->queries_in(turned.data(), 3, queries.data());
  std::vector<float> terms(3 * 64, 0.0f);
  space->add_term(queries.data(), 3, 0, 2, terms.data(), 64);
  for (std::size_t q = 0; q < 3; ++q) {
    const float bound = space->term_bound(queries.data() + q * space->query_width());
    for (std::size_t t = 0; t < 50; ++t) {
      double expected = 0;  // (R(−o)·q)·R(j)·μ
      const auto mean = mean64(space->parts(), t);
      for (std::size_t d = 0; d < dim; ++d) expected += static_cast<double>(turned[q * dim + d]) * mean[d];
      CHECK(static_cast<double>(terms[q * 64 + t]) == Approx(expected).margin(1e-4));
      CHECK(terms[q * 64 + t] <= bound);
    }
  }
}

TEST_CASE("what a space says of itself") {
  const auto plain = random_space(16, {.mapped = true});
  CHECK_FALSE(plain->turns());
  CHECK_FALSE(plain->has_term());
  CHECK(plain->parts().run_tokens == unlimited_tokens);
  CHECK(plain->bytes() == 3 * 16 * 16 * 4);  // the matrix, its inverse, and that once more for queries
  const auto turning = random_space(16, {.rotary = 8, .run_tokens = 32, .mean = true});
  CHECK(turning->turns());
  CHECK(turning->has_term());
  CHECK(turning->rank() == 9);
  CHECK(turning->query_width() == 16 + 9);
  // The term's columns with room for a last block, their extremes, and the basis beside the identity for queries, in whole
  // cache lines.
  CHECK(turning->bytes() == (16 + 32 * 9 + 9 * 16 + 9 * (32 + 32 + 16) + 2 * 9 + 16 * 32) * 4);
  CHECK(random_space(16, {.rotary = 8})->parts().run_tokens == unlimited_tokens);
  // Runs are RoPE's: without it there are none.
  CHECK(random_space(16, {.run_tokens = 32, .mean = true})->parts().run_tokens == unlimited_tokens);
}

TEST_CASE("parts that do not fit together are refused with the numbers") {
  const auto refused = [](const auto& change, const char* text) {
    CodeSpaceParts parts = random_parts(16, {.rotary = 16, .run_tokens = 32, .mean = true, .mapped = true});
    REQUIRE(CodeSpace::make(parts));
    change(parts);
    const auto space = CodeSpace::make(parts);
    REQUIRE_FALSE(space);
    CHECK(space.error().code == Errc::invalid_shape);
    INFO(space.error().message);
    CHECK(space.error().message.find(text) != std::string::npos);
  };
  using Parts = CodeSpaceParts;
  const char* parts_of_16 = "a code space of dim 16 (at most 1024)";
  refused([](Parts& p) { p.dim = 0; }, "dim 0");
  refused([](Parts& p) { p.dim = 1025; }, "dim 1025 (at most 1024)");
  refused([](Parts& p) { p.mean.pop_back(); }, parts_of_16);
  refused([](Parts& p) { p.forward.pop_back(); }, parts_of_16);
  refused([](Parts& p) { p.forward.clear(); }, parts_of_16);
  refused([](Parts& p) { p.inverse.clear(); }, parts_of_16);
  refused([](Parts& p) { p.rope = Rope::with_base(18, 100); }, parts_of_16);
  refused([](Parts& p) { p.term_basis.pop_back(); }, parts_of_16);
  refused([](Parts& p) { p.run_tokens = 0; }, "runs of 0 tokens");
  refused([](Parts& p) { p.run_tokens = unlimited_tokens; }, "runs of limited length");
  refused([](Parts& p) { p.run_tokens = 33; }, "33 × 17 numbers, not 544");
  refused([](Parts& p) { p.term_rows.clear(); }, "32 × 17 numbers, not 0");
  refused([](Parts& p) { p.term_rows.clear(), p.term_basis.clear(); }, "positional term, 32 × 0 numbers");
}

TEST_CASE("formats take spaces of their own dim, and values none that turns") {
  const auto keys = Pq8Keys::make(random_codebook(32, 4, 256)).value();
  const auto values = Pq8Values::make(random_codebook(32, 4, 256)).value();
  const auto other = SpacedKeys<Pq8Keys>::make(keys, random_space(16, {.mapped = true}));
  REQUIRE_FALSE(other);
  CHECK(other.error().message == "a format of dim 32 in a space of dim 16");
  CHECK_FALSE(SpacedValues<Pq8Values>::make(values, random_space(16, {.mapped = true})));
  const auto turning = SpacedValues<Pq8Values>::make(values, random_space(32, {.rotary = 32, .run_tokens = 64}));
  REQUIRE_FALSE(turning);
  CHECK(turning.error().message.find("turns with positions") != std::string::npos);
  const auto book = Codebook::make({32, 4, 256}, normal_floats(32 * 256, 1), random_space(16, {.mapped = true}));
  REQUIRE_FALSE(book);
  CHECK(book.error().message == "a codebook of dim 32 in a space of dim 16");

  const auto spaced = SpacedKeys<Pq8Keys>::make(keys, random_space(32, {.rotary = 32, .run_tokens = 64, .mean = true})).value();
  CHECK(spaced.run_tokens() == 64);
  CHECK(spaced.block_bytes() == keys.block_bytes());
  CHECK(spaced.codebook_bytes() == keys.codebook_bytes() + spaced.space().bytes());
  CHECK(spaced.describe() == "pq8:m=4:run=64:centre=1");
  CHECK(SpacedKeys<Pq8Keys>::make(keys, random_space(32, {.rotary = 32, .mapped = true})).value().describe() ==
        "pq8:m=4:run=all:fitted");
  CHECK(SpacedValues<Pq8Values>::make(values, random_space(32, {.mean = true, .mapped = true})).value().describe() ==
        "pq8:m=4:centre=1:fitted");
}
