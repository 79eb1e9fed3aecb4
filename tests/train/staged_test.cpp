// Codebooks of several stages: the search for codes, and training the stages together.
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
  const auto two = train_codebook(view, {dim, 4, 16, 2}).value();
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
  const double both = error_of(Pq4Keys::make(two.codebook).value(), rows, dim);
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
  const auto weighed = train_codebook(view, {dim, 1, 16, 2}, options).value();
  const auto again = train_codebook(view, {dim, 1, 16, 2}, options).value();
  CHECK(weighed.codebook->id() == again.codebook->id());
  const std::vector<float> counted(rows.begin() + count / 2 * dim, rows.end() - 300 % 32 * dim);
  const auto plain = train_codebook(view, {dim, 1, 16, 2}).value();
  CHECK(error_of(Pq4Keys::make(weighed.codebook).value(), counted, dim) <
        error_of(Pq4Keys::make(plain.codebook).value(), counted, dim));
}

TEST_CASE("the search comes near the best sum of centroids, and never claims better") {
  const double allowed = 1.12;  // what a beam may lose on average against trying every sum, random centroids being the worst
  const std::size_t width = 4, count = 64;
  const auto rows = normal_floats(count * width, 3);
  for (const std::size_t stages : {2, 3}) {
    auto centroids = normal_floats(stages * width * 16, 7);
    for (std::size_t i = 0; i < centroids.size(); ++i) centroids[i] *= std::pow(0.5f, static_cast<float>(i / (width * 16)));
    const auto book = Codebook::make({width, 1, 16, stages}, centroids).value();  // each stage for what the last one left
    std::vector<std::uint8_t> codes(stages * count);
    nearest_sums(CentroidStages(*book, 0), rows.data(), count, width, codes.data(), count);
    const auto error = [&](std::size_t row, const auto& code) {
      double sum = 0;
      for (std::size_t d = 0; d < width; ++d) {
        double left = static_cast<double>(rows[row * width + d]);
        for (std::size_t s = 0; s < stages; ++s) left -= static_cast<double>(book->centroids(s)[d * 16 + code(s)]);
        sum += left * left;
      }
      return sum;
    };
    double found = 0, least = 0;
    for (std::size_t r = 0; r < count; ++r) {
      found += error(r, [&](std::size_t s) -> std::size_t { return codes[s * count + r]; });
      double best = 1e300;
      for (std::size_t all = 0; all < (std::size_t{1} << (4 * stages)); ++all) {
        best = std::min(best, error(r, [&](std::size_t s) { return all >> (4 * s) & 15; }));
      }
      least += best;
    }
    INFO(stages << " stages: " << found << " against " << least);
    CHECK(found < allowed * least);
    CHECK(found > (1 - 1e-5) * least);
  }
}

TEST_CASE("stages err less than as many codes of their own, and more stages less again") {
  // Coordinates that hang together: what a wider subspace can use.
  const std::size_t dim = 8, count = 4096;
  auto rows = normal_floats(count * dim, 4);
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t d = 1; d < dim; ++d) rows[r * dim + d] = 0.7f * rows[r * dim + d - 1] + 0.7f * rows[r * dim + d];
  }
  const FloatRows view(rows.data(), count, dim);
  const auto error = [&](std::size_t subspaces, std::size_t stages) {
    return error_of(Pq4Keys::make(train_codebook(view, {dim, subspaces, 16, stages}).value().codebook).value(), rows, dim);
  };
  const double split = error(4, 1), two = error(2, 2), four = error(1, 4);
  INFO(split << " " << two << " " << four);
  CHECK(two < 0.97 * split);
  CHECK(four < 0.97 * two);
}

TEST_CASE("a codebook of stages is a file like any other, and its shape is checked") {
  const auto book = random_codebook(16, 2, 16, 3);
  CHECK(book->shape().codes() == 6);
  CHECK(book->shape().first(2) == 0);
  CHECK(book->shape().first(3) == 8);
  CHECK(check({16, 2, 16, 0}).error().message == "0 stages; choose 1 to 4");
  CHECK(check({16, 2, 16, 5}).error().message == "5 stages; choose 1 to 4");
  CHECK(check({512, 1, 16, 2}).error().message ==
        "1 subspaces of 2 stages: at most 256 codes per row, in subspaces of at most 256 elements");
  CHECK(Codebook::make({16, 2, 16, 3}, std::vector<float>(16 * 16)).error().message ==
        "a codebook of dim 16 with 3 stages of 16 centroids has 768 floats, not 256");
}
