// Codebooks refined on a prompt, on cases worked out by hand.
#include "catch.hpp"
#include "pqkv/train.hpp"
#include "support/policies.hpp"

#include <limits>

using namespace pqkv;
using namespace pqkv::test;

namespace {

/// 16 centroids at 0, 10, 20 … 150 on a line.
std::shared_ptr<const Codebook> line() {
  std::vector<float> centroids(16);
  for (std::size_t c = 0; c < 16; ++c) centroids[c] = 10.0f * static_cast<float>(c);
  return Codebook::make({1, 1, 16}, centroids).value();
}

FitSamples samples_of(const std::vector<float>& rows, std::size_t dim) {
  FitSamples samples;
  samples.rows = {rows.data(), rows.size() / dim, dim};
  return samples;
}

}  // namespace

TEST_CASE("centroids move to their rows as far as calibration lets them") {
  const std::vector<float> rows = {12, 14, 41};
  const auto moved = [&](double prior_rows) {
    RefineOptions options;
    options.iterations = 1;
    options.prior_rows = prior_rows;
    return refine_codebook(*line(), samples_of(rows, 1), options).value();
  };
  CHECK(moved(0)->centroids(0)[1] == 13.0f);
  CHECK(moved(0)->centroids(0)[4] == 41.0f);
  CHECK(moved(2)->centroids(0)[1] == 11.5f);  // (2·10 + 12 + 14) / 4
  CHECK(moved(2)->centroids(0)[4] == Approx(121.0 / 3));
  for (const std::size_t untouched : {0, 2, 3, 5, 15}) CHECK(moved(2)->centroids(0)[untouched] == line()->centroids(0)[untouched]);
  CHECK(moved(2)->id() != line()->id());
  CHECK(moved(1e12)->centroids(0)[1] == Approx(10));
}

TEST_CASE("rows of the prompt count by their importance, 1 on average") {
  const std::vector<float> rows = {12, 14};
  const std::vector<float> importance = {3, 1};
  FitSamples samples = samples_of(rows, 1);
  samples.importance = importance;
  RefineOptions options;
  options.iterations = 1;
  options.prior_rows = 2;
  // Weights 1.5 and 0.5: (2·10 + 1.5·12 + 0.5·14) / 4
  CHECK(refine_codebook(*line(), samples, options).value()->centroids(0)[1] == 11.25f);
}

TEST_CASE("refining lowers the error of the prompt, in one stage and in several, in plain coordinates and in a space") {
  const std::size_t dim = 8, count = 512;
  auto rows = normal_floats(count * dim, 1);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] += i % dim < 4 ? 1.0f : -0.5f;  // another subject than calibration's
  std::vector<std::int64_t> positions(count);
  for (std::size_t t = 0; t < count; ++t) positions[t] = static_cast<std::int64_t>(t);
  const auto error_of = [&](const auto& keys) {
    double sum = 0;
    std::vector<std::byte> block(keys.block_bytes());
    std::vector<float> row(dim);
    const std::size_t run = std::min<std::size_t>(keys.run_tokens(), count);
    for (std::size_t first = 0; first < count; first += 32) {
      const RunPlace place(static_cast<std::int64_t>(first / run * run), first % run);
      keys.encode({rows.data() + first * dim, 32, dim}, place, block.data());
      for (std::size_t t = 0; t < 32; ++t) {
        keys.decode(block.data(), t, place, row.data());
        for (std::size_t d = 0; d < dim; ++d) sum += std::pow(static_cast<double>(row[d] - rows[(first + t) * dim + d]), 2);
      }
    }
    return sum;
  };
  FitSamples samples = samples_of(rows, dim);
  samples.positions = positions;
  for (const std::size_t stages : {1, 2}) {
    const CodebookShape shape{dim, 2, 16, stages};
    const auto calibrated = train_codebook({normal_floats(4096 * dim, 2).data(), 4096, dim}, shape).value().codebook;
    const auto plain = refine_codebook(*calibrated, samples).value();
    CHECK(error_of(Pq4Keys::make(plain).value()) < 0.9 * error_of(Pq4Keys::make(calibrated).value()));

    const auto space = random_space(dim, {.rotary = dim, .run_tokens = 64, .mean = true, .mapped = true});
    const float* first = calibrated->centroids(0);
    const auto spaced = Codebook::make(shape, {first, first + shape.floats()}, space).value();
    const auto refined = refine_codebook(*spaced, samples).value();
    CHECK(refined->space() == space);
    const auto in_space = [&](const auto& book) {
      return error_of(SpacedKeys<Pq4Keys>::make(Pq4Keys::make(book).value(), space).value());
    };
    CHECK(in_space(refined) < 0.9 * in_space(spaced));
  }
}

TEST_CASE("what a codebook cannot be refined on is refused with its numbers") {
  const std::vector<float> rows = {1, 2, 3};
  CHECK(refine_codebook(*line(), samples_of(rows, 3)).error().message == "rows of 3 elements for a codebook of dim 1");
  const std::vector<float> bad = {1, std::numeric_limits<float>::quiet_NaN()};
  CHECK(refine_codebook(*line(), samples_of(bad, 1)).error().message == "element 0 of training row 1 is not finite");
  RefineOptions options;
  options.iterations = 0;
  CHECK_FALSE(refine_codebook(*line(), samples_of(rows, 1), options));
  options = {};
  options.prior_rows = -1;
  CHECK_FALSE(refine_codebook(*line(), samples_of(rows, 1), options));
  const auto turning = Codebook::make({4, 1, 16}, normal_floats(64, 1), random_space(4, {.rotary = 4, .run_tokens = 32})).value();
  const auto four = normal_floats(8, 1);
  CHECK(refine_codebook(*turning, samples_of(four, 4)).error().message == "0 positions for 2 rows");
}
