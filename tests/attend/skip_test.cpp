// What is not read: blocks of values, and runs whose table says that they cannot matter; and that a head cut into shares is
// the same head.
#include "catch.hpp"
#include "support/policies.hpp"

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
