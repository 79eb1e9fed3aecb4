// Levels of single channels: the best ones where they are known, weights, and what lies far out.
#include <cmath>

#include "catch.hpp"
#include "pqkv/codec/rotated_levels.hpp"
#include "pqkv/train.hpp"
#include "support/data.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

std::vector<float> levels_of(const std::vector<float>& rows, std::size_t dim, std::size_t count, std::size_t channel,
                             const TrainOptions& options = {}) {
  const auto trained = train_codebook({rows.data(), rows.size() / dim, dim}, {dim, dim, count}, options);
  REQUIRE(trained);
  const float* first = trained->codebook->centroids(channel);
  return {first, first + count};
}

}  // namespace

TEST_CASE("levels of normal numbers are close to the best for a normal distribution") {
  const std::size_t dim = 3;
  auto rows = normal_floats(20000 * dim, 1);
  for (std::size_t i = 1; i < rows.size(); i += dim) rows[i] = 5 + 3 * rows[i];
  const auto check = [&](const auto& best) {
    for (const std::size_t channel : {0, 1}) {
      const auto levels = levels_of(rows, dim, best.size(), channel);
      for (std::size_t i = 0; i < best.size(); ++i) {
        const float expected = channel == 0 ? best[i] : 5 + 3 * best[i];
        // Without the last hundredth of the tails the outermost of 8 levels lies 0.25 further in.
        CHECK(std::fabs(levels[i] - expected) < (channel == 0 ? 0.3f : 0.9f));
      }
    }
  };
  check(normal_levels<2>());
  check(normal_levels<3>());
}

TEST_CASE("levels find what is there, whatever the seed, and weights count") {
  std::vector<float> rows(400);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 4) * 10;
  CHECK(levels_of(rows, 1, 4, 0) == std::vector<float>{0, 10, 20, 30});
  TrainOptions options;
  std::vector<float> weights(rows.size(), 1.0f);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i] = i % 4 == 3 && i % 8 < 4 ? 31.0f : rows[i];
    if (rows[i] == 31.0f) weights[i] = 3;
  }
  options.weights = weights;
  const auto levels = levels_of(rows, 1, 4, 0, options);
  CHECK(std::fabs(levels[3] - 30.75f) < 0.02f);  // a cluster with a spread of its own draws them apart a little
}

TEST_CASE("numbers far out do not pull at levels") {
  auto rows = normal_floats(10000, 2);
  const auto before = levels_of(rows, 1, 4, 0);
  for (std::size_t i = 0; i < 40; ++i) rows[i * 250] = i % 2 == 0 ? 1e4f : -1e4f;
  const auto after = levels_of(rows, 1, 4, 0);
  for (std::size_t i = 0; i < 4; ++i) CHECK(std::fabs(after[i] - before[i]) < 0.05f);
}

TEST_CASE("a channel of one number has levels, and too few rows are refused") {
  const std::vector<float> flat(64, 3.0f);
  CHECK(levels_of(flat, 1, 8, 0) == std::vector<float>(8, 3.0f));
  CHECK_FALSE(train_codebook({flat.data(), 3, 1}, {1, 1, 4}));
  CHECK_FALSE(train_codebook({flat.data(), 32, 2}, {2, 1, 4}));
}
