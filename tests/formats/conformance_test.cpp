// What every key and value format promises, whatever it is.
#include <cstring>

#include "catch.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

// Scores and sums are float sums of up to 256 products of order 1. Tables of pq4 and pq6 are 8-bit: scale/2 per subspace.
constexpr double float_tolerance = 2e-4;
constexpr double table_tolerance = 0.03;

/// A gain multiplies what scores of shapes err: rows behind a mean are up to twice as long as sums of random centroids.
double gain_tolerance(const AnyKeys& policy) { return policy.describe().find(":gain=1") == std::string::npos ? 1 : 2; }

double score_tolerance(const AnyKeys& policy, std::size_t dim) {
  return (has_byte_tables(policy) ? table_tolerance : float_tolerance) * gain_tolerance(policy) *
         std::sqrt(static_cast<double>(dim)) * 4;
}

/// int4 and int2 multiply by weights of 8 bits: 64 tokens' roundings of weight/510 at 1/64, times half of the range of
/// values (about 4), would be 0.03 if all had one sign.
constexpr double byte_weights_tolerance = 1e-3;

double sum_tolerance(const AnyValues& policy) {
  const bool bytes = policy.describe().starts_with("int4") || policy.describe().starts_with("int2");
  return bytes ? byte_weights_tolerance : float_tolerance;
}

}  // namespace

TEST_CASE("a key format scores what it says the keys were") {
  for (const std::size_t dim : {48, 64, 80, 96, 128, 256}) {
    for (const AnyKeys& policy : key_policies(dim)) {
      INFO(policy.describe() << " dim " << dim << " on " << isa::best().name);
      const auto rows = normal_floats(64 * dim, 1);
      std::vector<std::byte> blocks(2 * policy.block_bytes(), std::byte{0xee});
      policy.encode({rows.data(), 32, dim}, 0, blocks.data());
      policy.encode({rows.data() + 32 * dim, 32, dim}, {0, 32}, blocks.data() + policy.block_bytes());
      for (const std::size_t group : {1, 2, 3, 4, 5, 7, 16}) {
        const auto queries = normal_floats(group * dim, 2);
        AnyKeys::QueryTable table;
        policy.prepare(table, {queries.data(), group, dim});
        policy.turn(table, 0);
        const std::size_t stride = 70;
        std::vector<float> scores(group * stride, -7.0f);
        policy.score(table, {blocks.data(), 64}, scores.data(), stride);
        std::vector<float> row(dim);
        for (std::size_t t = 0; t < 64; ++t) {
          policy.decode(blocks.data() + t / 32 * policy.block_bytes(), t % 32, {0, t / 32 * 32}, row.data());
          for (std::size_t q = 0; q < group; ++q) {
            const double expected = dot(queries.data() + q * dim, row.data(), dim);
            REQUIRE(std::fabs(static_cast<double>(scores[q * stride + t]) - expected) <= score_tolerance(policy, dim));
          }
        }
        for (std::size_t q = 0; q < group; ++q) {
          for (std::size_t t = 64; t < stride; ++t) REQUIRE(scores[q * stride + t] == -7.0f);
        }
      }
    }
  }
}

TEST_CASE("a key format scores what it says the keys were, wherever their run begins and a span in it") {
  for (const std::size_t dim : {64, 80}) {
    for (const AnyKeys& policy : key_policies(dim)) {
      REQUIRE(policy.run_tokens() >= 64);
      const auto rows = normal_floats(64 * dim, 1);
      const std::size_t group = 3, stride = 64;
      const auto queries = normal_floats(group * dim, 2);
      AnyKeys::QueryTable table;
      policy.prepare(table, {queries.data(), group, dim});
      std::vector<std::byte> at_first;
      std::vector<float> first_scores;
      for (const std::int64_t origin : {0, 5, 1000, 200000, -70, 0}) {
        INFO(policy.describe() << " dim " << dim << " origin " << origin << " on " << isa::best().name);
        std::vector<std::byte> blocks(2 * policy.block_bytes());
        policy.encode({rows.data(), 32, dim}, {origin, 0}, blocks.data());
        policy.encode({rows.data() + 32 * dim, 32, dim}, {origin, 32}, blocks.data() + policy.block_bytes());
        policy.turn(table, origin);
        std::vector<float> scores(group * stride), again(group * stride);
        policy.score(table, {blocks.data(), 64}, scores.data(), stride);
        std::vector<float> row(dim);
        for (std::size_t t = 0; t < 64; ++t) {
          policy.decode(blocks.data() + t / 32 * policy.block_bytes(), t % 32, {origin, t / 32 * 32}, row.data());
          for (std::size_t q = 0; q < group; ++q) {
            const double expected = dot(queries.data() + q * dim, row.data(), dim);
            REQUIRE(std::fabs(static_cast<double>(scores[q * stride + t]) - expected) <= score_tolerance(policy, dim));
          }
        }
        // A span that begins and ends inside the run: the second block's first 19 tokens.
        policy.score(table, {blocks.data() + policy.block_bytes(), 19, 32}, again.data(), stride);
        for (std::size_t q = 0; q < group; ++q) {
          for (std::size_t t = 0; t < 19; ++t) {
            const double difference = static_cast<double>(again[q * stride + t] - scores[q * stride + 32 + t]);
            REQUIRE(std::fabs(difference) <= float_tolerance);
          }
        }
        // Turning forth and back leaves nothing behind.
        if (first_scores.empty()) first_scores = scores, at_first = blocks;
        if (origin == 0) {
          REQUIRE(blocks == at_first);
          REQUIRE(scores == first_scores);
        }
      }
    }
  }
}

TEST_CASE("a value format sums what it says the values were") {
  for (const std::size_t dim : {48, 64, 80, 96, 128, 256}) {
    for (const AnyValues& policy : value_policies(dim)) {
      INFO(policy.describe() << " dim " << dim << " on " << isa::best().name);
      const auto rows = normal_floats(64 * dim, 3);
      std::vector<std::byte> blocks(2 * policy.block_bytes(), std::byte{0xee});
      policy.encode({rows.data(), 32, dim}, blocks.data());
      policy.encode({rows.data() + 32 * dim, 32, dim}, blocks.data() + policy.block_bytes());
      for (const std::size_t group : {1, 2, 3, 4, 5, 7, 16}) {
        const std::size_t stride = 64;
        std::vector<float> weights(group * stride);
        Random random(4);
        for (float& weight : weights) weight = static_cast<float>(random.uniform() / 64);
        AnyValues::WeightedSum sum;
        policy.begin(sum, group);
        policy.add(sum, {blocks.data(), 32}, weights.data(), stride);
        std::vector<float> factors(group, 0.5f);
        policy.rescale(sum, factors.data());
        policy.add(sum, {blocks.data() + policy.block_bytes(), 32}, weights.data() + 32, stride);
        std::vector<float> outs(group * dim, 1.0f);
        policy.finish(sum, outs.data(), dim);
        std::vector<double> expected(group * dim, 1.0);
        std::vector<float> row(dim);
        for (std::size_t t = 0; t < 64; ++t) {
          policy.decode(blocks.data() + t / 32 * policy.block_bytes(), t % 32, row.data());
          for (std::size_t q = 0; q < group; ++q) {
            const double weight = static_cast<double>(weights[q * stride + t]) * (t < 32 ? 0.5 : 1.0);
            for (std::size_t d = 0; d < dim; ++d) expected[q * dim + d] += weight * static_cast<double>(row[d]);
          }
        }
        for (std::size_t i = 0; i < outs.size(); ++i) {
          REQUIRE(std::fabs(static_cast<double>(outs[i]) - expected[i]) <= sum_tolerance(policy));
        }
      }
    }
  }
}

TEST_CASE("a block of few rows has no random bytes, and its missing rows are finite") {
  const std::size_t dim = 64;
  const auto rows = normal_floats(32 * dim, 5);
  std::vector<float> row(dim);
  for (const AnyKeys& policy : key_policies(dim)) {
    INFO(policy.describe());
    std::vector<std::byte> one(policy.block_bytes(), std::byte{0x11});
    std::vector<std::byte> two(policy.block_bytes(), std::byte{0xee});
    policy.encode({rows.data(), 5, dim}, 0, one.data());
    policy.encode({rows.data(), 5, dim}, 0, two.data());
    REQUIRE(one == two);
    for (std::size_t t = 0; t < 32; ++t) {
      policy.decode(one.data(), t, 0, row.data());
      for (const float x : row) REQUIRE(std::isfinite(x));
    }
  }
  for (const AnyValues& policy : value_policies(dim)) {
    INFO(policy.describe());
    std::vector<std::byte> one(policy.block_bytes(), std::byte{0x11});
    std::vector<std::byte> two(policy.block_bytes(), std::byte{0xee});
    policy.encode({rows.data(), 5, dim}, one.data());
    policy.encode({rows.data(), 5, dim}, two.data());
    REQUIRE(one == two);
    for (std::size_t t = 0; t < 32; ++t) {
      policy.decode(one.data(), t, row.data());
      for (const float x : row) REQUIRE(std::isfinite(x));
    }
  }
}

TEST_CASE("product quantisation picks the nearest centroid") {
  const std::size_t dim = 64;
  const auto codebook = random_codebook(dim, 16, 16);
  const auto policy = Pq4Keys::make(codebook).value();
  const auto rows = normal_floats(32 * dim, 6);
  std::vector<std::byte> block(policy.block_bytes());
  policy.encode({rows.data(), 32, dim}, 0, block.data());
  std::vector<float> row(dim);
  for (std::size_t t = 0; t < 32; ++t) {
    policy.decode(block.data(), t, 0, row.data());
    for (std::size_t s = 0; s < 16; ++s) {
      const auto distance = [&](const auto& centroid) {
        double sum = 0;
        for (std::size_t d = 0; d < 4; ++d) {
          const double difference = static_cast<double>(rows[t * dim + s * 4 + d]) - centroid(d);
          sum += difference * difference;
        }
        return sum;
      };
      const double chosen = distance([&](std::size_t d) { return static_cast<double>(row[s * 4 + d]); });
      for (std::size_t c = 0; c < 16; ++c) {
        REQUIRE(chosen <= distance([&](std::size_t d) {
                            return static_cast<double>(codebook->centroids(s)[d * 16 + c]);
                          }) + 1e-5);
      }
    }
  }
}

TEST_CASE("integers err by at most half a step, and constant groups not at all") {
  const std::size_t dim = 32;
  auto rows = normal_floats(32 * dim, 8);
  for (std::size_t d = 0; d < 16; ++d) rows[d] = 0.25f;  // a flat group, exact in f16
  const auto check = [&](const auto& policy, double levels) {
    std::vector<std::byte> block(policy.block_bytes());
    policy.encode({rows.data(), 32, dim}, block.data());
    std::vector<float> row(dim);
    for (std::size_t t = 0; t < 32; ++t) {
      policy.decode(block.data(), t, row.data());
      for (std::size_t d = 0; d < dim; ++d) {
        const float* group = rows.data() + t * dim + d / 16 * 16;
        const auto [least, most] = std::minmax_element(group, group + 16);
        const double step = static_cast<double>(*most - *least) / levels;
        const double f16_rounding = 2e-3 * 4;
        REQUIRE(std::fabs(static_cast<double>(row[d] - rows[t * dim + d])) <= step * 0.51 + f16_rounding);
        if (t == 0 && d < 16) REQUIRE(row[d] == 0.25f);
      }
    }
  };
  check(Int8Values::make(dim, 16).value(), 255);
  check(Int4Values::make(dim, 16).value(), 15);
  check(Int2Values::make(dim, 16).value(), 3);
}

TEST_CASE("shapes that a format cannot take are refused with what to choose") {
  const auto odd = check(CodebookShape{80, 12, 16});
  REQUIRE_FALSE(odd);
  CHECK(odd.error().message.find("80") != std::string::npos);
  CHECK(odd.error().message.find("10, 16, 20") != std::string::npos);
  const auto group = Int4Values::make(80, 32);
  REQUIRE_FALSE(group);
  CHECK(group.error().message.find("choose g from 16, row") != std::string::npos);
  CHECK_FALSE(Int8Values::make(20, 0));
  CHECK_FALSE(Pq4Keys::make(random_codebook(64, 16, 256)));
  CHECK_FALSE(Codebook::make({64, 8, 256}, std::vector<float>(5)));
  std::vector<float> infinite(64 * 16, 0.0f);
  infinite[77] = INFINITY;
  CHECK_FALSE(Codebook::make({64, 8, 16}, infinite));
}
