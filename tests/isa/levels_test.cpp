// Codes of levels become the same floats on every instruction set, and what is packed comes back.
#include <cstring>
#include <utility>

#include "catch.hpp"
#include "isa/sets.hpp"
#include "pqkv/codec/level_codes.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

template <std::size_t bits>
void check_levels(isa::KernelSet::Levels kernel) {
  constexpr std::size_t count = std::size_t{1} << bits;
  for (const std::size_t units : {1, 2, 5}) {
    for (const auto& [gap, level_stride] : {std::pair<std::size_t, std::size_t>{0, 0}, {2, 0}, {3, count}, {0, count + 1}}) {
      const auto levels = normal_floats((units - 1) * level_stride + count, 1);
      const std::size_t stride = unit_bytes<bits> + gap;
      const auto bytes = random_bytes((units - 1) * stride + unit_bytes<bits>, 2);  // no byte behind the last unit
      const auto scales = normal_floats(units, 3);
      for (const float* factors : {scales.data(), static_cast<const float*>(nullptr)}) {
        std::vector<float> out(units * 32 + 1, -7.0f), expected(units * 32 + 1, -7.0f);
        kernel(bytes.data(), stride, units, levels.data(), level_stride, factors, out.data());
        isa::scalar::levels_of<bits>(bytes.data(), stride, units, levels.data(), level_stride, factors, expected.data());
        REQUIRE(out == expected);
      }
    }
  }
}

template <std::size_t bits>
void check_packing() {
  const auto levels = integer_levels<bits>();
  const auto bytes = random_bytes(32, 4);
  std::uint8_t codes[32];
  for (std::size_t i = 0; i < 32; ++i) codes[i] = bits == 8 ? bytes[i] : static_cast<std::uint8_t>(bytes[i] >> (8 - bits));
  std::vector<std::uint8_t> unit(unit_bytes<bits>, 0xee);
  pack_unit<bits>(codes, unit.data());
  for (std::size_t i = 0; i < 32; ++i) {
    const float expected = bits == 8 ? static_cast<float>(static_cast<std::int8_t>(codes[i])) : static_cast<float>(codes[i]);
    REQUIRE(unit_level<bits>(unit.data(), i, levels.data()) == expected);
  }
}

}  // namespace

TEST_CASE("codes of levels become the same floats on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    check_levels<4>(kernels.levels4);
    check_levels<3>(kernels.levels3);
    check_levels<2>(kernels.levels2);
    const auto bytes = random_bytes(2 * 34 + 32, 5);
    const auto scales = normal_floats(3, 6);
    for (const float* factors : {scales.data(), static_cast<const float*>(nullptr)}) {
      std::vector<float> out(96), expected(96);
      kernels.scaled_bytes(bytes.data(), 34, 3, factors, out.data());
      isa::scalar::scaled_bytes(bytes.data(), 34, 3, factors, expected.data());
      REQUIRE(out == expected);
    }
  });
}

TEST_CASE("codes that are packed come back") {
  check_packing<2>();
  check_packing<3>();
  check_packing<4>();
  check_packing<8>();
}

TEST_CASE("a unit of 4 bits pairs codes 16 apart, and one of 3 bits keeps the third bits apart") {
  std::uint8_t codes[32];
  for (std::size_t i = 0; i < 32; ++i) codes[i] = static_cast<std::uint8_t>(i % 16 ^ i / 16);
  std::uint8_t four[16], three[12];
  pack_unit<4>(codes, four);
  CHECK(four[0] == 0x10);
  CHECK(four[2] == 0x32);
  for (auto& code : codes) code = 0;
  codes[0] = 5, codes[9] = 4, codes[24] = 2;
  pack_unit<3>(codes, three);
  CHECK(three[0] == (1 | 2 << 6));
  CHECK(three[8] == 1);
  CHECK(three[9] == 2);
  CHECK(three[11] == 0);
}
