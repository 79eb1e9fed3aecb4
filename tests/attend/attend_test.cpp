// Attention over every pair of formats against double precision on what the cache says it stored.
#include "catch.hpp"
#include "support/decoded.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr double attention_tolerance = 2e-3;   // float sums, weights of 15 or (int4, int2) 8 bits
constexpr double table_tolerance = 3e-2;       // keys with 8-bit tables: they move scores by some thousandths
/// Few tokens, one of which may have all the weight: 1/510 of half a value's range (about 3), some roundings together.
constexpr double byte_weights_tolerance = 6e-3;

}  // namespace

TEST_CASE("attention equals double precision on the stored rows, whatever the formats") {
  const std::size_t dim = 64;
  const std::size_t tokens = 777;
  const auto keys = normal_floats(tokens * dim, 11);
  const auto values = normal_floats(tokens * dim, 12);
  for (const auto& [key, value] : format_pairs(dim)) {
    HeadCache head(key, value, {.sinks = 3, .recent = 40});
    REQUIRE(head.append(Rows(keys.data(), tokens, dim), Rows(values.data(), tokens, dim)));
    REQUIRE(head.tokens() == tokens);
    std::vector<float> stored_keys;
    std::vector<float> stored_values;
    decode_all(head, stored_keys, stored_values);
    Workspace<AnyKeys, AnyValues> workspace;
    for (const std::size_t group : {1, 3, 8}) {
      INFO(key.describe() << " / " << value.describe() << " group " << group);
      const auto queries = normal_floats(group * dim, 13);
      std::vector<float> outs(group * dim);
      attend(head, {queries.data(), group, dim}, outs.data(), dim, workspace);
      const double tolerance = has_byte_tables(key) ? table_tolerance : attention_tolerance;
      for (std::size_t q = 0; q < group; ++q) {
        const auto expected =
            attention(queries.data() + q * dim, stored_keys, stored_values, tokens, dim, 1.0 / 8.0);
        for (std::size_t d = 0; d < dim; ++d) {
          REQUIRE(std::fabs(static_cast<double>(outs[q * dim + d]) - expected[d]) <= tolerance);
        }
      }
    }
  }
}

TEST_CASE("an exact cache is attention, however it is split") {
  const std::size_t dim = 48;
  const std::size_t tokens = 300;
  const auto keys = normal_floats(tokens * dim, 21);
  const auto values = normal_floats(tokens * dim, 22);
  const auto query = normal_floats(dim, 23);
  const auto expected = attention(query.data(), keys, values, tokens, dim, 0.3);
  using Head = HeadCache<ExactKeys, ExactValues>;
  Workspace<ExactKeys, ExactValues> workspace;
  Partial parts[3];
  const std::size_t borders[] = {0, 50, 51, 300};
  for (std::size_t i = 0; i < 3; ++i) {
    Head head(ExactKeys{dim}, ExactValues{dim}, {.sinks = i, .recent = 5 * i});
    const std::size_t count = borders[i + 1] - borders[i];
    REQUIRE(head.append(Rows(keys.data() + borders[i] * dim, count, dim), Rows(values.data() + borders[i] * dim, count, dim)));
    parts[i].reset(1, dim);
    parts[i].merge(attend_partial(head, {query.data(), 1, dim}, workspace, {.scale = 0.3f}));
  }
  const auto check = [&](const Partial& merged) {
    std::vector<float> out(dim);
    merged.write(out.data(), dim);
    for (std::size_t d = 0; d < dim; ++d) {
      REQUIRE(std::fabs(static_cast<double>(out[d]) - expected[d]) < 1e-5);
    }
  };
  for (const auto& [a, b, c] : {std::array{0, 1, 2}, std::array{2, 1, 0}, std::array{1, 2, 0}}) {
    Partial left;  // (a + b) + c
    left.reset(1, dim);
    left.merge(parts[a]);
    left.merge(parts[b]);
    left.merge(parts[c]);
    check(left);
    Partial tail;  // a + (b + c)
    tail.reset(1, dim);
    tail.merge(parts[b]);
    tail.merge(parts[c]);
    Partial right;
    right.reset(1, dim);
    right.merge(parts[a]);
    right.merge(tail);
    check(right);
  }
}

TEST_CASE("an empty cache gives zeros") {
  HeadCache head(ExactKeys{16}, ExactValues{16});
  Workspace<ExactKeys, ExactValues> workspace;
  const std::vector<float> query(16, 1.0f);
  std::vector<float> out(16, 5.0f);
  attend(head, {query.data(), 1, 16}, out.data(), 16, workspace);
  for (const float x : out) REQUIRE(x == 0.0f);
}

TEST_CASE("skipping is bounded by the mass it reports") {
  const std::size_t dim = 32;
  const std::size_t tokens = 2000;
  auto keys = normal_floats(tokens * dim, 31);
  const auto values = normal_floats(tokens * dim, 32);
  const auto query = normal_floats(dim, 33);
  for (std::size_t d = 0; d < dim; ++d) keys[1999 * dim + d] = query[d] * 2.5f;  // one token stands out
  HeadCache head(ExactKeys{dim}, Int8Values::make(dim, 16).value(), {.sinks = 0, .recent = 16});
  REQUIRE(head.append(Rows(keys.data(), tokens, dim), Rows(values.data(), tokens, dim)));
  Workspace<ExactKeys, Int8Values> workspace;
  std::vector<float> all(dim);
  std::vector<float> some(dim);
  REQUIRE(attend(head, {query.data(), 1, dim}, all.data(), dim, workspace).skipped_mass == 0.0f);
  double largest_value = 0;
  for (std::size_t t = 0; t < tokens; ++t) {
    largest_value = std::max(largest_value, std::sqrt(dot(values.data() + t * dim, values.data() + t * dim, dim)));
  }
  bool skipped_some = false;
  for (const float threshold : {1e-6f, 1e-4f, 1e-2f}) {
    const auto result =
        attend(head, {query.data(), 1, dim}, some.data(), dim, workspace, {.skip_below = threshold});
    skipped_some = skipped_some || result.skipped_mass > 0;
    double error = 0;
    for (std::size_t d = 0; d < dim; ++d) error += std::pow(static_cast<double>(all[d] - some[d]), 2);
    REQUIRE(std::sqrt(error) <= 2 * static_cast<double>(result.skipped_mass) * largest_value + 1e-5);
    REQUIRE(result.skipped_mass <= threshold * static_cast<float>(tokens));
  }
  REQUIRE(skipped_some);
}

TEST_CASE("extend sees the past and itself causally, then appends") {
  const std::size_t dim = 32;
  const std::size_t tokens = 150;
  const std::size_t group = 3;
  const auto keys = normal_floats(tokens * dim, 41);
  const auto values = normal_floats(tokens * dim, 42);
  const auto queries = normal_floats(tokens * group * dim, 43);
  HeadCache head(ExactKeys{dim}, ExactValues{dim}, {.sinks = 2, .recent = 10});
  Workspace<ExactKeys, ExactValues> workspace;
  std::vector<float> outs(tokens * group * dim);
  std::size_t first = 0;
  for (const std::size_t size : {1, 70, 0, 33, 46}) {
    REQUIRE(extend(head, ChunkRows<const float>{queries.data() + first * group * dim, size, group, group * dim, dim},
                   Rows(keys.data() + first * dim, size, dim), Rows(values.data() + first * dim, size, dim),
                   ChunkRows<float>{outs.data() + first * group * dim, size, group, group * dim, dim}, workspace));
    first += size;
    REQUIRE(head.tokens() == first);
  }
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t g = 0; g < group; ++g) {
      const std::size_t row = (t * group + g) * dim;
      const auto expected = attention(queries.data() + row, keys, values, t + 1, dim, 1 / std::sqrt(32.0));
      for (std::size_t d = 0; d < dim; ++d) {
        REQUIRE(std::fabs(static_cast<double>(outs[row + d]) - expected[d]) < 1e-4);
      }
    }
  }
}

TEST_CASE("tokens that wait for their block are read through codes when asked") {
  const std::size_t dim = 16, tokens = 32 + 32 + 29, sinks = 2, recent = 5;
  const auto keys = normal_floats(tokens * dim, 51);
  const auto values = normal_floats(tokens * dim, 52);
  const auto query = normal_floats(dim, 53);
  const auto key_policy = Pq8Keys::make(random_codebook(dim, 4, 256)).value();
  const auto value_policy = Int4Values::make(dim, 16).value();
  HeadCache head(key_policy, value_policy, {.sinks = sinks, .recent = recent, .window = ScalarType::f32});
  REQUIRE(head.append(Rows(keys.data(), tokens, dim), Rows(values.data(), tokens, dim)));
  REQUIRE(head.recent().tokens() == recent + 22);

  // Every token between the sinks and the last five, coded.
  auto coded_keys = keys;
  auto coded_values = values;
  std::vector<std::byte> key_block(key_policy.block_bytes()), value_block(value_policy.block_bytes());
  for (std::size_t t = sinks; t < tokens - recent; ++t) {
    key_policy.encode({keys.data() + t * dim, 1, dim}, 0, key_block.data());
    key_policy.decode(key_block.data(), 0, 0, coded_keys.data() + t * dim);
    value_policy.encode({values.data() + t * dim, 1, dim}, value_block.data());
    value_policy.decode(value_block.data(), 0, coded_values.data() + t * dim);
  }
  Workspace<Pq8Keys, Int4Values> workspace;
  std::vector<float> out(dim), as_usual(dim);
  attend(head, {query.data(), 1, dim}, out.data(), dim, workspace, {.code_waiting = true});
  attend(head, {query.data(), 1, dim}, as_usual.data(), dim, workspace);
  const auto expected = attention(query.data(), coded_keys, coded_values, tokens, dim, 0.25);
  double moved = 0;
  for (std::size_t d = 0; d < dim; ++d) {
    REQUIRE(std::fabs(static_cast<double>(out[d]) - expected[d]) <= byte_weights_tolerance);
    moved += std::fabs(static_cast<double>(out[d] - as_usual[d]));
  }
  CHECK(moved > 1e-2);
}
