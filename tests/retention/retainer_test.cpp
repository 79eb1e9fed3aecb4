// Retainer: the record follows the head, weights are those of attention, and eviction leaves what the policy chose, with
// any formats.
#include "catch.hpp"

#include "support/policies.hpp"
#include "support/sequence.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr std::size_t dim = 16;
constexpr double weight_tolerance = 1e-5;  // f32 sums
constexpr double byte_tolerance = 2e-2;    // 8-bit tables

using Head = HeadCache<AnyKeys, AnyValues>;
using Scratch = Workspace<AnyKeys, AnyValues>;

std::vector<double> plain_weights(const Head& head, const std::vector<float>& query, std::int64_t position) {
  std::vector<float> key(dim), value(dim);
  std::vector<double> weights;
  double sum = 0;
  for (std::size_t t = 0; t < head.tokens(); ++t) {
    head.decode(t, key.data(), value.data());
    const bool seen = head.position(t) <= position;
    weights.push_back(seen ? std::exp(dot(query.data(), key.data(), dim) / std::sqrt(double(dim))) : 0.0);
    sum += weights.back();
  }
  for (double& weight : weights) weight /= sum;
  return weights;
}

Rows rows_of(const std::vector<float>& rows, std::size_t first, std::size_t count) {
  return {rows.data() + first * dim, count, dim};
}

}  // namespace

TEST_CASE("token weights are the softmax over what the cache holds, whatever was done to it") {
  const std::vector<float> keys = normal_floats(300 * dim, 1), values = normal_floats(300 * dim, 2);
  const std::vector<float> queries = normal_floats(5 * dim, 3);
  for (const AnyKeys& format : key_policies(dim)) {
    CacheOptions options{.sinks = 3, .recent = 10};
    options.rope = std::make_shared<const Rope>(Rope::with_base(dim, 1e4));
    Head head(format, ExactValues(dim), options);
    REQUIRE(head.append(rows_of(keys, 0, 250), rows_of(values, 0, 250)).ok());
    REQUIRE(head.erase({100, 37}, Gap::close).ok());
    REQUIRE(head.erase({20, 3}).ok());
    REQUIRE(head.shift({60, 50}, 17).ok());
    const std::size_t tokens = head.tokens();
    const std::int64_t position = 120;
    for (const bool causal : {false, true}) {
      AttendOptions attend;
      if (causal) attend.query_position = position;
      Scratch workspace;
      std::vector<float> weights(5 * (tokens + 3), -1.0f);
      token_weights(head, {queries.data(), 5, dim}, weights.data(), tokens + 3, workspace, attend);
      for (std::size_t q = 0; q < 5; ++q) {
        const auto truth = plain_weights(head, {queries.begin() + std::ptrdiff_t(q * dim), queries.end()},
                                         causal ? position : 1 << 30);
        for (std::size_t t = 0; t < tokens; ++t) {
          INFO(format.describe() << ", query " << q << ", token " << t);
          const double tolerance = has_byte_tables(format) ? byte_tolerance : weight_tolerance;
          REQUIRE(std::fabs(double(weights[q * (tokens + 3) + t]) - truth[t]) < tolerance + 1e-2 * truth[t]);
        }
        REQUIRE(weights[q * (tokens + 3) + tokens] == -1.0f);  // nothing behind the last token
      }
    }
  }
}

TEST_CASE("token scores obey the rules that attention obeys") {
  const std::vector<float> keys = normal_floats(100 * dim, 1), query = normal_floats(dim, 3);
  Head head(ExactKeys{dim}, ExactValues{dim}, {.recent = 8});
  REQUIRE(head.append(rows_of(keys, 0, 100), rows_of(keys, 0, 100)).ok());
  REQUIRE(head.erase({40, 5}).ok());
  const float slope = 0.1f, sink = 2;
  const std::vector<float> bias = normal_floats(95, 4);
  AttendOptions options{.soft_cap = 1.5f, .sliding_window = 50, .sink_logits = std::span(&sink, 1),
                        .alibi_slopes = std::span(&slope, 1), .bias = bias};
  Scratch workspace;
  std::vector<float> weights(95), out(dim), value(dim), key(dim);
  token_weights(head, {query.data(), 1, dim}, weights.data(), 95, workspace, options);
  attend(head, {query.data(), 1, dim}, out.data(), dim, workspace, options);
  // Weighted values are attention's output, so the weights are attention's.
  for (std::size_t d = 0; d < dim; ++d) {
    double sum = 0;
    for (std::size_t t = 0; t < 95; ++t) {
      head.decode(t, key.data(), value.data());
      sum += double(weights[t]) * double(value[d]);
    }
    CHECK(std::fabs(sum - double(out[d])) < weight_tolerance);
  }
  CHECK(weights[0] == 0);
}

TEST_CASE("the record follows the head") {
  const std::vector<float> rows = normal_floats(200 * dim, 1);
  CacheOptions options{.sinks = 2, .recent = 5};
  options.rope = std::make_shared<const Rope>(Rope::with_base(dim, 1e4));
  Head head(ExactKeys{dim}, ExactValues{dim}, options);
  Retainer retainer(LowKeyNorm{});
  // The record of a token is its norm, which turning does not change: it can be checked at any time.
  const auto check = [&] {
    REQUIRE(retainer.tokens() == head.tokens());
    std::vector<float> key(dim), value(dim);
    for (std::size_t t = 0; t < head.tokens(); ++t) {
      head.decode(t, key.data(), value.data());
      INFO("token " << t << " of " << head.tokens());
      REQUIRE(std::fabs(double(retainer.record()[t]) + std::sqrt(dot(key.data(), key.data(), dim))) < weight_tolerance);
    }
  };
  REQUIRE(retainer.append(head, rows_of(rows, 0, 100), rows_of(rows, 0, 100)).ok());
  check();
  const std::vector<TokenRange> ranges{{0, 1}, {5, 20}, {60, 1}, {97, 3}};
  REQUIRE(retainer.erase(head, ranges, Gap::close).ok());
  check();
  REQUIRE(head.shift({10, 20}, 5).ok());
  check();
  const std::vector<std::int64_t> positions{7, 9, 8};
  REQUIRE(retainer.replace(head, {30, 10}, rows_of(rows, 100, 3), rows_of(rows, 100, 3), positions).ok());
  check();
  Retainer copy = retainer;
  Head fork = std::move(head.fork()).value();
  REQUIRE(retainer.truncate(head, 30).ok());
  check();
  REQUIRE(retainer.append(head, rows_of(rows, 110, 50), rows_of(rows, 110, 50)).ok());
  check();
  REQUIRE(copy.tokens() == fork.tokens());
  REQUIRE(head.append(rows_of(rows, 160, 7), rows_of(rows, 160, 7)).ok());
  const Status refused = retainer.append(head, rows_of(rows, 0, 1), rows_of(rows, 0, 1));
  CHECK(refused.error().message ==
        "the record is of 80 tokens and the head has 87: it was changed behind the Retainer's back");
  REQUIRE(retainer.catch_up(head).ok());
  check();
  REQUIRE(head.keep_last(50).ok());
  CHECK(!retainer.catch_up(head).ok());
}

TEST_CASE("eviction leaves the tokens that the policy chose, as they were, in any format") {
  const std::vector<float> keys = normal_floats(400 * dim, 1), values = normal_floats(400 * dim, 2);
  for (const AnyKeys& format : key_policies(dim)) {
    Head head(format, Int8Values::make(dim, 16).value(), {.sinks = 2, .recent = 20});
    Retainer retainer(LowKeyNorm{}, {.recent = 10});
    REQUIRE(retainer.append(head, rows_of(keys, 0, 400), rows_of(values, 0, 400)).ok());
    const auto before = tokens_of(head);
    Scratch workspace;
    const auto plan = retainer.plan(head, 60, workspace);
    REQUIRE(bool(plan));
    const auto evicted = retainer.evict(head, 60, workspace);
    REQUIRE(bool(evicted));
    CHECK(*evicted == 340);
    REQUIRE(head.tokens() == 60);
    std::vector<ReferenceToken> expected;
    std::vector<double> norms;
    for (std::size_t t = 0, r = 0; t < 400; ++t) {
      while (r < plan->size() && (*plan)[r].end() <= t) ++r;
      if (r < plan->size() && (*plan)[r].first <= t) continue;
      expected.push_back(before[t]);
      norms.push_back(dot(&keys[t * dim], &keys[t * dim], dim));
    }
    const auto after = tokens_of(head);
    for (std::size_t t = 0; t < 60; ++t) {
      REQUIRE(after[t].position == expected[t].position);
      REQUIRE(after[t].key == expected[t].key);
      REQUIRE(after[t].value == expected[t].value);
    }
    // The chosen are the 48 of lowest norm among tokens 2 … 389.
    std::vector<double> all;
    for (std::size_t t = 2; t < 390; ++t) all.push_back(dot(&keys[t * dim], &keys[t * dim], dim));
    std::sort(all.begin(), all.end());
    for (std::size_t t = 2; t < 50; ++t) CHECK(norms[t] <= all[47]);
    CHECK(!retainer.evict(head, 11, workspace));
    CHECK(head.tokens() == 60);
  }
}

TEST_CASE("heads end with lengths of their own") {
  const std::vector<float> rows = normal_floats(200 * 2 * dim, 1);
  auto cache = CompressedKVCache<ExactKeys, ExactValues>::make({1, 2, dim}, {ExactKeys(dim)}, {ExactValues(dim)});
  REQUIRE(bool(cache));
  REQUIRE(cache->append_layer(0, Rows(rows.data(), 200, 2 * dim), Rows(rows.data(), 200, 2 * dim)).ok());
  const auto budgets = head_budgets(100, std::vector<double>{3, 1}, 2);
  Workspace<ExactKeys, ExactValues> workspace;
  for (std::size_t h = 0; h < 2; ++h) {
    Retainer retainer(LowKeyNorm{});
    REQUIRE(retainer.catch_up(cache->head(0, h)).ok());
    REQUIRE(bool(retainer.evict(cache->head(0, h), budgets[h], workspace)));
  }
  CHECK(cache->head(0, 0).tokens() == 63);  // 25 + 0.75 · 50, 25 + 0.25 · 50
  CHECK(cache->head(0, 1).tokens() == 37);
}
