// Whole layers over threads, and what the hot path must not do: allocate.
#include "catch.hpp"
#include "support/allocations.hpp"
#include "support/policies.hpp"
#include "support/two_threads.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr std::size_t dim = 32, kv_heads = 3, group = 2, tokens = 300;

}  // namespace

TEST_CASE("a layer's outputs do not depend on the executor") {
  const auto rows = normal_floats(tokens * kv_heads * dim, 1);
  const auto queries = normal_floats(kv_heads * group * dim, 2);
  const Rows all(rows.data(), tokens, kv_heads * dim);
  for (const auto& [keys, values] : format_pairs(dim)) {
    INFO(keys.describe() << " / " << values.describe());
    auto cache = AnyCache::make({1, kv_heads, dim}, {keys}, {values}, {.sinks = 2, .recent = 8}).value();
    REQUIRE(cache.append_layer(0, all, all));
    auto serial = make_workspaces(cache, group);
    auto threaded = make_workspaces(cache, group, 2);
    std::vector<float> one(kv_heads * group * dim), two(kv_heads * group * dim);
    const FloatRows query_rows(queries.data(), kv_heads * group, dim);
    attend_layer(cache, 0, query_rows, one.data(), dim, serial);
    attend_layer(cache, 0, query_rows, two.data(), dim, threaded, {}, TwoThreads{});
    REQUIRE(one == two);
  }
}

TEST_CASE("a chunk through a layer equals the chunk through each head") {
  const std::size_t chunk = 37;
  const auto rows = normal_floats(tokens * kv_heads * dim, 3);
  const auto queries = normal_floats(chunk * kv_heads * group * dim, 4);
  const AnyKeys keys = Pq4Keys::make(random_codebook(dim, 8, 16)).value();
  const AnyValues values = Int4Values::make(dim, 16).value();
  const auto make = [&] {
    auto cache = AnyCache::make({1, kv_heads, dim}, {keys}, {values}, {.sinks = 2, .recent = 8}).value();
    const Rows past(rows.data(), tokens - chunk, kv_heads * dim);
    REQUIRE(cache.append_layer(0, past, past));
    return cache;
  };
  const Rows next(rows.data() + (tokens - chunk) * kv_heads * dim, chunk, kv_heads * dim);
  auto whole = make();
  auto workspaces = make_workspaces(whole, group, 2);
  std::vector<float> outs(chunk * kv_heads * group * dim);
  REQUIRE(extend_layer(whole, 0, FloatRows(queries.data(), chunk, kv_heads * group * dim), next, next, outs.data(),
                       kv_heads * group * dim, workspaces, {}, TwoThreads{}));
  auto single = make();
  Workspace<AnyKeys, AnyValues> workspace;
  for (std::size_t h = 0; h < kv_heads; ++h) {
    std::vector<float> out(chunk * group * dim);
    const std::size_t stride = kv_heads * group * dim;
    REQUIRE(extend(single.head(0, h), ChunkRows<const float>{queries.data() + h * group * dim, chunk, group, stride, dim},
                   single.head_rows(next, h), single.head_rows(next, h),
                   ChunkRows<float>{out.data(), chunk, group, group * dim, dim}, workspace));
    for (std::size_t t = 0; t < chunk; ++t) {
      for (std::size_t i = 0; i < group * dim; ++i) {
        REQUIRE(out[t * group * dim + i] == outs[t * stride + h * group * dim + i]);
      }
    }
  }
  CHECK(whole.tokens() == tokens);
  const FloatRows too_wide(queries.data(), chunk, kv_heads * group * dim - 1);
  CHECK_FALSE(extend_layer(whole, 0, too_wide, next, next, outs.data(), kv_heads * group * dim, workspaces));
  CHECK(whole.tokens() == tokens);
}

TEST_CASE("append and attend allocate nothing after reserve") {
  const auto rows = normal_floats(tokens * dim, 5);
  for (const auto& [keys, values] : format_pairs(dim)) {
    INFO(keys.describe() << " / " << values.describe());
    for (const ScalarType window : {ScalarType::f32, ScalarType::f16}) {
      HeadCache<AnyKeys, AnyValues> cache(keys, values, {.sinks = 2, .recent = 8, .window = window});
      REQUIRE(cache.reserve(tokens));
      Workspace<AnyKeys, AnyValues> workspace;
      workspace.reserve(cache, group);
      std::vector<float> out(group * dim);
      for (const std::size_t kept : {std::size_t{0}, tokens - 3, tokens / 3}) {  // nothing, in the window, in a block
        cache.truncate(kept);
        REQUIRE(cache.reserve(tokens));
        std::size_t refused = 0;
        const std::size_t before = allocations();
        for (std::size_t t = kept; t < tokens; ++t) {
          const Rows row(rows.data() + t * dim, 1, dim);
          if (!cache.append(row, row)) ++refused;
          attend_and_collect(cache, FloatRows(rows.data(), group, dim), out.data(), dim, workspace);
        }
        const std::size_t after = allocations();
        REQUIRE(refused == 0);
        REQUIRE(after == before);
      }
    }
  }
}
