// What is fitted in front of a codebook: rotations are rotations, they and the metric lower the error that they are for, and
// samples that lack something are refused.
#include <algorithm>
#include <cmath>

#include "catch.hpp"
#include "pqkv/keys.hpp"
#include "pqkv/train.hpp"
#include "pqkv/train/codes.hpp"
#include "pqkv/train/learned_rotation.hpp"
#include "pqkv/train/rotation.hpp"
#include "support/data.hpp"
#include "support/spaces.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr double orthogonal_tolerance = 1e-5;  // of a float matrix times its transpose

/// Rows of few strong common causes: neighbouring coordinates say nothing about each other, distant ones everything.
std::vector<float> correlated_rows(std::size_t count, std::size_t dim, std::uint64_t seed) {
  const auto mixing = normal_floats(4 * dim, 99);
  const auto causes = normal_floats(count * 4, seed), noise = normal_floats(count * dim, seed + 1);
  std::vector<float> rows(count * dim);
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t d = 0; d < dim; ++d) {
      for (std::size_t c = 0; c < 4; ++c) rows[r * dim + d] += 2 * mixing[c * dim + d] * causes[r * 4 + c];
      rows[r * dim + d] += 0.2f * noise[r * dim + d];
    }
  }
  return rows;
}

/// Keys after RoPE at positions 0 …: a mean before it, and a spread around that.
std::vector<float> turned_keys(std::size_t count, std::size_t dim, const Rope& rope, std::uint64_t seed) {
  const auto mean = normal_floats(dim, 5);
  auto rows = normal_floats(count * dim, seed);
  for (std::size_t r = 0; r < count; ++r) {
    float* row = rows.data() + r * dim;
    for (std::size_t d = 0; d < dim; ++d) row[d] = 3 * mean[d] + 0.5f * row[d];
    rope.turn(static_cast<double>(r), row);
  }
  return rows;
}

std::vector<std::int64_t> positions_to(std::size_t count) {
  std::vector<std::int64_t> positions(count);
  for (std::size_t r = 0; r < count; ++r) positions[r] = static_cast<std::int64_t>(r);
  return positions;
}

/// What a trained codebook makes of a row at a position.
std::vector<float> coded(const std::shared_ptr<const Codebook>& codebook, const float* row, std::size_t position) {
  const std::size_t dim = codebook->shape().dim;
  const auto keys = Pq4Keys::make(codebook).value();
  std::vector<float> out(dim);
  std::vector<std::byte> block(keys.block_bytes());
  if (codebook->space() == nullptr) {
    keys.encode({row, 1, dim}, {}, block.data());
    keys.decode(block.data(), 0, {}, out.data());
    return out;
  }
  const auto spaced = SpacedKeys<Pq4Keys>::make(keys, codebook->space()).value();
  const std::size_t run = spaced.run_tokens();
  const std::size_t offset = run == unlimited_tokens ? 0 : position % run;
  const RunPlace place(static_cast<std::int64_t>(position - offset), offset);
  spaced.encode({row, 1, dim}, place, block.data());
  spaced.decode(block.data(), 0, place, out.data());
  return out;
}

struct Errors {
  double rows = 0;    ///< mean squared error of a row
  double scores = 0;  ///< of a query's product with it
};

Errors errors_of(const std::shared_ptr<const Codebook>& codebook, const std::vector<float>& rows,
                 const std::vector<float>& queries) {
  const std::size_t dim = codebook->shape().dim, count = rows.size() / dim;
  Errors errors;
  for (std::size_t r = 0; r < count; ++r) {
    auto error = coded(codebook, rows.data() + r * dim, r);
    for (std::size_t d = 0; d < dim; ++d) error[d] -= rows[r * dim + d];
    errors.rows += dot(error.data(), error.data(), dim) / static_cast<double>(count);
    for (std::size_t q = 0; q < 50; ++q) {
      errors.scores += std::pow(dot(error.data(), queries.data() + q * dim, dim), 2) / static_cast<double>(50 * count);
    }
  }
  return errors;
}

std::shared_ptr<const Codebook> trained(const FitSamples& samples, const FitOptions& options, std::size_t subspaces) {
  auto result = train_fitted(samples, options, {samples.rows.dim, subspaces, 16});
  INFO((result ? "" : result.error().message));
  REQUIRE(result);
  return result->codebook;
}

void require_orthogonal(const RowMatrix& rotation) {
  const RowMatrix product = rotation * rotation.transpose();
  REQUIRE(static_cast<double>((product - RowMatrix::Identity(rotation.rows(), rotation.cols())).cwiseAbs().maxCoeff()) <
          orthogonal_tolerance);
}

}  // namespace

TEST_CASE("a learned rotation is orthogonal, repeats itself, and lowers the error of correlated rows") {
  const std::size_t dim = 16, count = 3000;
  const auto rows = correlated_rows(count, dim, 1), others = correlated_rows(500, dim, 11), queries = normal_floats(50 * dim, 3);
  const Eigen::Map<const RowMatrix> matrix(rows.data(), static_cast<Eigen::Index>(count), static_cast<Eigen::Index>(dim));
  for (const std::size_t subspaces : {2, 4, 8}) {
    const RowMatrix rotation = learned_rotation(matrix, {dim, subspaces, 16}, 8, 7).matrix;
    require_orthogonal(rotation);
    CHECK(rotation == learned_rotation(matrix, {dim, subspaces, 16}, 8, 7).matrix);
  }
  FitSamples samples;
  samples.rows = {rows.data(), count, dim};
  const Errors plain = errors_of(trained(samples, {}, 4), others, queries);
  const auto rotated = trained(samples, {.rotation = Rotation::learned}, 4);
  REQUIRE(rotated->space() != nullptr);
  CHECK(rotated->space()->parts().mean.empty());
  CHECK(errors_of(rotated, others, queries).rows < 0.7 * plain.rows);
}

TEST_CASE("the more subspaces, the less fitted codes err on rows that they have not seen") {
  const std::size_t dim = 64, count = 2048;
  // Neighbours hang together, so that variances fall off slowly from axis to axis, as those of keys and values do.
  const auto drawn = [](std::size_t rows, std::uint64_t seed) {
    auto data = normal_floats(rows * dim, seed);
    for (std::size_t i = 0; i < data.size(); ++i) {
      if (i % dim != 0) data[i] = 0.9f * data[i - 1] + 0.4f * data[i];
    }
    return data;
  };
  const auto rows = drawn(count, 1), others = drawn(512, 11);
  FitSamples samples, unseen;
  samples.rows = {rows.data(), count, dim};
  unseen.rows = {others.data(), 512, dim};
  for (const std::size_t centroids : {16, 256}) {
    double last = 1e300;
    for (const std::size_t subspaces : {2, 4, 8, 16, 32}) {
      const FitOptions fit = {.centre = true, .rotation = Rotation::learned};
      const auto book = train_fitted(samples, fit, {dim, subspaces, centroids}).value();
      const CodeSpaceParts& parts = book.codebook->space()->parts();
      const Eigen::Map<const RowMatrix> forward(parts.forward.data(), dim, dim);
      const RowMatrix spaced = rows_through(forward, detail::turned_rows(unseen, parts));
      const RowMatrix left = spaced - decoded_rows(nearest_codes(spaced, *book.codebook), *book.codebook);
      const double error = static_cast<double>(left.squaredNorm());
      INFO(subspaces << " subspaces of " << centroids << " centroids: " << error << " after " << last);
      CHECK(error < 0.95 * last);
      last = error;
    }
  }
}

TEST_CASE("a dealt rotation is a permutation that keeps pairs together and evens out the energy of subspaces") {
  const std::size_t dim = 16, count = 500;
  auto rows = normal_floats(count * dim, 1);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] *= static_cast<float>(1 + i % dim);  // energy grows with the channel
  const Eigen::Map<const RowMatrix> matrix(rows.data(), static_cast<Eigen::Index>(count), static_cast<Eigen::Index>(dim));
  for (const Rope& rope : {Rope(), Rope::with_base(16, 100), Rope::with_base(16, 100, RopePairing::half_split),
                           Rope::with_base(8, 100, RopePairing::half_split)}) {
    const RowMatrix rotation = dealt_rotation(matrix, rope, 4);
    require_orthogonal(rotation);
    for (Eigen::Index i = 0; i < rotation.size(); ++i) REQUIRE((rotation.data()[i] == 0.0f || rotation.data()[i] == 1.0f));
    const auto place_of = [&](std::size_t channel) {
      Eigen::Index place = 0;
      rotation.col(static_cast<Eigen::Index>(channel)).maxCoeff(&place);
      return place;
    };
    for (std::size_t pair = 0; pair < rope.pairs(); ++pair) {
      const auto [a, b] = rope.elements(pair);
      CHECK(place_of(b) == place_of(a) + 1);
      CHECK(place_of(a) % 2 == 0);
    }
    const RowMatrix dealt = matrix * rotation.transpose();
    double least = 1e300, most = 0, least_before = 1e300, most_before = 0;
    for (Eigen::Index s = 0; s < 4; ++s) {
      const auto energy = static_cast<double>(dealt.middleCols(4 * s, 4).squaredNorm());
      const auto before = static_cast<double>(matrix.middleCols(4 * s, 4).squaredNorm());
      least = std::min(least, energy), most = std::max(most, energy);
      least_before = std::min(least_before, before), most_before = std::max(most_before, before);
    }
    CHECK(most / least < 3);
    CHECK(most_before / least_before > 10);
  }
  CHECK(dealt_rotation(matrix, Rope(), 16) == RowMatrix::Identity(16, 16));  // no room for pairs
}

TEST_CASE("the queries' metric lowers the error of scores at the price of that of rows") {
  const std::size_t dim = 16, count = 3000;
  const auto rows = normal_floats(count * dim, 1), others = normal_floats(500 * dim, 2);
  auto queries = normal_floats(count * dim, 3);
  for (std::size_t i = 0; i < queries.size(); ++i) queries[i] *= i % dim % 4 == 0 ? 5.0f : 0.2f;  // they read some channels only
  FitSamples samples;
  samples.rows = {rows.data(), count, dim};
  samples.queries = {queries.data(), count, dim};
  const Errors plain = errors_of(trained(samples, {}, 4), others, queries);
  const Errors weighted = errors_of(trained(samples, {.metric = true}, 4), others, queries);
  CHECK(weighted.scores < 0.5 * plain.scores);
  CHECK(weighted.rows > plain.rows);
  // The same through a given metric, as values have it.
  FitSamples values;
  values.rows = samples.rows;
  values.value_metric = RowMatrix::Identity(16, 16) * 0.04f;
  for (Eigen::Index d = 0; d < 16; d += 4) values.value_metric(d, d) = 25.0f;
  CHECK(errors_of(trained(values, {.metric = true}, 4), others, queries).scores < 0.5 * plain.scores);
}

TEST_CASE("runs and a mean before RoPE lower the error of keys that have one, by either pairing") {
  const std::size_t dim = 16, count = 3000;
  const auto queries = normal_floats(count * dim, 3);
  const auto positions = positions_to(count);
  for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
    for (const std::size_t rotary : {16, 8}) {
      INFO("half " << (pairing == RopePairing::half_split) << " rotary " << rotary);
      const Rope rope = Rope::with_base(rotary, 10000.0, pairing);
      const auto rows = turned_keys(count, dim, rope, 1), others = turned_keys(700, dim, rope, 2);
      FitSamples samples;
      samples.rows = {rows.data(), count, dim};
      samples.positions = positions;
      samples.queries = {queries.data(), count, dim};
      samples.rope = rope;
      const double plain = errors_of(trained(samples, {}, 4), others, queries).rows;
      const auto runs = trained(samples, {.run_tokens = 32}, 4);
      CHECK(runs->space()->parts().run_tokens == 32);
      CHECK(runs->space()->parts().rope.pairing() == pairing);
      CHECK_FALSE(runs->space()->has_term());
      CHECK(errors_of(runs, others, queries).rows < 0.8 * plain);
      const auto centred = trained(samples, {.run_tokens = 32, .centre = true}, 4);
      CHECK(centred->space()->has_term());
      const Errors best = errors_of(centred, others, queries);
      CHECK(best.rows < 0.3 * plain);
      // All together is still a space that rows come back from.
      const FitOptions all{.run_tokens = 64, .centre = true, .metric = true, .rotation = Rotation::learned};
      CHECK(errors_of(trained(samples, all, 4), others, queries).rows < 0.5 * plain);
      // The mean is the one before rotation: 3 · the drawn one.
      const auto mean = normal_floats(dim, 5);
      for (std::size_t d = 0; d < dim; ++d) {
        CHECK(std::fabs(static_cast<double>(centred->space()->parts().mean[d] - 3 * mean[d])) < 0.1);
      }
    }
  }
}

TEST_CASE("samples that lack what the options need are refused with the numbers") {
  const std::size_t dim = 16, count = 300;
  const auto rows = normal_floats(count * dim, 1), queries = normal_floats(2 * count * dim, 2);
  const auto positions = positions_to(count);
  FitSamples whole;
  whole.rows = {rows.data(), count, dim};
  whole.positions = positions;
  whole.queries = {queries.data(), 2 * count, dim};
  whole.group = 2;
  whole.rope = Rope::with_base(dim, 10000.0);
  const FitOptions everything{.run_tokens = 64, .centre = true, .metric = true, .rotation = Rotation::dealt};
  REQUIRE(train_fitted(whole, everything, {dim, 4, 16}));
  const auto refused = [&](const FitOptions& options, const auto& change, const std::string& text) {
    FitSamples samples = whole;
    change(samples);
    const auto result = train_fitted(samples, options, {dim, 4, 16});
    REQUIRE_FALSE(result);
    CHECK(result.error().code == Errc::invalid_parameter);
    INFO(result.error().message);
    CHECK(result.error().message.find(text) != std::string::npos);
  };
  const auto nothing = [](FitSamples&) {};
  refused(everything, [](FitSamples& s) { s.rope = Rope(); }, "runs of 64 tokens need the model's RoPE");
  refused(everything, [](FitSamples& s) { s.rope = Rope::with_base(18, 100); }, "RoPE turns 18 of 16 elements");
  refused(everything, [&](FitSamples& s) { s.positions = s.positions.first(299); }, "299 positions for 300 rows");
  refused(everything, [](FitSamples& s) { s.positions = {}; }, "0 positions for 300 rows");
  auto negative = positions;
  negative[7] = -3;
  refused(everything, [&](FitSamples& s) { s.positions = negative; }, "row 7 is at position -3");
  refused(everything, [&](FitSamples& s) { s.queries = {queries.data(), 599, dim}; },
          "599 queries of 16 elements for 300 rows of 16 in groups of 2");
  refused(everything, [&](FitSamples& s) { s.queries = {queries.data(), 600, 8}; }, "600 queries of 8 elements");
  refused(everything, [](FitSamples& s) { s.queries = {}; }, "a metric needs calibration queries");
  refused({.metric = true}, [](FitSamples& s) { s.value_metric = RowMatrix::Identity(8, 8); },
          "a metric of 8 × 8 for rows of 16");
  refused({.run_tokens = unlimited_tokens}, nothing, "runs of 18446744073709551615 tokens; choose at most 65536, or 0");
  refused({.run_tokens = 65600, .centre = true}, nothing, "runs of 65600 tokens; choose at most 65536, or 0");
  // What the plain trainer refuses is refused first.
  const auto few = train_fitted(whole, everything, {dim, 4, 512});
  REQUIRE_FALSE(few);
  CHECK(few.error().message.find("512 centroids per code; choose 16, 64 or 256") != std::string::npos);
}
