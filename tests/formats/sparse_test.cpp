// What formats keep apart from their codes: outliers of a block, fine channels.
#include <cmath>
#include <cstring>
#include <set>

#include "catch.hpp"
#include "pqkv/pqkv.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

/// Half a unit in the last of 11 places of an f16.
constexpr double f16_rounding = 1.0 / 2048;

/// Levels -1.5, -0.5, 0.5, 1.5 for every channel.
std::shared_ptr<const Codebook> plain_levels(std::size_t dim) {
  std::vector<float> levels(dim * 4);
  for (std::size_t i = 0; i < levels.size(); ++i) levels[i] = static_cast<float>(i % 4) - 1.5f;
  return Codebook::make({dim, dim, 4}, std::move(levels)).value();
}

}  // namespace

TEST_CASE("channels are rounded to the nearest of their own levels") {
  const std::size_t dim = 48;
  const auto codebook = random_codebook(dim, dim, 8);
  const auto policy = Nuq3Keys::make(codebook).value();
  CHECK(policy.block_bytes() * 8 == dim * 32 * 3);
  const auto rows = normal_floats(32 * dim, 1);
  std::vector<std::byte> block(policy.block_bytes());
  policy.encode({rows.data(), 32, dim}, 0, block.data());
  std::vector<float> row(dim);
  for (std::size_t t = 0; t < 32; ++t) {
    policy.decode(block.data(), t, 0, row.data());
    for (std::size_t c = 0; c < dim; ++c) {
      float least = INFINITY;
      for (std::size_t i = 0; i < 8; ++i) least = std::fmin(least, std::fabs(rows[t * dim + c] - codebook->centroids(c)[i]));
      REQUIRE(std::fabs(rows[t * dim + c] - row[c]) == least);
    }
  }
  CHECK_FALSE(Nuq2Keys::make(codebook));
  CHECK_FALSE(Nuq4Values::make(random_codebook(64, 32, 16)));
  CHECK_FALSE(Codebook::make({64, 32, 4}, std::vector<float>(64 * 4)));
}

TEST_CASE("a block's outliers come back, and nothing else changes") {
  const std::size_t dim = 64;
  auto rows = normal_floats(32 * dim, 2);
  std::set<std::size_t> places;
  Random random(3);
  while (places.size() < 20) places.insert(random.below(32 * dim));  // 1 % of 2048
  for (const std::size_t place : places) rows[place] = (place % 2 == 0 ? 30.0f : -30.0f) + rows[place];
  const auto inner = Nuq2Keys::make(plain_levels(dim)).value();
  const auto policy = SparseKeys<Nuq2Keys>::make(inner).value();
  REQUIRE(policy.block_bytes() == inner.block_bytes() + 20 * 4);
  std::vector<std::byte> block(policy.block_bytes()), plain(inner.block_bytes());
  policy.encode({rows.data(), 32, dim}, 0, block.data());
  inner.encode({rows.data(), 32, dim}, 0, plain.data());
  CHECK(std::memcmp(block.data(), plain.data(), plain.size()) == 0);
  std::vector<float> row(dim), without(dim);
  for (std::size_t t = 0; t < 32; ++t) {
    policy.decode(block.data(), t, 0, row.data());
    inner.decode(plain.data(), t, 0, without.data());
    for (std::size_t c = 0; c < dim; ++c) {
      if (places.count(t * dim + c) != 0) {
        REQUIRE(std::fabs(static_cast<double>(row[c] - rows[t * dim + c])) <= 35 * f16_rounding);
      } else {
        REQUIRE(row[c] == without[c]);
      }
    }
  }
}

TEST_CASE("outliers are the elements that the format errs in most, and few rows leave no slot to chance") {
  const std::size_t dim = 16;
  const auto inner = Int2Values::make(dim, 0).value();
  const auto policy = SparseValues<Int2Values>::make(inner, 5).value();
  const auto rows = normal_floats(32 * dim, 4);
  for (const std::size_t count : {32, 1}) {
    std::vector<std::byte> block(policy.block_bytes(), std::byte{0xee});
    policy.encode({rows.data(), count, dim}, block.data());
    std::vector<double> errors, left;
    std::vector<float> row(dim), without(dim);
    for (std::size_t t = 0; t < count; ++t) {
      policy.decode(block.data(), t, row.data());
      inner.decode(block.data(), t, without.data());
      for (std::size_t c = 0; c < dim; ++c) {
        errors.push_back(std::fabs(static_cast<double>(without[c] - rows[t * dim + c])));
        left.push_back(std::fabs(static_cast<double>(row[c] - rows[t * dim + c])));
      }
    }
    std::sort(errors.rbegin(), errors.rend());
    const double largest_left = *std::max_element(left.begin(), left.end());
    const std::size_t slots = 26;  // 5 % of 512, to the nearest
    CHECK(largest_left <= (errors.size() > slots ? errors[slots] : errors[0] * f16_rounding) + 1e-7);
  }
  CHECK_FALSE(SparseValues<Int2Values>::make(inner, 0));
  CHECK_FALSE(SparseValues<Int2Values>::make(inner, 6));
}

TEST_CASE("fine channels are f16 and take their range from no other") {
  const std::size_t dim = 64;
  auto rows = normal_floats(32 * dim, 5);
  for (std::size_t t = 0; t < 32; ++t) rows[t * dim + 9] *= 100, rows[t * dim + 40] += 50;
  const auto inner = Int4Values::make(dim, 32).value();
  const auto policy = MixedValues<Int4Values>::make(inner, {9, 40}).value();
  CHECK(policy.block_bytes() == inner.block_bytes() + 2 * 64);
  std::vector<std::byte> block(policy.block_bytes());
  policy.encode({rows.data(), 32, dim}, block.data());
  std::vector<float> row(dim);
  for (std::size_t t = 0; t < 32; ++t) {
    policy.decode(block.data(), t, row.data());
    for (std::size_t c = 0; c < dim; ++c) {
      const double x = rows[t * dim + c], error = std::fabs(static_cast<double>(row[c]) - x);
      if (c == 9 || c == 40) {
        REQUIRE(error <= std::fabs(x) * f16_rounding + 1e-6);
      } else {
        REQUIRE(error <= 8.0 / 15 / 2 * 1.02);  // normal numbers in ±4: no trace of the fine channels' range
      }
    }
  }
}

TEST_CASE("fine channels are the widest, and need to be fewer than all") {
  std::vector<float> levels(16 * 4, 0.0f);
  for (std::size_t c = 0; c < 16; ++c) levels[c * 4] = -1, levels[c * 4 + 3] = c == 11 ? 9.0f : c == 2 ? 7.0f : 1.0f;
  const auto codebook = Codebook::make({16, 16, 4}, std::move(levels)).value();
  CHECK(widest_channels(*codebook, 2) == std::vector<std::uint16_t>{2, 11});
  CHECK(widest_channels(*codebook, 3) == std::vector<std::uint16_t>{0, 2, 11});
  const auto make = [](std::vector<std::uint16_t> channels) {
    return MixedValues<Int8Values>::make(Int8Values::make(16, 0).value(), std::move(channels)).has_value();
  };
  CHECK(make({0, 15}));
  CHECK_FALSE(make({}));
  CHECK_FALSE(make({16}));
  CHECK_FALSE(make({3, 3}));
  CHECK_FALSE(make({4, 3}));
  CHECK_FALSE(make({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}));
}
