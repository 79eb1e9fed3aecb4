// Lengths apart from codes: the log scale of gains, and rows that keep their length.
#include <cmath>

#include "catch.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

/// Half a step of the log scale, 2^(1/32), and float rounding.
const double half_step = std::exp2(1.0 / 32) + 1e-6;

/// Float sums of a thousand products of a few units.
constexpr double sum_tolerance = 2e-3;

double length(const float* row, std::size_t dim) { return std::sqrt(dot(row, row, dim)); }

std::byte byte(std::size_t code) { return static_cast<std::byte>(code); }

}  // namespace

TEST_CASE("a gain's byte is the nearest on its log scale") {
  CHECK(gain_of(byte(0)) == 0);
  CHECK(gain_code(0) == byte(0));
  for (std::size_t code = 1; code < 256; ++code) {
    const double value = std::exp2((static_cast<double>(code) - 160) / 16);
    INFO("code " << code);
    CHECK(std::fabs(static_cast<double>(gain_of(byte(code))) / value - 1) < 1e-6);
    CHECK(gain_code(value) == byte(code));
    if (code < 255) {
      CHECK(gain_code(value * std::exp2(0.49 / 16)) == byte(code));
      CHECK(gain_code(value * std::exp2(0.51 / 16)) == byte(code + 1));
    }
  }
  CHECK(gain_code(gain_of(byte(1)) * 0.49) == byte(0));
  CHECK(gain_code(gain_of(byte(1)) * 0.51) == byte(1));
  CHECK(gain_code(1e9) == byte(255));
}

TEST_CASE("what is decoded is as long as the row was, and its shape is that of the inner format") {
  const std::size_t dim = 32, count = 30;
  const auto inner = Pq4Values::make(random_codebook(dim, dim / 4, 16)).value();
  const auto values = GainedValues<Pq4Values>::make(inner).value();
  const auto keys = GainedKeys<Pq8Keys>::make(Pq8Keys::make(random_codebook(dim, dim / 4, 256)).value()).value();
  REQUIRE(values.block_bytes() == inner.block_bytes() + 32);
  CHECK(values.describe() == "pq4:m=8:gain=1");
  auto rows = normal_floats(count * dim, 1), unit = rows;
  for (std::size_t t = 0; t < count; ++t) {
    // From a hundredth to three times the length of a normal row; one row is nothing.
    const float scale = t == 7 ? 0.0f : 0.01f * std::exp2(static_cast<float>(t % 9));
    for (std::size_t d = 0; d < dim; ++d) rows[t * dim + d] *= scale;
    const double whole = length(unit.data() + t * dim, dim);
    for (std::size_t d = 0; d < dim; ++d) unit[t * dim + d] = static_cast<float>(unit[t * dim + d] / whole);
  }
  std::vector<std::byte> block(values.block_bytes(), byte(0xee)), key_block(keys.block_bytes()), shapes(inner.block_bytes());
  values.encode({rows.data(), count, dim}, block.data());
  keys.encode({rows.data(), count, dim}, {}, key_block.data());
  inner.encode({unit.data(), count, dim}, shapes.data());
  std::vector<float> row(dim), key(dim), shape(dim);
  for (std::size_t t = 0; t < 32; ++t) {
    values.decode(block.data(), t, row.data());
    keys.decode(key_block.data(), t, {}, key.data());
    if (t >= count || t == 7) {
      CHECK(row == std::vector<float>(dim));
      CHECK(key == std::vector<float>(dim));
      continue;
    }
    INFO("token " << t);
    const double had = length(rows.data() + t * dim, dim), has = length(row.data(), dim), key_has = length(key.data(), dim);
    CHECK((has < had * half_step && had < has * half_step));
    CHECK((key_has < had * half_step && had < key_has * half_step));
    inner.decode(shapes.data(), t, shape.data());
    const double cosine = dot(row.data(), shape.data(), dim) / (has * length(shape.data(), dim));
    CHECK(cosine > 1 - 1e-6);
  }
}

TEST_CASE("many blocks at once score and add up as one by one") {
  // Codes of 64 and of 2,048 bytes per token: four blocks at a time, and one.
  for (const std::size_t dim : {32, 1024}) {
    const std::size_t blocks = 19, tokens = blocks * 32 - 5, group = 3, stride = blocks * 32;
    const auto rows = normal_floats(blocks * 32 * dim, 3), queries = normal_floats(group * dim, 4);
    const auto keys = GainedKeys<ExactKeys>::make(ExactKeys(dim, ScalarType::f16)).value();
    const auto values = GainedValues<ExactValues>::make(ExactValues(dim, ScalarType::f16)).value();
    std::vector<std::byte> key_blocks(blocks * keys.block_bytes()), value_blocks(blocks * values.block_bytes());
    for (std::size_t b = 0; b < blocks; ++b) {
      const FloatRows mine{rows.data() + b * 32 * dim, b + 1 == blocks ? std::size_t{27} : block_tokens, dim};
      keys.encode(mine, {0, b * 32}, key_blocks.data() + b * keys.block_bytes());
      values.encode(mine, value_blocks.data() + b * values.block_bytes());
    }
    GainedKeys<ExactKeys>::QueryTable table;
    keys.prepare(table, {queries.data(), group, dim});
    keys.turn(table, 0);
    std::vector<float> scores(group * stride), weights(group * stride), row(dim);
    keys.score(table, {key_blocks.data(), tokens}, scores.data(), stride);
    std::vector<double> expected(group * dim);
    for (std::size_t t = 0; t < tokens; ++t) {
      keys.decode(key_blocks.data() + t / 32 * keys.block_bytes(), t % 32, {}, row.data());
      for (std::size_t q = 0; q < group; ++q) {
        const double score = dot(queries.data() + q * dim, row.data(), dim);
        REQUIRE(std::fabs(static_cast<double>(scores[q * stride + t]) - score) < sum_tolerance);
        weights[q * stride + t] = static_cast<float>((t * 7 + q) % 13) / 64;
      }
      values.decode(value_blocks.data() + t / 32 * values.block_bytes(), t % 32, row.data());
      for (std::size_t q = 0; q < group; ++q) {
        for (std::size_t d = 0; d < dim; ++d) {
          expected[q * dim + d] += static_cast<double>(weights[q * stride + t]) * static_cast<double>(row[d]);
        }
      }
    }
    GainedValues<ExactValues>::WeightedSum sum;
    values.begin(sum, group);
    values.add(sum, {value_blocks.data(), tokens}, weights.data(), stride);
    std::vector<float> outs(group * dim);
    values.finish(sum, outs.data(), dim);
    for (std::size_t i = 0; i < outs.size(); ++i) {
      REQUIRE(std::fabs(static_cast<double>(outs[i]) - expected[i]) < sum_tolerance);
    }
  }
}

TEST_CASE("gains of rows that are too long are refused") {
  const std::size_t dim = 1040;
  CHECK_FALSE(GainedValues<ExactValues>::make(ExactValues(dim, ScalarType::f32)));
  const auto keys = GainedKeys<ExactKeys>::make(ExactKeys(dim, ScalarType::f32));
  REQUIRE_FALSE(keys);
  CHECK(keys.error().message == "gains for keys of dim 1040: at most 1024");
}
