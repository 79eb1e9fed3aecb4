// Budget allocators on numbers that are worked out by hand.
#include "catch.hpp"
#include <numeric>

#include "pqkv/base/random.hpp"
#include "pqkv/retention.hpp"

using namespace pqkv;

namespace {
using Counts = std::vector<std::size_t>;
}

TEST_CASE("a total is shared out in whole tokens, within limits") {
  CHECK(share_budget(10, std::vector<double>{1, 1, 2}) == Counts{3, 2, 5});  // 2.5, 2.5, 5: the first gets the odd one
  CHECK(share_budget(10, std::vector<double>{0, 0}) == Counts{5, 5});
  CHECK(share_budget(12, std::vector<double>{1, 1, 2}, {.least = 2}) == Counts{4, 3, 5});  // 6 beyond: 1.5, 1.5, 3
  CHECK(share_budget(12, std::vector<double>{1, 1, 9}, {.most = 5}) == Counts{4, 3, 5});
  CHECK(share_budget(12, std::vector<double>{0, 1, 9}, {.most = 5}) == Counts{2, 5, 5});
  CHECK(share_budget(100, std::vector<double>{1, 2}, {.most = 5}) == Counts{5, 5});
  CHECK(share_budget(3, std::vector<double>{1, 2}, {.least = 4}) == Counts{4, 4});
  CHECK(uniform_budgets(7, 3) == Counts{3, 2, 2});
}

TEST_CASE("shares sum to the total whatever the numbers") {
  Random random(3);
  for (int round = 0; round < 500; ++round) {
    std::vector<double> shares(1 + random.below(9));
    for (double& share : shares) share = random.below(3) == 0 ? 0 : random.uniform();
    const std::size_t least = random.below(4);
    const std::size_t most = least + random.below(40);
    const std::size_t total = random.below(200);
    const Counts budgets = share_budget(total, shares, {least, most});
    const std::size_t wanted = std::clamp(total, least * shares.size(), most * shares.size());
    CHECK(std::accumulate(budgets.begin(), budgets.end(), std::size_t{0}) == wanted);
    for (const std::size_t budget : budgets) CHECK((budget >= least && budget <= most));
  }
}

TEST_CASE("a pyramid narrows along a cosine, layer by layer") {
  // Passed on by layers 0 and 1 of 3: all, and 0.2 + 0.8 · (1 + cos 60°) / 2 = 0.8.
  CHECK(pyramid_budgets(28, 3, 0.2) == Counts{10, 10, 8});
  // By layers 1 and 2 of 4 to nothing: (1 + cos 45°) / 2 = 0.854 and 0.5; shares 1, 1, 0.854, 0.427.
  CHECK(pyramid_budgets(3280, 4, 0) == Counts{1000, 1000, 853, 427});
  CHECK(pyramid_budgets(90, 3, 1) == Counts{30, 30, 30});
  CHECK(pyramid_budgets(58, 3, 0.2, {.least = 10}) == Counts{20, 20, 18});
  CHECK(pyramid_budgets(8, 1, 0.2) == Counts{8});
}

TEST_CASE("uncertain layers get more") {
  CHECK(minimum_budget(std::vector<float>{0.1f, 0.5f, 0.4f}, 0.85) == 2);
  CHECK(minimum_budget(std::vector<float>{0.25f, 0.25f, 0.25f, 0.25f}, 0.9) == 4);
  CHECK(minimum_budget(std::vector<float>{0, 0, 2, 0}, 0.9) == 1);
  // Layers of two heads with means 2 and 6; 10 each at least, 20 beyond in proportion 1 : 3.
  CHECK(uncertainty_budgets(40, Counts{1, 3, 6, 6}, 2, {.least = 10}) == Counts{15, 25});
}

TEST_CASE("important heads draw on the pool") {
  // b = 12, β = 1.2: each keeps 2 and gives 10; the pool of 40 is dealt 4 : 3 : 2 : 1.
  CHECK(head_budgets(48, std::vector<double>{8, 6, 4, 2}, 1.2) == Counts{18, 14, 10, 6});
  CHECK(head_budgets(48, std::vector<double>{0, 0, 0, 0}, 1.2) == Counts{12, 12, 12, 12});
}

TEST_CASE("eviction stops before the norm of the weights falls too far") {
  // Columns: squared weights 0.36, 0.01, 0.01, 0.04 of one query; norms may fall to 95 %: 0.42 · (1 − 0.9025) = 0.04095.
  const std::vector<float> weights{0.6f, 0.1f, 0.1f, 0.2f};
  const std::vector<float> scores{4, 1, 2, 3};
  CHECK(norm_budget({weights.data(), 1, 4}, scores, 0, 0, 0.05) == 2);
  CHECK(norm_budget({weights.data(), 1, 4}, scores, 2, 0, 0.05) == 3);
  CHECK(norm_budget({weights.data(), 1, 4}, scores, 0, 0, 0.0) == 4);
  CHECK(norm_budget({weights.data(), 1, 4}, scores, 0, 0, 1.0) == 0);
  CHECK(norm_budget({weights.data(), 1, 4}, std::vector<float>{1, 2, 3, 4}, 0, 0, 0.05) == 4);
}

TEST_CASE("a head is served by the cheapest kind that recovers enough") {
  using enum TokenClass;
  const std::vector<TokenClass> classes{special, ordinary, punctuation, ordinary, ordinary, ordinary,
                                        ordinary, ordinary, ordinary, ordinary};
  const auto kind_of = [&](const std::vector<float>& weights) {
    return profile_head({weights.data(), weights.size() / 10, 10}, classes,
                        {.recovered = 0.9, .frequent = 0.2, .local = 0.2});
  };
  HeadProfile profile = kind_of({0.9375f, 0, 0, 0.0625f, 0, 0, 0, 0, 0, 0});
  CHECK(profile.kind == RetentionKind::special);
  CHECK(std::fabs(profile.recovered - 0.9375) < 1e-6);
  REQUIRE(profile.evicted.size() == 1);
  CHECK((profile.evicted[0].first == 1 && profile.evicted[0].count == 9));
  CHECK(kind_of({0.5f, 0, 0.5f, 0, 0, 0, 0, 0, 0, 0}).kind == RetentionKind::punctuation);
  CHECK(kind_of({0.5f, 0, 0, 0, 0.5f, 0, 0, 0, 0, 0}).kind == RetentionKind::frequent);
  profile = kind_of({0.3f, 0, 0, 0, 0.3f, 0, 0, 0, 0.2f, 0.2f});
  CHECK(profile.kind == RetentionKind::local);
  REQUIRE(profile.evicted.size() == 3);  // 1; 3; 5 6 7
  CHECK(count_of(profile.evicted) == 5);
  CHECK(kind_of(std::vector<float>(10, 0.1f)).kind == RetentionKind::full);
  CHECK(kind_of(std::vector<float>(10, 0.1f)).evicted.empty());
  // The mean over queries counts: 0.9 and 0.8 recover 0.85.
  CHECK(kind_of({0.9f, 0, 0, 0, 0, 0.1f, 0, 0, 0, 0, 0.8f, 0, 0, 0, 0, 0.2f, 0, 0, 0, 0}).kind == RetentionKind::frequent);
}
