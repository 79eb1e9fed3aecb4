// What is not read: blocks of values, and runs whose table says that they cannot matter; and that a head cut into shares is
// the same head.
#include "catch.hpp"
#include "support/policies.hpp"
#include "support/spaces.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

/// Float sums in another order.
constexpr double order_tolerance = 1e-4;

std::size_t scored = 0;  // tokens

/// Pq4Keys that count what is scored.
struct CountingKeys : Pq4Keys {
  explicit CountingKeys(Pq4Keys keys) : Pq4Keys(std::move(keys)) {}
  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    scored += span.tokens;
    Pq4Keys::score(table, span, scores, stride);
  }
};
static_assert(Bounded<CountingKeys>);

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double square = 0;
  for (std::size_t i = 0; i < a.size(); ++i) square += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  return std::sqrt(square);
}

}  // namespace

TEST_CASE("a run whose table says that it cannot matter is not read, and its mass is bounded") {
  const std::size_t dim = 32, tokens = 500;
  auto keys = normal_floats(tokens * dim, 1);
  const auto values = normal_floats(tokens * dim, 2);
  const auto query = normal_floats(dim, 3);
  const CountingKeys policy(Pq4Keys::make(random_codebook(dim, 8, 16)).value());
  Workspace<CountingKeys, Int4Values> workspace;
  std::vector<float> all(dim), some(dim);
  double largest_value = 0;
  for (std::size_t t = 0; t < tokens; ++t) {
    largest_value = std::max(largest_value, std::sqrt(dot(values.data() + t * dim, values.data() + t * dim, dim)));
  }
  for (const float strength : {0.0f, 4.0f}) {  // the newest token, exact, as it is or far ahead of all others
    for (std::size_t d = 0; d < dim && strength > 0; ++d) keys[(tokens - 1) * dim + d] = strength * query[d];
    HeadCache head(policy, Int4Values::make(dim, 16).value(), {.recent = 8});
    REQUIRE(head.append(Rows(keys.data(), tokens, dim), Rows(values.data(), tokens, dim)));
    REQUIRE(attend(head, {query.data(), 1, dim}, all.data(), dim, workspace).skipped_mass == 0.0f);
    scored = 0;
    const float share = 1e-3f;
    const auto result = attend(head, {query.data(), 1, dim}, some.data(), dim, workspace, {.skip_below = share});
    CHECK((scored == 0) == (strength > 0));
    CHECK(result.skipped_mass <= share * static_cast<float>(tokens));
    CHECK(distance(all, some) <= 2 * static_cast<double>(result.skipped_mass) * largest_value + order_tolerance);
    if (strength > 0) CHECK(result.skipped_mass > 0);
  }
}

TEST_CASE("what a table bounds is never exceeded") {
  const std::size_t dim = 48;
  const auto check = [&](const auto& policy) {
    INFO(policy.describe());
    const auto rows = normal_floats(32 * dim, 4);
    std::vector<std::byte> block(policy.block_bytes());
    policy.encode({rows.data(), 32, dim}, 0, block.data());
    const auto queries = normal_floats(5 * dim, 5);
    typename std::decay_t<decltype(policy)>::QueryTable table;
    policy.prepare(table, {queries.data(), 5, dim});
    std::vector<float> bounds(5), scores(5 * 32);
    policy.bound(table, bounds.data());
    policy.score(table, {block.data(), 32}, scores.data(), 32);
    for (std::size_t i = 0; i < scores.size(); ++i) REQUIRE(scores[i] <= bounds[i / 32]);
  };
  check(Pq4Keys::make(random_codebook(dim, 12, 16)).value());
  check(Pq6Keys::make(random_codebook(dim, 12, 64)).value());
  check(Pq4Keys::make(random_codebook(dim, 12, 16, 2)).value());
  check(AnyKeys(Pq4Keys::make(random_codebook(dim, 12, 16)).value()));
  check(AnyKeys(Pq8Keys::make(random_codebook(dim, 12, 256)).value()));  // has none
}

TEST_CASE("what a table in a space bounds is never exceeded, and runs far below the largest score are not read") {
  const std::size_t dim = 32, tokens = 600;
  auto keys = normal_floats(tokens * dim, 8);
  const auto values = normal_floats(tokens * dim, 9);
  const auto query = normal_floats(dim, 10);
  for (std::size_t d = 0; d < dim; ++d) keys[(tokens - 1) * dim + d] = 4 * query[d];  // exact, and far ahead of all others
  double largest_value = 0;
  for (std::size_t t = 0; t < tokens; ++t) {
    largest_value = std::max(largest_value, std::sqrt(dot(values.data() + t * dim, values.data() + t * dim, dim)));
  }
  for (const SpaceChoice& choice : {SpaceChoice{.mean = true}, SpaceChoice{.rotary = dim, .run_tokens = 64},
                                    SpaceChoice{.rotary = 16, .run_tokens = 100, .mean = true, .mapped = true}}) {
    const auto space = random_space(dim, choice);
    using Spaced = SpacedKeys<CountingKeys>;
    const CountingKeys inner(Pq4Keys::make(random_codebook(dim, 8, 16)).value());
    const auto policy = Spaced::make(inner, space).value();
    const RunPlace place(128, 32);
    std::vector<std::byte> block(policy.block_bytes());
    policy.encode({keys.data(), 32, dim}, place, block.data());
    Spaced::QueryTable table;
    policy.prepare(table, {query.data(), 1, dim});
    policy.turn(table, place.origin);
    float bound = 0, scores[32];
    policy.bound(table, &bound);
    policy.score(table, {block.data(), 32, place.offset}, scores, 32);
    for (const float score : scores) REQUIRE(score <= bound);

    HeadCache head(AnyKeys(policy), AnyValues(Int4Values::make(dim, 16).value()), {.recent = 8});
    REQUIRE(head.append(Rows(keys.data(), tokens, dim), Rows(values.data(), tokens, dim)));
    Workspace<AnyKeys, AnyValues> workspace;
    std::vector<float> all(dim), some(dim);
    attend(head, {query.data(), 1, dim}, all.data(), dim, workspace);
    scored = 0;
    const float share = 1e-2f;
    const auto result = attend(head, {query.data(), 1, dim}, some.data(), dim, workspace, {.skip_below = share});
    CHECK(scored < tokens - 8);
    CHECK(result.skipped_mass > 0);
    CHECK(result.skipped_mass <= share * static_cast<float>(tokens));
    CHECK(distance(all, some) <= 2 * static_cast<double>(result.skipped_mass) * largest_value + order_tolerance);
  }
}

TEST_CASE("blocks are skipped by what they weigh on average, and never the one of the largest weight") {
  const std::size_t dim = 32, tokens = 4 * 32 + 8;
  std::vector<float> query(dim, 0.0f), keys(tokens * dim, 0.0f), values(tokens * dim, 0.0f), out(dim);
  query[0] = 1;
  // Scores 0, 0, 10 once, and −1: the first two blocks weigh e⁻¹⁰ per token, the third 1/32 on average, the last less.
  for (std::size_t t = 0; t < tokens; ++t) {
    keys[t * dim] = t == 70 ? 10.0f : t >= 96 ? -1.0f : 0.0f;
    values[t * dim + t / 32] = 1;
  }
  HeadCache head(ExactKeys{dim}, ExactValues{dim}, {.recent = 8});
  REQUIRE(head.append(Rows(keys.data(), tokens, dim), Rows(values.data(), tokens, dim)));
  Workspace<ExactKeys, ExactValues> workspace;
  const double low = std::exp(-10.0), lower = std::exp(-11.0);
  const double all = 1 + 95 * low + 40 * lower;
  for (const float share : {1.0f, 0.9e-4f, 1e-5f}) {
    const auto result = attend(head, {query.data(), 1, dim}, out.data(), dim, workspace, {.scale = 1, .skip_below = share});
    // The newest eight are exact, came first and are kept; at 1e-5 nothing weighs too little, at 9e-5 all but one block do.
    const double skipped = share < 5e-5f ? 0 : 64 * low + 32 * lower;
    CHECK(static_cast<double>(result.skipped_mass) >= skipped / all * (1 - 1e-6));
    CHECK(static_cast<double>(result.skipped_mass) <= skipped / all * static_cast<double>(isa::mass_bound_excess) + 1e-6);
    CHECK(static_cast<double>(out[2]) == Approx((1 + 31 * low) / (all - skipped)).margin(1e-4));
  }
}

TEST_CASE("a layer of few heads and many tokens is cut into shares that add up") {
  const std::size_t dim = 16, kv_heads = 2, group = 2, tokens = 3 * least_share_tokens + 77;
  const auto rows = normal_floats(tokens * kv_heads * dim, 6);
  const auto queries = normal_floats(kv_heads * group * dim, 7);
  const AnyKeys keys = Pq8Keys::make(random_codebook(dim, 4, 256)).value();
  const AnyValues values = ExactValues(dim);
  auto cache = AnyCache::make({1, kv_heads, dim}, {keys}, {values}, {.sinks = 2, .recent = 40}).value();
  REQUIRE(cache.append_layer(0, Rows(rows.data(), tokens, kv_heads * dim), Rows(rows.data(), tokens, kv_heads * dim)));
  REQUIRE(detail::shares_of_head(kv_heads, tokens) == 3);
  auto workspaces = make_workspaces(cache, group);
  std::vector<float> cut(kv_heads * group * dim), whole(kv_heads * group * dim);
  attend_layer(cache, 0, {queries.data(), kv_heads * group, dim}, cut.data(), dim, workspaces);
  for (std::size_t h = 0; h < kv_heads; ++h) {
    attend(cache.head(0, h), {queries.data() + h * group * dim, group, dim}, whole.data() + h * group * dim, dim,
           workspaces.front());
  }
  CHECK(distance(cut, whole) <= order_tolerance);
  // Runs of odd lengths, as truncate leaves them: every token is in one share.
  cache.truncate(2 * least_share_tokens + 13);
  REQUIRE(cache.append_layer(0, Rows(rows.data(), 3000, kv_heads * dim), Rows(rows.data(), 3000, kv_heads * dim)));
  attend_layer(cache, 0, {queries.data(), kv_heads * group, dim}, cut.data(), dim, workspaces);
  for (std::size_t h = 0; h < kv_heads; ++h) {
    attend(cache.head(0, h), {queries.data() + h * group * dim, group, dim}, whole.data() + h * group * dim, dim,
           workspaces.front());
  }
  CHECK(distance(cut, whole) <= order_tolerance);
}
