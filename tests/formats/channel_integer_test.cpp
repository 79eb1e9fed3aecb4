// Keys with a scale per channel and block: the error of each channel, and what outliers in one channel do to others.
#include <cmath>

#include "catch.hpp"
#include "pqkv/pqkv.hpp"
#include "support/data.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

/// Scales and least elements are f16: half a unit in the last of 11 places, at most `most` times in a scale.
constexpr double f16_rounding = 1.0 / 2048;

template <class Keys>
void check_error(std::size_t dim, std::size_t count, double most) {
  auto rows = normal_floats(32 * dim, 1);
  for (std::size_t t = 0; t < 32; ++t) {
    rows[t * dim] *= 1000;                            // a channel of another order
    rows[t * dim + 1] = 0.25f;                        // a flat one, exact in f16
    rows[t * dim + 2] = 100 + rows[t * dim + 2] / 8;  // one far from zero
  }
  const auto policy = Keys::make(dim).value();
  std::vector<std::byte> block(policy.block_bytes());
  policy.encode({rows.data(), count, dim}, 0, block.data());
  std::vector<float> row(dim);
  for (std::size_t c = 0; c < dim; ++c) {
    double least = INFINITY, largest = -INFINITY;
    for (std::size_t t = 0; t < count; ++t) {
      least = std::fmin(least, static_cast<double>(rows[t * dim + c]));
      largest = std::fmax(largest, static_cast<double>(rows[t * dim + c]));
    }
    const double magnitude = std::fmax(std::fabs(least), std::fabs(largest));
    const double bound = (largest - least) / most / 2 + 3 * f16_rounding * magnitude;
    for (std::size_t t = 0; t < count; ++t) {
      policy.decode(block.data(), t, 0, row.data());
      REQUIRE(std::fabs(static_cast<double>(row[c] - rows[t * dim + c])) <= bound);
    }
  }
  CHECK(row[1] == 0.25f);
}

}  // namespace

TEST_CASE("per-channel keys err by at most half a step of their own channel") {
  for (const std::size_t dim : {3, 48, 64, 128, 576}) {
    for (const std::size_t count : {32, 1, 5}) {
      INFO("dim " << dim << " rows " << count);
      check_error<Kivi8Keys>(dim, count, 255);
      check_error<Kivi4Keys>(dim, count, 15);
      check_error<Kivi2Keys>(dim, count, 3);
    }
  }
}

TEST_CASE("per-channel keys beyond f16 saturate to finite numbers") {
  const std::size_t dim = 16;
  std::vector<float> rows(32 * dim, 0.0f);
  rows[0] = 3e38f, rows[1] = -3e38f, rows[2] = 70000.0f, rows[dim + 2] = -70000.0f;
  const auto policy = Kivi4Keys::make(dim).value();
  std::vector<std::byte> block(policy.block_bytes());
  policy.encode({rows.data(), 32, dim}, 0, block.data());
  std::vector<float> row(dim);
  for (std::size_t t = 0; t < 32; ++t) {
    policy.decode(block.data(), t, 0, row.data());
    for (const float x : row) REQUIRE(std::isfinite(x));
  }
  policy.decode(block.data(), 0, 0, row.data());
  CHECK(row[0] > 65000.0f);
  CHECK(row[1] == -65504.0f);
}

TEST_CASE("per-channel keys have bits + 1 bits per element") {
  CHECK(Kivi2Keys::make(64).value().block_bytes() * 8 == 64 * 32 * 3);
  CHECK(Kivi4Keys::make(64).value().block_bytes() * 8 == 64 * 32 * 5);
  CHECK_FALSE(Kivi4Keys::make(0));
  CHECK_FALSE(Kivi4Keys::make(1025));
}
