// Rope against its definition in double.
#include "pqkv/codec/rope.hpp"

#include <cmath>

#include "catch.hpp"
#include "support/data.hpp"
#include "support/spaces.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr double turn_tolerance = 1e-6;  // of elements of order 1, computed in float

double largest_difference(const std::vector<float>& row, const std::vector<double>& expected) {
  double most = 0;
  for (std::size_t d = 0; d < row.size(); ++d) most = std::max(most, std::fabs(static_cast<double>(row[d]) - expected[d]));
  return most;
}

}  // namespace

TEST_CASE("a row is turned pair by pair, by either pairing, and only as far as RoPE goes") {
  const std::size_t dim = 32;
  const auto row = normal_floats(dim, 1);
  for (const RopePairing pairing : {RopePairing::adjacent, RopePairing::half_split}) {
    for (const std::size_t rotary : {0, 2, 16, 32}) {
      const Rope rope = rotary == 0 ? Rope() : Rope::with_base(rotary, 10000.0, pairing);
      REQUIRE(rope.pairs() == rotary / 2);
      for (const double position : {0.0, 1.0, -1.0, 77.0, 131072.0, -131072.0}) {
        INFO("rotary " << rotary << " position " << position << " half " << (pairing == RopePairing::half_split));
        std::vector<double> expected(row.begin(), row.end());
        turn64(rope, position, expected);
        std::vector<float> turned = row;
        rope.turn(position, turned.data());
        CHECK(largest_difference(turned, expected) < 4 * turn_tolerance);
        std::vector<float> cosines(rope.pairs() + 1), sines(rope.pairs() + 1), by_angles = row;
        rope.angles(position, cosines.data(), sines.data());
        rope.turn(cosines.data(), sines.data(), by_angles.data());
        CHECK(largest_difference(by_angles, expected) < 4 * turn_tolerance);
        if (position == 0.0) CHECK(turned == row);
        for (std::size_t d = rotary; d < dim; ++d) CHECK(turned[d] == row[d]);
        if (rotary != 0 && position != 0.0) CHECK(turned != row);
        rope.turn(-position, turned.data());
        CHECK(largest_difference(turned, {row.begin(), row.end()}) < 4 * turn_tolerance);
      }
    }
  }
}

TEST_CASE("frequencies fall from one to the base's inverse, and scores know distances only") {
  const Rope rope = Rope::with_base(8, 10000.0);
  const double expected[] = {1.0, 0.1, 0.01, 0.001};
  for (std::size_t i = 0; i < 4; ++i) CHECK(std::fabs(rope.frequencies()[i] - expected[i]) < 1e-12);
  CHECK(rope.elements(1) == std::pair<std::size_t, std::size_t>{2, 3});
  CHECK(Rope::with_base(8, 10000.0, RopePairing::half_split).elements(1) == std::pair<std::size_t, std::size_t>{1, 5});
  const auto query = normal_floats(8, 2), key = normal_floats(8, 3);
  const auto score = [&](double query_position, double key_position) {
    std::vector<float> q = query, k = key;
    rope.turn(query_position, q.data());
    rope.turn(key_position, k.data());
    return dot(q.data(), k.data(), 8);
  };
  CHECK(std::fabs(score(20, 13) - score(1007, 1000)) < 1e-4);
  CHECK(std::fabs(score(20, 13) - score(20, 14)) > 1e-2);
}
