// ggml's types, byte for byte: rows made by hand, and what their scales mean.
#include <cmath>
#include <cstring>

#include "catch.hpp"
#include "pqkv/pqkv.hpp"
#include "support/data.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

std::vector<std::uint8_t> bytes_of(const std::vector<std::byte>& block, std::size_t first, std::size_t count) {
  std::vector<std::uint8_t> out(count);
  std::memcpy(out.data(), block.data() + first, count);
  return out;
}

/// Relative to the scale: a code is off by half a step, and the stored scale by half a unit in the last of 11 places, as
/// often as the code says.
double bound(double scale, double most_code) { return scale * (0.5 + most_code / 2048) + 1e-30; }

}  // namespace

TEST_CASE("q8_0 keys are a scale and 32 signed bytes per piece of 32 elements, row after row") {
  const std::size_t dim = 64;
  std::vector<float> rows(32 * dim, 0.0f);
  for (std::size_t i = 0; i < 32; ++i) rows[i] = static_cast<float>(static_cast<int>(i) - 16) * 0.5f;
  rows[0] = -63.5f;       // the scale of the first piece: 0.5
  rows[32] = 127 * 2.0f;  // of the second: 2
  rows[33] = -3.0f;       // -1.5 steps, away from zero: -2
  rows[dim] = 127.0f;     // the second row's first piece: 1
  rows[dim + 1] = 0.49f;
  const auto policy = Q8Keys::make(dim).value();
  REQUIRE(policy.block_bytes() == 32 * 2 * 34);
  std::vector<std::byte> block(policy.block_bytes(), std::byte{0xee});
  policy.encode({rows.data(), 32, dim}, 0, block.data());
  std::vector<std::uint8_t> expected(34);
  expected[0] = 0x00, expected[1] = 0x38;  // 0.5 in f16, little-endian
  expected[2] = static_cast<std::uint8_t>(-127);
  for (int i = 1; i < 32; ++i) expected[static_cast<std::size_t>(i) + 2] = static_cast<std::uint8_t>(i - 16);
  CHECK(bytes_of(block, 0, 34) == expected);
  CHECK(bytes_of(block, 34, 5) == std::vector<std::uint8_t>{0x00, 0x40, 127, static_cast<std::uint8_t>(-2), 0});
  CHECK(bytes_of(block, 68, 5) == std::vector<std::uint8_t>{0x00, 0x3c, 127, 0, 0});
  CHECK(bytes_of(block, 102, 6) == std::vector<std::uint8_t>{0, 0, 0, 0, 0, 0});
}

TEST_CASE("q4_0 values are a scale and 16 bytes whose low nibbles are the first half") {
  const std::size_t dim = 32;
  std::vector<float> rows(32 * dim, 0.0f);
  for (std::size_t i = 0; i < 16; ++i) {
    rows[i] = static_cast<float>(static_cast<int>(i) - 8) * 0.25f;       // -2 … 1.75: codes 0 … 15
    rows[i + 16] = static_cast<float>(7 - static_cast<int>(i)) * 0.25f;  // 1.75 … -2: codes 15 … 0
  }
  rows[dim] = 4.0f;       // largest magnitude positive: the scale is -0.5, and 4 is code 0
  rows[dim + 17] = -4.0f;  // would be code 16: 15
  const auto policy = Q4Values::make(dim).value();
  REQUIRE(policy.block_bytes() == 32 * 18);
  std::vector<std::byte> block(policy.block_bytes(), std::byte{0xee});
  policy.encode({rows.data(), 32, dim}, block.data());
  std::vector<std::uint8_t> expected{0x00, 0x34};  // 0.25
  for (unsigned i = 0; i < 16; ++i) expected.push_back(static_cast<std::uint8_t>(i | (15 - i) << 4));
  CHECK(bytes_of(block, 0, 18) == expected);
  expected.assign({0x00, 0xb8, 0x80, 0xf8});  // -0.5; zeros are code 8
  expected.resize(18, 0x88);
  CHECK(bytes_of(block, 18, 18) == expected);
  std::vector<float> row(dim);
  policy.decode(block.data(), 1, row.data());
  CHECK(row[0] == 4.0f);
  CHECK(row[17] == -3.5f);
  CHECK(row[5] == 0.0f);
}

TEST_CASE("a cache of ggml's types may be handed over: the block is its rows, and both sides read it") {
  const std::size_t dim = 96;
  const auto rows = normal_floats(32 * dim, 1);
  const auto keys = Q4Keys::make(dim).value();
  const auto values = Q4Values::make(dim).value();
  const auto coder = GgmlRows<4>::make(dim).value();
  std::vector<std::byte> of_keys(keys.block_bytes()), of_values(values.block_bytes()), one_by_one(keys.block_bytes());
  keys.encode({rows.data(), 32, dim}, 0, of_keys.data());
  values.encode({rows.data(), 32, dim}, of_values.data());
  for (std::size_t t = 0; t < 32; ++t) coder.encode(rows.data() + t * dim, one_by_one.data() + t * coder.row_bytes());
  CHECK(of_keys == of_values);
  CHECK(of_keys == one_by_one);
}

TEST_CASE("ggml's types err by half a step, q4_0 by a whole one opposite to its largest element") {
  const std::size_t dim = 128;
  const auto rows = normal_floats(32 * dim, 2);
  const auto q8 = Q8Keys::make(dim).value();
  const auto q4 = Q4Keys::make(dim).value();
  std::vector<std::byte> block8(q8.block_bytes()), block4(q4.block_bytes());
  q8.encode({rows.data(), 32, dim}, 0, block8.data());
  q4.encode({rows.data(), 32, dim}, 0, block4.data());
  std::vector<float> row8(dim), row4(dim);
  for (std::size_t t = 0; t < 32; ++t) {
    q8.decode(block8.data(), t, 0, row8.data());
    q4.decode(block4.data(), t, 0, row4.data());
    for (std::size_t d = 0; d < dim; ++d) {
      double largest = 0;
      for (std::size_t i = d / 32 * 32; i < d / 32 * 32 + 32; ++i) {
        const double x = rows[t * dim + i];
        if (std::fabs(x) > std::fabs(largest)) largest = x;
      }
      const double x = rows[t * dim + d];
      REQUIRE(std::fabs(static_cast<double>(row8[d]) - x) <= bound(std::fabs(largest) / 127, 127));
      const bool beyond = x / largest < -7.5 / 8;
      REQUIRE(std::fabs(static_cast<double>(row4[d]) - x) <= bound(std::fabs(largest) / 8, 8) * (beyond ? 2 : 1));
    }
  }
}

TEST_CASE("ggml's types stay finite for every finite row, and need whole pieces") {
  const std::size_t dim = 32;
  std::vector<float> rows(32 * dim, 0.0f);
  rows[0] = 3e38f, rows[1] = -3e38f, rows[dim] = -1e7f, rows[2 * dim] = 1e-45f, rows[3 * dim + 1] = -1e-38f;
  const auto check_rows = [&](const auto& policy) {
    std::vector<std::byte> block(policy.block_bytes());
    policy.encode({rows.data(), 32, dim}, block.data());
    std::vector<float> row(dim);
    for (std::size_t t = 0; t < 32; ++t) {
      policy.decode(block.data(), t, row.data());
      for (const float x : row) REQUIRE(std::isfinite(x));
    }
    policy.decode(block.data(), 0, row.data());
    CHECK(row[0] > 65504.0f * 7);
  };
  check_rows(Q8Values::make(dim).value());
  check_rows(Q4Values::make(dim).value());
  CHECK_FALSE(Q8Keys::make(48));
  CHECK_FALSE(Q4Values::make(0));
  CHECK_FALSE(Q4Values::make(2048));
}
