// Importance by attention, the mass correction, and the choice of a rotation: against definitions in double.
#include <algorithm>
#include <cmath>

#include "catch.hpp"
#include "pqkv/keys.hpp"
#include "pqkv/train.hpp"
#include "pqkv/train/rotation.hpp"
#include "support/data.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr double weight_tolerance = 1e-4;  // of a float softmax over a hundred keys
// Tables of 16-bit planes (pq8 where kernels have them) and of bytes (pq6, pq4): half a step per subspace.
constexpr double plane_tolerance = 5e-3;
constexpr double byte_tolerance = 0.5;

std::vector<std::int64_t> two_texts(std::size_t first, std::size_t second) {
  std::vector<std::int64_t> positions;
  for (std::size_t t = 0; t < first; ++t) positions.push_back(static_cast<std::int64_t>(t));
  for (std::size_t t = 0; t < second; ++t) positions.push_back(static_cast<std::int64_t>(t));
  return positions;
}

}  // namespace

TEST_CASE("importance is the root of the squared attention that a row receives in its own text") {
  const std::size_t dim = 16, group = 2, count = 150;
  const auto positions = two_texts(100, 50);
  const auto queries = normal_floats(count * group * dim, 1), keys = normal_floats(count * dim, 2);
  std::vector<double> expected(count);
  for (std::size_t t = 0; t < count; ++t) {
    const std::size_t begin = t < 100 ? 0 : 100;
    for (std::size_t q = 0; q < group; ++q) {
      std::vector<double> weights;
      double sum = 0;
      for (std::size_t s = begin; s <= t; ++s) {
        weights.push_back(std::exp(dot(queries.data() + (t * group + q) * dim, keys.data() + s * dim, dim) / 4));
        sum += weights.back();
      }
      for (std::size_t s = begin; s <= t; ++s) expected[s] += std::pow(weights[s - begin] / sum, 2);
    }
  }
  double mean = 0;
  for (double& x : expected) mean += (x = std::sqrt(x)) / static_cast<double>(count);
  const auto weights = attention_importance({queries.data(), count * group, dim}, group, {keys.data(), count, dim}, positions).value();
  REQUIRE(weights.size() == count);
  for (std::size_t t = 0; t < count; ++t) {
    CHECK(std::fabs(static_cast<double>(weights[t]) - (expected[t] / mean + 0.01) / 1.01) < weight_tolerance * (1 + expected[t] / mean));
  }
  std::vector<float> apart(count * 20);  // keys 20 floats apart
  for (std::size_t t = 0; t < count; ++t) std::copy_n(keys.data() + t * dim, dim, apart.data() + t * 20);
  CHECK(attention_importance({queries.data(), count * group, dim}, group, {apart.data(), count, dim, 20}, positions).value() == weights);
  const auto bad = attention_importance({queries.data(), 20, dim}, group, {keys.data(), count, dim}, positions);
  REQUIRE_FALSE(bad.has_value());
  CHECK(bad.error().message.find("20 queries of dim 16 in groups of 2 and 150 positions for 150 keys of dim 16") != std::string::npos);
}

TEST_CASE("training by importance serves the rows that count") {
  // Two clouds; nine rows in ten lie in one, all weight lies on the other.
  const std::size_t dim = 4, count = 2000;
  auto rows = normal_floats(count * dim, 3);
  std::vector<float> importance(count);
  for (std::size_t r = 0; r < count; ++r) {
    importance[r] = r % 10 == 0 ? 10.0f : 0.001f;
    for (std::size_t d = 0; d < dim; ++d) rows[r * dim + d] += r % 10 == 0 ? 20.0f : 0.0f;
  }
  FitSamples samples;
  samples.rows = {rows.data(), count, dim};
  samples.importance = importance;
  const CodebookShape shape{dim, 1, 16};
  const auto error_on_important = [&](bool weighted) {
    FitOptions options;
    options.centre = true;
    options.importance = weighted;
    const auto codebook = train_fitted(samples, options, shape).value().codebook;
    const auto keys = SpacedKeys<Pq4Keys>::make(Pq4Keys::make(codebook).value(), codebook->space()).value();
    std::vector<std::byte> block(keys.block_bytes());
    double error = 0;
    for (std::size_t r = 0; r < count; r += 10) {
      std::vector<float> row(dim);
      keys.encode({rows.data() + r * dim, 1, dim}, {}, block.data());
      keys.decode(block.data(), 0, {}, row.data());
      for (std::size_t d = 0; d < dim; ++d) error += std::pow(static_cast<double>(row[d] - rows[r * dim + d]), 2);
    }
    return error;
  };
  CHECK(error_on_important(true) < 0.7 * error_on_important(false));
  FitOptions options;
  options.importance = true;
  samples.importance = std::span(importance).first(7);
  const auto bad = train_fitted(samples, options, shape);
  REQUIRE_FALSE(bad.has_value());
  CHECK(bad.error().message == "7 weights of importance for 2000 rows");
}

TEST_CASE("gains enter the tables of every PQ key format, for every group size") {
  const std::size_t dim = 32, subspaces = 4, width = 8;
  const auto check = [&](const auto& make, std::size_t centroids, double tolerance) {
    const auto centres = normal_floats(dim * centroids, 4);
    std::vector<float> gains = normal_floats(subspaces * centroids, 5);
    for (float& gain : gains) gain = std::fabs(gain);
    const auto codebook = Codebook::make({dim, subspaces, centroids}, centres, nullptr, gains).value();
    const auto policy = make(codebook);
    const auto rows = normal_floats(32 * dim, 6);
    std::vector<std::byte> block(policy.block_bytes());
    policy.encode({rows.data(), 32, dim}, {}, block.data());
    for (const std::size_t group : {1, 3, 4, 6, 16}) {
      const auto queries = normal_floats(group * dim, 7);
      typename std::remove_cvref_t<decltype(policy)>::QueryTable table;
      policy.prepare(table, {queries.data(), group, dim});
      policy.turn(table, 0);
      std::vector<float> scores(group * 32), row(dim);
      policy.score(table, {block.data(), 32}, scores.data(), 32);
      for (std::size_t t = 0; t < 32; ++t) {
        policy.decode(block.data(), t, {}, row.data());
        for (std::size_t q = 0; q < group; ++q) {
          const float* query = queries.data() + q * dim;
          double expected = dot(query, row.data(), dim);
          for (std::size_t s = 0; s < subspaces; ++s) {
            std::size_t code = 0;
            while (centres[s * width * centroids + code] != row[s * width]) ++code;
            expected += static_cast<double>(gains[s * centroids + code]) * dot(query + s * width, query + s * width, width);
          }
          REQUIRE(std::fabs(static_cast<double>(scores[q * 32 + t]) - expected) < tolerance);
        }
      }
    }
  };
  check([](auto book) { return Pq8Keys::make(std::move(book)).value(); }, 256, plane_tolerance);
  check([](auto book) { return Pq6Keys::make(std::move(book)).value(); }, 64, byte_tolerance);
  check([](auto book) { return Pq4Keys::make(std::move(book)).value(); }, 16, byte_tolerance);
  CHECK_FALSE(Codebook::make({dim, subspaces, 16}, normal_floats(dim * 16, 1), nullptr, std::vector<float>(3)).has_value());
  CHECK_FALSE(Codebook::make({dim, subspaces, 16}, normal_floats(dim * 16, 1), nullptr,
                             std::vector<float>(subspaces * 16, NAN)).has_value());
}

TEST_CASE("the mass correction is half the spread of each cloud, times a factor that attention chose") {
  const std::size_t dim = 16, text = 1024, count = 4 * text;  // a whole text to judge on, behind tokens of many others
  // Gaussian clouds, for which the correction is exact; queries that feel it.
  const auto keys = normal_floats(count * dim, 8);
  auto queries = normal_floats(count * dim, 9);
  for (float& x : queries) x *= 3;
  std::vector<std::int64_t> positions(count);
  for (std::size_t t = 0; t < text; ++t) positions[count - text + t] = static_cast<std::int64_t>(t);
  FitSamples samples;
  samples.rows = {keys.data(), count, dim};
  samples.queries = {queries.data(), count, dim};
  samples.positions = positions;
  FitOptions options;
  options.mass = true;
  const CodebookShape shape{dim, 2, 16};
  const auto fitted = train_fitted(samples, options, shape).value();
  CHECK(fitted.fit.mass_factor >= 0.5f);
  REQUIRE(fitted.codebook->gains(0) != nullptr);
  // The spread about a centroid, by definition, over rows that it serves.
  for (std::size_t s = 0; s < 2; ++s) {
    std::vector<double> squares(16), counts(16);
    double all = 0;
    for (std::size_t r = 0; r < count; ++r) {
      std::size_t best = 0;
      double least = 1e300;
      for (std::size_t c = 0; c < 16; ++c) {
        double distance = 0;
        for (std::size_t d = 0; d < 8; ++d) {
          distance += std::pow(static_cast<double>(keys[r * dim + s * 8 + d] - fitted.codebook->centroids(s)[d * 16 + c]), 2);
        }
        if (distance < least) least = distance, best = c;
      }
      squares[best] += least, counts[best] += 1, all += least;
    }
    for (std::size_t c = 0; c < 16; ++c) {
      const double spread = (squares[c] + 8 * all / static_cast<double>(count)) / (counts[c] + 8) / 8;
      const double gain = static_cast<double>(fitted.codebook->gains(s)[c] / fitted.fit.mass_factor);
      CHECK(std::fabs(gain - spread / 2) < 1e-3 * spread);
    }
  }
  // Texts are no judges of centroids that they made themselves.
  FitSamples own = samples;
  own.rows = {keys.data() + (count - text) * dim, text, dim};
  own.queries = {queries.data() + (count - text) * dim, text, dim};
  own.positions = std::span(positions).last(text);
  const auto alone = train_fitted(own, options, shape).value();
  CHECK(alone.fit.mass_factor == 0);
  CHECK(alone.codebook->gains(0) == nullptr);
  samples.queries = {};
  const auto bad = train_fitted(samples, options, shape);
  REQUIRE_FALSE(bad.has_value());
  CHECK(bad.error().message.find("a mass correction needs calibration queries") == 0);
}

TEST_CASE("the automatic rotation is the one that errs least on rows held back, and says so") {
  // Two strong directions that the identity leaves in one subspace.
  const std::size_t dim = 16, count = 4096;
  auto rows = normal_floats(count * dim, 10);
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t d = 0; d < 4; ++d) rows[r * dim + d] *= 20;
  }
  FitSamples samples;
  samples.rows = {rows.data(), count, dim};
  FitOptions options;
  options.rotation = Rotation::automatic;
  const auto fitted = train_fitted(samples, options, {dim, 4, 16}).value();
  const auto& tried = fitted.fit.rotation.tried;
  REQUIRE(tried.size() == 8);  // none, dealt, balanced, four sign patterns, learned
  double least = 1e300;
  for (const auto& [rotation, error] : tried) least = std::min(least, error);
  const auto of = [&](Rotation wanted) {
    return std::find_if(tried.begin(), tried.end(), [&](const auto& t) { return t.first == wanted; })->second;
  };
  CHECK(of(fitted.fit.rotation.chosen) >= least);
  CHECK(fitted.fit.rotation.chosen != Rotation::none);
  CHECK(of(Rotation::none) > 1.5 * least);
  CHECK(of(Rotation::dealt) < of(Rotation::none));
  // A Hadamard matrix is orthogonal, also where the dim is no power of two.
  Random random(1);
  for (const std::size_t size : {16, 48, 80}) {
    const RowMatrix matrix = hadamard_rotation(size, random);
    CHECK((matrix * matrix.transpose() - RowMatrix::Identity(matrix.rows(), matrix.rows())).cwiseAbs().maxCoeff() < 1e-5f);
  }
}
