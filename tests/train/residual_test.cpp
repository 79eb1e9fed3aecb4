// Two stages of 16 centroids per subspace, trained together.
#include "catch.hpp"
#include "pqkv/train.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

/// Mean squared error of rows that were coded by a format.
template <class Keys>
double error_of(const Keys& keys, const std::vector<float>& rows, std::size_t dim) {
  double sum = 0;
  std::vector<std::byte> block(keys.block_bytes());
  std::vector<float> row(dim);
  for (std::size_t first = 0; first < rows.size() / dim; first += 32) {
    keys.encode({rows.data() + first * dim, 32, dim}, 0, block.data());
    for (std::size_t t = 0; t < 32; ++t) {
      keys.decode(block.data(), t, 0, row.data());
      for (std::size_t d = 0; d < dim; ++d) {
        sum += std::pow(static_cast<double>(row[d]) - static_cast<double>(rows[(first + t) * dim + d]), 2);
      }
    }
  }
  return sum / static_cast<double>(rows.size());
}

}  // namespace

TEST_CASE("two stages trained together lie between 16 and 256 centroids, and their objective falls") {
  const std::size_t dim = 16, count = 4096;
  const auto rows = normal_floats(count * dim, 1);
  const FloatRows view(rows.data(), count, dim);
  const auto two = train_codebook(view, {dim, 4, 32}).value();
  for (const SubspaceReport& report : two.subspaces) {
    REQUIRE(report.objective.size() > 2);
    for (std::size_t i = 1; i < report.objective.size(); ++i) {
      REQUIRE(report.objective[i] <= report.objective[i - 1] * (1 + 1e-6));
    }
    CHECK(report.objective.back() < 0.97 * report.objective.front());  // together they end below one after the other
  }
  const double small = error_of(Pq4Keys::make(train_codebook(view, {dim, 4, 16}).value().codebook).value(), rows, dim);
  const double large = error_of(Pq8Keys::make(train_codebook(view, {dim, 4, 256}).value().codebook).value(), rows, dim);
  const double middle = error_of(Pq6Keys::make(train_codebook(view, {dim, 4, 64}).value().codebook).value(), rows, dim);
  const double both = error_of(Pq44Keys::make(two.codebook).value(), rows, dim);
  CHECK(both < middle);
  CHECK(middle < small);
  CHECK(both > large);
  CHECK(both < 1.35 * large);
}

TEST_CASE("two stages are weighed and deterministic") {
  const std::size_t dim = 4, count = 600;
  const auto rows = normal_floats(count * dim, 2);
  std::vector<float> weights(count, 1.0f);
  for (std::size_t r = 0; r < count / 2; ++r) weights[r] = 0.0f;
  TrainOptions options;
  options.weights = weights;
  const FloatRows view(rows.data(), count, dim);
  const auto weighed = train_codebook(view, {dim, 1, 32}, options).value();
  const auto again = train_codebook(view, {dim, 1, 32}, options).value();
  CHECK(weighed.codebook->id() == again.codebook->id());
  const std::vector<float> counted(rows.begin() + count / 2 * dim, rows.end() - 300 % 32 * dim);
  const auto plain = train_codebook(view, {dim, 1, 32}).value();
  CHECK(error_of(Pq44Keys::make(weighed.codebook).value(), counted, dim) <
        error_of(Pq44Keys::make(plain.codebook).value(), counted, dim));
}
