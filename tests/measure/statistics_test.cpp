// The figures of the quality report on inputs small enough to work out by hand.
#include <cmath>

#include "catch.hpp"
#include "pqkv/measure/statistics.hpp"

using namespace pqkv;

namespace {
bool near(double a, double b) { return std::fabs(a - b) < 1e-12; }
}  // namespace

TEST_CASE("cosine and relative error") {
  const std::vector<double> a = {3, 4}, b = {6, 8}, c = {-4, 3}, zero = {0, 0};
  CHECK(near(cosine(a, b), 1));
  CHECK(near(cosine(a, c), 0));
  CHECK(cosine(zero, zero) == 1);
  CHECK(cosine(a, zero) == 0);
  CHECK(near(relative_error(a, b), 1));
  CHECK(near(relative_error(a, zero), 1));
  CHECK(relative_error(zero, zero) == 0);
}

TEST_CASE("divergence of softmax from logits, shifts not counting") {
  const std::vector<double> a = {0, std::log(3.0)};       // weights 1/4, 3/4
  const std::vector<double> b = {1000, 1000};             // 1/2, 1/2
  CHECK(near(softmax_divergence(a, b), 0.25 * std::log(0.5) + 0.75 * std::log(1.5)));
  CHECK(near(softmax_divergence(b, b), 0));
  CHECK(near(log_sum_exp(b), 1000 + std::log(2.0)));
}

TEST_CASE("correlations, with ties sharing their ranks") {
  const std::vector<double> a = {1, 2, 3, 4}, b = {2, 4, 6, 8}, c = {1, 10, 100, 1000}, flat = {5, 5, 5, 5};
  CHECK(near(*pearson(a, b), 1));
  CHECK(*pearson(a, c) < 0.9);
  CHECK(near(*spearman(a, c), 1));
  CHECK(*pearson(a, flat) == 0);
  CHECK_FALSE(pearson(flat, a).has_value());
  const std::vector<double> tied = {7, 3, 7, 1};
  CHECK(ranks(tied) == std::vector<double>{2.5, 1, 2.5, 0});
  const std::vector<double> order = {4, 2, 3, 1};
  CHECK(near(*spearman(order, tied), 4.5 / std::sqrt(5.0 * 4.5)));
}

TEST_CASE("overlap of the largest") {
  const std::vector<double> a = {9, 8, 7, 1, 2}, b = {9, 1, 8, 7, 2};
  CHECK(near(top_overlap(a, b, 3), 2.0 / 3));
  CHECK(near(top_overlap(a, b, 1), 1));
  CHECK(near(top_overlap(a, b, 50), 1));
  const std::vector<double> ties = {1, 1, 1, 1, 1};
  CHECK(near(top_overlap(a, ties, 3), 1));  // of equals the first
}
