// Calibration of query filters: direction, sign rule, group mean.
#include "catch.hpp"

#include "pqkv/retention.hpp"
#include "pqkv/train.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {
constexpr double fit_tolerance = 2e-3;  // 4000 samples
}

TEST_CASE("a query filter is the mean of its heads' main directions, towards most queries") {
  // Head 0: queries along ±(3,4)/5, most of them towards it; head 1: along (−1, 0).
  std::vector<float> queries;
  for (std::size_t i = 0; i < 100; ++i) {
    const float side = i % 10 < 7 ? 1.0f : -1.0f;
    queries.insert(queries.end(), {3 * side, 4 * side, -2, 0});
  }
  const auto filter = fit_query_filter({queries.data(), 200, 2}, 2);
  REQUIRE(bool(filter));
  CHECK(std::fabs(double((*filter)[0]) - (0.6 - 1) / 2) < 1e-6);
  CHECK(std::fabs(double((*filter)[1]) - 0.8 / 2) < 1e-6);
  CHECK(fit_query_filter({queries.data(), 199, 2}, 2).error().code == Errc::invalid_shape);
}

TEST_CASE("noise around a direction is averaged out, and codes are ranked as rows are") {
  constexpr std::size_t dim = 16;
  std::vector<float> queries = normal_floats(4000 * dim, 5);
  for (std::size_t i = 0; i < 4000; ++i) {
    for (std::size_t d = 0; d < dim; ++d) queries[i * dim + d] *= 0.1f;
    queries[i * dim + 2] -= 3;
  }
  const auto filter = fit_query_filter({queries.data(), 4000, dim}, 1);
  REQUIRE(bool(filter));
  CHECK(std::fabs(double((*filter)[2]) + 1) < fit_tolerance);

  HeadCache<Pq8Keys, ExactValues> head(Pq8Keys::make(random_codebook(dim, 4, 256)).value(), ExactValues(dim));
  const std::vector<float> rows = normal_floats(320 * dim, 6);
  REQUIRE(head.append(Rows(rows.data(), 320, dim), Rows(rows.data(), 320, dim)).ok());
  Workspace<Pq8Keys, ExactValues> workspace;
  const auto evicted = plan_eviction(QueryFilter(*filter), head, 100, {}, workspace);
  REQUIRE(bool(evicted));
  // The least of those that stay is above the most of those that go.
  double least = 1e30, most = -1e30;
  std::vector<float> key(dim), value(dim);
  for (std::size_t t = 0, r = 0; t < 320; ++t) {
    while (r < evicted->size() && (*evicted)[r].end() <= t) ++r;
    head.decode(t, key.data(), value.data());
    const double score = dot(key.data(), filter->data(), dim);
    if (r < evicted->size() && (*evicted)[r].first <= t) {
      most = std::max(most, score);
    } else {
      least = std::min(least, score);
    }
  }
  CHECK(least > most - 1e-3);  // 16-bit table entries on some machines
}
