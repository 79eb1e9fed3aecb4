// Rotation and levels of a normal distribution: what makes the levels right, what the rotation does, and the error promised.
#include <cmath>

#include "catch.hpp"
#include "pqkv/pqkv.hpp"
#include "support/data.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

double density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * 3.14159265358979323846); }

/// ∫ f(x)·density(x) dx by Simpson's rule.
template <class F>
double integral(double from, double to, const F& f) {
  const int steps = 2000;
  const double width = (to - from) / steps;
  double sum = 0;
  for (int i = 0; i <= steps; ++i) {
    const double x = from + i * width;
    sum += f(x) * density(x) * (i == 0 || i == steps ? 1 : i % 2 == 1 ? 4 : 2);
  }
  return sum * width / 3;
}

/// Each level is the mean of what is nearest to it, which makes levels best. Returns their mean squared error.
template <std::size_t bits>
double check_levels() {
  const auto levels = normal_levels<bits>();
  double error = 0;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const double level = levels[i];
    const double from = i == 0 ? -12 : (level + static_cast<double>(levels[i - 1])) / 2;
    const double to = i + 1 == levels.size() ? 12 : (level + static_cast<double>(levels[i + 1])) / 2;
    const double mass = integral(from, to, [](double) { return 1.0; });
    const double mean = integral(from, to, [](double x) { return x; }) / mass;
    CHECK(std::fabs(mean - level) < 1e-6);
    error += integral(from, to, [&](double x) { return (x - level) * (x - level); });
  }
  return error;
}

/// Error over energy of rows that have one strong element each.
template <class Keys>
double relative_error(std::size_t dim, std::uint64_t seed) {
  const auto policy = Keys::make(dim, seed).value();
  double error = 0, energy = 0;
  for (std::size_t b = 0; b < 8; ++b) {
    auto rows = normal_floats(32 * dim, 10 + b);
    for (std::size_t t = 0; t < 32; ++t) rows[t * dim + (b * 32 + t) * 7 % dim] *= 10;
    std::vector<std::byte> block(policy.block_bytes());
    policy.encode({rows.data(), 32, dim}, 0, block.data());
    std::vector<float> row(dim);
    for (std::size_t t = 0; t < 32; ++t) {
      policy.decode(block.data(), t, 0, row.data());
      for (std::size_t d = 0; d < dim; ++d) {
        const double x = rows[t * dim + d], difference = x - static_cast<double>(row[d]);
        error += difference * difference;
        energy += x * x;
      }
    }
  }
  return error / energy;
}

}  // namespace

TEST_CASE("levels of a normal distribution are the means of what they stand for, with the least errors") {
  CHECK(std::fabs(check_levels<2>() - 0.117482) < 1e-6);
  CHECK(std::fabs(check_levels<3>() - 0.034548) < 1e-6);
  CHECK(std::fabs(check_levels<4>() - 0.009501) < 1e-6);
}

TEST_CASE("a Hadamard rotation keeps lengths and products, turns back, and spreads every coordinate") {
  for (const std::size_t dim : {1, 2, 16, 48, 64, 80, 96, 128, 576, 1024}) {
    INFO("dim " << dim);
    const HadamardRotation rotation(dim, 3);
    const auto a = normal_floats(dim, 1), b = normal_floats(dim, 2);
    auto turned_a = a, turned_b = b;
    rotation.turn(turned_a.data());
    rotation.turn(turned_b.data());
    const double scale = static_cast<double>(dim) * 1e-6;
    CHECK(std::fabs(dot(a.data(), b.data(), dim) - dot(turned_a.data(), turned_b.data(), dim)) <= 10 * scale);
    CHECK(std::fabs(dot(a.data(), a.data(), dim) - dot(turned_a.data(), turned_a.data(), dim)) <= 10 * scale);
    rotation.turn_back(turned_a.data());
    for (std::size_t d = 0; d < dim; ++d) REQUIRE(std::fabs(turned_a[d] - a[d]) <= 1e-5f);
    if (dim < 16) continue;
    std::vector<float> one(dim, 0.0f);
    one[5] = 1;
    rotation.turn(one.data());
    float largest = 0;
    for (const float x : one) largest = std::fmax(largest, std::fabs(x));
    CHECK(static_cast<double>(largest) <= 5.0 / std::sqrt(static_cast<double>(dim)));
  }
  auto first = normal_floats(64, 1), second = first;
  HadamardRotation(64, 1).turn(first.data());
  HadamardRotation(64, 2).turn(second.data());
  CHECK(first != second);
}

TEST_CASE("the error of rotated levels is that of the levels on a normal distribution, whatever the rows") {
  // A tenth more at most, or less: rows of this few coordinates have lighter tails.
  for (const std::size_t dim : {64, 80, 96, 128}) {
    for (const std::uint64_t seed : {1, 9}) {
      INFO("dim " << dim << " seed " << seed);
      const auto near = [](double error, double of_levels) {
        const double expected = of_levels / (1 - of_levels);  // rows are made longer so that their products do not shrink
        return error < 1.1 * expected && error > 0.75 * expected;
      };
      CHECK(near(relative_error<Turbo2Keys>(dim, seed), 0.117482));
      CHECK(near(relative_error<Turbo3Keys>(dim, seed), 0.034548));
      CHECK(near(relative_error<Turbo4Keys>(dim, seed), 0.009501));
    }
  }
}

TEST_CASE("a row's product with what it is decoded as is its squared length") {
  const std::size_t dim = 80;
  const auto rows = normal_floats(32 * dim, 4);
  const auto policy = Turbo2Values::make(dim).value();
  std::vector<std::byte> block(policy.block_bytes());
  policy.encode({rows.data(), 32, dim}, block.data());
  std::vector<float> row(dim);
  for (std::size_t t = 0; t < 32; ++t) {
    policy.decode(block.data(), t, row.data());
    const double square = dot(rows.data() + t * dim, rows.data() + t * dim, dim);
    REQUIRE(std::fabs(dot(row.data(), rows.data() + t * dim, dim) / square - 1) < 1e-3);  // the factor is f16
  }
}

TEST_CASE("rotated levels stay finite for every finite row, and name their seed") {
  const std::size_t dim = 64;
  std::vector<float> rows(32 * dim, 0.0f);
  for (std::size_t d = 0; d < dim; ++d) rows[d] = d % 2 == 0 ? 3e38f : -3e38f;
  rows[dim] = 1e-44f;
  const auto policy = Turbo4Values::make(dim, 7).value();
  std::vector<std::byte> block(policy.block_bytes());
  policy.encode({rows.data(), 32, dim}, block.data());
  std::vector<float> row(dim);
  for (std::size_t t = 0; t < 32; ++t) {
    policy.decode(block.data(), t, row.data());
    for (const float x : row) REQUIRE(std::isfinite(x));
  }
  for (const float x : row) CHECK(x == 0.0f);  // zeros stay zeros
  CHECK(policy.describe() == "turbo4:seed=7");
  CHECK(Turbo4Values::make(dim).value().describe() == "turbo4");
  CHECK(policy.codebook_id() != Turbo4Values::make(dim).value().codebook_id());
  CHECK_FALSE(Turbo2Keys::make(24));
  CHECK_FALSE(Turbo2Keys::make(2048));
}
