// CacheRetainer: what Retainer does to each head, done to a whole cache, ragged, all heads or none.
#include "catch.hpp"

#include "support/policies.hpp"
#include "support/sequence.hpp"
#include "support/two_threads.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr std::size_t dim = 16;
constexpr CacheShape shape{2, 3, dim};
constexpr std::size_t heads = 6, group = 2, query_heads = 6;
constexpr double attention_tolerance = 5e-3;  // 15-bit weights

using Cache = CompressedKVCache<AnyKeys, AnyValues>;

/// Pq8 keys that take RoPE out in runs of 64 in front of int8 values: every part of eviction and compaction has work.
Cache filled(std::size_t tokens, std::shared_ptr<PageSource> pages = nullptr) {
  const SpaceChoice choice{.rotary = dim, .run_tokens = 64, .mean = true};
  const Pq8Keys codes = Pq8Keys::make(random_codebook(dim, 4, 256)).value();
  const AnyKeys keys = SpacedKeys<Pq8Keys>::make(codes, random_space(dim, choice)).value();
  CacheOptions options{.sinks = 2, .recent = 6, .pages = std::move(pages)};
  options.rope = std::make_shared<const Rope>(Rope::with_base(dim, 1e4));
  Cache cache = Cache::make(shape, {keys}, {AnyValues(Int8Values::make(dim, 16).value())}, options).value();
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    const auto rows = normal_floats(2 * tokens * shape.kv_heads * dim, 5 + layer);
    const Rows keys_rows(rows.data(), tokens, shape.kv_heads * dim);
    REQUIRE(cache.append_layer(layer, keys_rows, Rows(rows.data() + rows.size() / 2, tokens, shape.kv_heads * dim)));
  }
  return cache;
}

std::vector<std::size_t> lengths(const Cache& cache) {
  std::vector<std::size_t> all;
  for (std::size_t i = 0; i < heads; ++i) all.push_back(cache.head(i / shape.kv_heads, i % shape.kv_heads).tokens());
  return all;
}

/// attend_layer on each layer equals attention over what each head decodes to, in double.
void require_attends(const Cache& cache) {
  auto workspaces = make_workspaces(cache, group);
  const auto queries = normal_floats(query_heads * dim, 9);
  ReferenceOptions reference;
  reference.scale = 1 / std::sqrt(double(dim));
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    std::vector<float> outs(query_heads * dim);
    attend_layer(cache, layer, {queries.data(), query_heads, dim}, outs.data(), dim, workspaces);
    for (std::size_t q = 0; q < query_heads; ++q) {
      const auto& head = cache.head(layer, q / group);
      const auto expected = reference_attention(&queries[q * dim], dim, tokens_of(head), *head.options().rope, reference);
      for (std::size_t d = 0; d < dim; ++d) REQUIRE(std::fabs(double(outs[q * dim + d]) - expected[d]) < attention_tolerance);
    }
  }
}

}  // namespace

TEST_CASE("a cache is observed and evicted as each of its heads would be, and goes on") {
  Cache cache = filled(400);
  auto workspaces = make_workspaces(cache, group);
  auto retainer = CacheRetainer<AccumulatedAttention>::make(shape, {AccumulatedAttention{}}, {.recent = 8}).value();
  REQUIRE(retainer.catch_up(cache));
  const auto queries = normal_floats(4 * query_heads * dim, 7);
  const FloatRows rows(queries.data(), 4, query_heads * dim);
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    REQUIRE(retainer.observe_layer(cache, layer, rows, 396, workspaces));
  }
  // Each head by a Retainer of its own.
  const std::vector<std::size_t> budgets{50, 100, 150, 20, 400, 77};
  Cache apart = cache.fork().value();
  for (std::size_t i = 0; i < heads; ++i) {
    auto& head = apart.head(i / shape.kv_heads, i % shape.kv_heads);
    Retainer<AccumulatedAttention> one(AccumulatedAttention{}, {.recent = 8});
    REQUIRE(one.catch_up(head));
    const ChunkRows<const float> mine{&queries[i % shape.kv_heads * group * dim], 4, group, query_heads * dim, dim};
    REQUIRE(one.observe(head, mine, 396, workspaces[0]));
    REQUIRE(one.evict(head, budgets[i], workspaces[0]));
  }
  const auto gone = retainer.evict(cache, budgets, workspaces);
  REQUIRE(bool(gone));
  CHECK(*gone == 6 * 400 - 797);
  CHECK(cache.total_tokens() == 797);
  CHECK(lengths(cache) == budgets);
  for (std::size_t i = 0; i < heads; ++i) {
    const auto a = tokens_of(cache.head(i / shape.kv_heads, i % shape.kv_heads));
    const auto b = tokens_of(apart.head(i / shape.kv_heads, i % shape.kv_heads));
    REQUIRE(a.size() == b.size());
    for (std::size_t t = 0; t < a.size(); ++t) REQUIRE((a[t].position == b[t].position && a[t].key == b[t].key));
    CHECK(retainer.head(i / shape.kv_heads, i % shape.kv_heads).tokens() == budgets[i]);
  }
  require_attends(cache);
  const auto fewer = compact(cache);
  REQUIRE(bool(fewer));
  CHECK(*fewer > 10);
  require_attends(cache);

  // Ragged heads are appended to, take speculated tokens back and are evicted again.
  const auto more = normal_floats(50 * shape.kv_heads * dim, 11);
  const Rows fresh(more.data(), 50, shape.kv_heads * dim);
  for (std::size_t layer = 0; layer < shape.layers; ++layer) REQUIRE(cache.append_layer(layer, fresh, fresh));
  REQUIRE(retainer.drop_newest(cache, 3));
  for (std::size_t i = 0; i < heads; ++i) {
    const auto& head = cache.head(i / shape.kv_heads, i % shape.kv_heads);
    CHECK(head.tokens() == budgets[i] + 47);
    CHECK(head.next_position() == 447);
    CHECK(retainer.head(i / shape.kv_heads, i % shape.kv_heads).tokens() == head.tokens());
  }
  require_attends(cache);
  REQUIRE(bool(retainer.evict(cache, std::vector<std::size_t>{40, 30}, workspaces)));
  CHECK(lengths(cache) == std::vector<std::size_t>{40, 40, 40, 30, 30, 30});
  REQUIRE(bool(retainer.evict(cache, std::vector<std::size_t>{25}, workspaces)));
  CHECK(cache.total_tokens() == 150);
  require_attends(cache);
}

TEST_CASE("what goes does not depend on the executor") {
  const auto queries = normal_floats(4 * query_heads * dim, 7);
  const FloatRows rows(queries.data(), 4, query_heads * dim);
  std::vector<std::vector<std::int64_t>> left;
  const auto run = [&](std::size_t workers, const auto& executor) {
    Cache cache = filled(300);
    auto workspaces = make_workspaces(cache, group, workers);
    auto retainer = CacheRetainer<AccumulatedAttention>::make(shape, {AccumulatedAttention{}}).value();
    REQUIRE(retainer.catch_up(cache));
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      REQUIRE(retainer.observe_layer(cache, layer, rows, 296, workspaces, {}, executor));
    }
    REQUIRE(bool(retainer.evict(cache, std::vector<std::size_t>{60}, workspaces, Gap::keep, executor)));
    std::vector<std::int64_t> all;
    for (std::size_t i = 0; i < heads; ++i) {
      for (std::size_t t = 0; t < 60; ++t) all.push_back(cache.head(i / shape.kv_heads, i % shape.kv_heads).position(t));
    }
    left.push_back(all);
  };
  run(1, SerialExecutor{});
  run(2, TwoThreads{});
  CHECK(left[0] == left[1]);
}

TEST_CASE("each head may have a policy of its own") {
  Cache cache = filled(200);
  auto workspaces = make_workspaces(cache, group);
  std::vector<QueryFilter> filters;
  for (std::size_t i = 0; i < heads; ++i) filters.emplace_back(normal_floats(dim, 20 + i));
  auto retainer = CacheRetainer<QueryFilter>::make(shape, filters).value();
  REQUIRE(retainer.catch_up(cache));
  const Cache before = cache.fork().value();
  REQUIRE(bool(retainer.evict(cache, std::vector<std::size_t>{30}, workspaces)));
  for (std::size_t i = 0; i < heads; ++i) {
    const auto& head = before.head(i / shape.kv_heads, i % shape.kv_heads);
    const auto ranges = plan_eviction(filters[i], head, 30, {}, workspaces[0]);
    REQUIRE(bool(ranges));
    std::vector<std::int64_t> left;
    for (std::size_t t = 0; t < head.tokens(); ++t) {
      bool goes = false;
      for (const TokenRange& range : *ranges) goes = goes || (t >= range.first && t < range.end());
      if (!goes) left.push_back(head.position(t));
    }
    const auto& now = cache.head(i / shape.kv_heads, i % shape.kv_heads);
    REQUIRE(now.tokens() == left.size());
    for (std::size_t t = 0; t < left.size(); ++t) CHECK(now.position(t) == left[t]);
  }
}

TEST_CASE("a whole cache refuses with the numbers, and nothing has changed") {
  Cache cache = filled(100);
  auto workspaces = make_workspaces(cache, group);
  CHECK(CacheRetainer<RandomTokens>::make(shape, {RandomTokens{}, RandomTokens{}}).error().message ==
        "2 policies for 6 heads; give one each, or one for all");
  auto retainer = CacheRetainer<AccumulatedAttention>::make(shape, {AccumulatedAttention{}}, {.sinks = 4, .recent = 20}).value();
  REQUIRE(retainer.catch_up(cache));
  CHECK(retainer.evict(cache, std::vector<std::size_t>{1, 2, 3}, workspaces).error().message ==
        "3 budgets for 2 layers of 3 kv heads");
  const auto refused = retainer.evict(cache, std::vector<std::size_t>{50, 50, 50, 50, 10, 50}, workspaces);
  REQUIRE(!refused);
  CHECK(refused.error().message.find("layer 1 head 1: a budget of 10 tokens is less than") == 0);
  CHECK(lengths(cache) == std::vector<std::size_t>(6, 100));
  const auto queries = normal_floats(5 * dim, 1);
  CHECK(retainer.observe_layer(cache, 0, {queries.data(), 1, 5 * dim}, 99, workspaces).error().code == Errc::invalid_shape);

  std::vector<std::vector<TokenRange>> ranges(6, std::vector<TokenRange>{{10, 5}});
  CHECK(cache.erase(std::span(ranges).first(5)).error().code == Errc::invalid_shape);
  ranges[4] = {{90, 30}};
  CHECK(cache.erase(ranges).error().message.find("layer 1 head 1") == 0);
  CHECK(lengths(cache) == std::vector<std::size_t>(6, 100));
  ranges[4] = {{40, 3}};
  CHECK(cache.erase(ranges, Gap::close).error().message ==
        "closing gaps of 5 and 3 tokens would leave heads at different positions");
  ranges[4] = {{40, 2}, {50, 3}};
  REQUIRE(cache.erase(ranges, Gap::close));
  for (std::size_t i = 0; i < heads; ++i) CHECK(cache.head(i / 3, i % 3).next_position() == 95);
  require_attends(cache);
  // The records were not told.
  CHECK(retainer.catch_up(cache).error().message.find("layer 0 head 0: the record is of 100 tokens") == 0);
}
