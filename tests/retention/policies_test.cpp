// Retention policies on cases that are worked out by hand: exact formats, keys of two elements.
#include "catch.hpp"

#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

using Head = HeadCache<ExactKeys, ExactValues>;
using Scratch = Workspace<ExactKeys, ExactValues>;

constexpr float rounding = 1e-5f;

struct Filled {
  Head head{ExactKeys(2), ExactValues(2)};
  Scratch workspace;

  explicit Filled(const std::vector<float>& keys) {
    REQUIRE(head.append(Rows(keys.data(), keys.size() / 2, 2), Rows(keys.data(), keys.size() / 2, 2)).ok());
  }
  template <class P>
  std::vector<float> scores(const P& policy, std::span<const float> record = {}) {
    std::vector<float> scores(head.tokens());
    REQUIRE(policy.rank(pqkv::detail::HeadTokens<ExactKeys, ExactValues>(head, record, workspace), scores).ok());
    return scores;
  }
};

void require_near(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    INFO("element " << i << ": " << a[i] << ", should be " << b[i]);
    REQUIRE(std::fabs(a[i] - b[i]) < rounding);
  }
}

/// The tokens that stay, by index before.
std::vector<std::size_t> stay(std::size_t tokens, const std::vector<TokenRange>& evicted) {
  std::vector<std::size_t> left;
  for (std::size_t i = 0; i < tokens; ++i) {
    bool gone = false;
    for (const TokenRange& range : evicted) gone = gone || (i >= range.first && i < range.end());
    if (!gone) left.push_back(i);
  }
  return left;
}

using Tokens = std::vector<std::size_t>;

}  // namespace

TEST_CASE("the best stay, the protected too, and of equals the newer") {
  const std::vector<float> scores{5, 1, 3, 3, 9, 0};
  CHECK(stay(6, *choose_evicted(scores, 0, 0, 3)) == Tokens{0, 3, 4});
  CHECK(stay(6, *choose_evicted(scores, 0, 1, 3)) == Tokens{0, 4, 5});
  CHECK(stay(6, *choose_evicted(scores, 2, 1, 4)) == Tokens{0, 1, 4, 5});
  CHECK(stay(6, *choose_evicted(scores, 2, 1, 3)) == Tokens{0, 1, 5});
  CHECK(choose_evicted(scores, 0, 0, 6)->empty());
  CHECK(stay(6, *choose_evicted(scores, 0, 0, 0)).empty());
  const auto refused = choose_evicted(scores, 2, 2, 3);
  REQUIRE(!refused);
  CHECK(refused.error().message == "a budget of 3 tokens is less than the 2 first and the 2 newest that are protected");
}

TEST_CASE("chunks stay whole, counted from the first token that is not protected") {
  // Chunks {1,2}, {3,4}, {5,6}, {7} of means 1, 4, 3, 3.5.
  const std::vector<float> scores{0, 1, 1, 0, 8, 3, 3, 3.5f};
  CHECK(stay(8, *choose_evicted(scores, 1, 0, 4, 2)) == Tokens{0, 3, 4, 7});
  CHECK(stay(8, *choose_evicted(scores, 1, 0, 5, 2)) == Tokens{0, 3, 4, 7});
  CHECK(stay(8, *choose_evicted(scores, 1, 0, 6, 2)) == Tokens{0, 3, 4, 5, 6, 7});
}

TEST_CASE("streaming keeps sinks and the newest") {
  Filled filled({1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0});
  const auto evicted = plan_eviction(SinksAndRecent{}, filled.head, 3, {.sinks = 1}, filled.workspace);
  CHECK(stay(6, *evicted) == Tokens{0, 4, 5});
}

TEST_CASE("the random control depends on its seed alone and reaches every token") {
  Filled filled(std::vector<float>(2 * 40, 1.0f));
  std::vector<int> kept(40);
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const auto once = plan_eviction(RandomTokens{seed}, filled.head, 10, {}, filled.workspace);
    const auto again = plan_eviction(RandomTokens{seed}, filled.head, 10, {}, filled.workspace);
    CHECK(stay(40, *once) == stay(40, *again));
    for (const std::size_t i : stay(40, *once)) ++kept[i];
  }
  for (const int count : kept) {
    CHECK(count > 20);  // 50 are expected, with a deviation of 6
    CHECK(count < 80);
  }
}

TEST_CASE("low key norm: −‖k‖, from rows when they come and from the cache without a record") {
  Filled filled({3, 4, 0, 1, 0, 2});
  require_near(filled.scores(LowKeyNorm{}), {-5, -1, -2});
  require_near(filled.scores(LowKeyNorm{}, std::vector<float>{-1, -2, -3}), {-1, -2, -3});
  Retainer retainer(LowKeyNorm{});
  Head head(ExactKeys(2), ExactValues(2));
  const std::vector<f16> keys{to_f16(3), to_f16(4), to_f16(0), to_f16(1)};
  REQUIRE(retainer.append(head, Rows(keys.data(), 2, 2), Rows(keys.data(), 2, 2)).ok());
  require_near({retainer.record().begin(), retainer.record().end()}, {-5, -1});
}

TEST_CASE("a query filter scores keys by their product with it") {
  Filled filled({3, 4, 0, 1, -1, 2});
  require_near(filled.scores(QueryFilter({2, -1})), {2, -1, -4});
  std::vector<float> scores(3);
  const Status refused = QueryFilter({1}).rank(
      pqkv::detail::HeadTokens<ExactKeys, ExactValues>(filled.head, {}, filled.workspace), scores);
  CHECK(refused.error().message == "a filter of 1 elements for keys of 2");
}

TEST_CASE("key diversity: the key unlike the mean direction stays") {
  // Unit keys (1,0), (1,0), (0,1): anchor (2,1)/3; cosines 2/√5, 2/√5, 1/√5.
  Filled filled({2, 0, 5, 0, 0, 3});
  const float root = std::sqrt(5.0f);
  require_near(filled.scores(KeyDiversity{}), {-2 / root, -2 / root, -1 / root});
}

TEST_CASE("accumulated attention adds up what each token got") {
  Filled filled({std::log(4.0f), 0, 0, 0});
  Retainer retainer(AccumulatedAttention{});
  REQUIRE(retainer.catch_up(filled.head).ok());
  // Query (√2, 0) at scale 1/√2: scores log 4 and 0, weights 4/5 and 1/5. The first token's query sees itself alone.
  const std::vector<float> queries{std::sqrt(2.0f), 0, std::sqrt(2.0f), 0};
  REQUIRE(retainer.observe(filled.head, {queries.data(), 2, 1, 2, 2}, 0, filled.workspace).ok());
  require_near(filled.scores(AccumulatedAttention{}, retainer.record()), {1.8f, 0.2f});
  retainer.forget();
  // A group of two queries: their weights are summed.
  const std::vector<float> group{std::sqrt(2.0f), 0, 0, 1};
  REQUIRE(retainer.observe(filled.head, {group.data(), 1, 2, 4, 2}, 1, filled.workspace).ok());
  require_near(filled.scores(AccumulatedAttention{}, retainer.record()), {1.3f, 0.7f});
}

TEST_CASE("an observation window pools its neighbours and keeps itself") {
  Filled filled(std::vector<float>(2 * 6, 1.0f));
  const std::vector<float> record{0, 3, 0, 0, 6, 1};
  require_near(filled.scores(ObservationWindow{.window = 2, .pool = 3}, record), {1, 1, 1, 0, 2, 2});
  require_near(filled.scores(ObservationWindow{.window = 1, .pool = 1}, record), {0, 3, 0, 0, 6, 7});
  require_near(filled.scores(ObservationWindow{.window = 0, .pool = 3, .pooling = ObservationWindow::Pooling::maximum}, record),
               {3, 3, 3, 6, 6, 6});
  std::vector<float> scores(6);
  const pqkv::detail::HeadTokens<ExactKeys, ExactValues> seen(filled.head, record, filled.workspace);
  CHECK(ObservationWindow{.pool = 4}.rank(seen, scores).error().code == Errc::invalid_parameter);
  const pqkv::detail::HeadTokens<ExactKeys, ExactValues> unseen(filled.head, {}, filled.workspace);
  CHECK(ObservationWindow{}.rank(unseen, scores).error().code == Errc::invalid_parameter);
}

TEST_CASE("a chunked policy has the scores of the one inside and keeps chunks") {
  Filled filled(std::vector<float>(2 * 6, 1.0f));
  const Chunked<ObservationWindow> policy{{.window = 0, .pool = 1}, 2};
  const std::vector<float> record{5, 0, 1, 2, 2, 2};
  const auto evicted = plan_eviction(policy, filled.head, 4, {}, filled.workspace, record);
  CHECK(stay(6, *evicted) == Tokens{0, 1, 4, 5});
}
