// Allocation of bits, on cases worked out by hand.
#include "catch.hpp"
#include "pqkv/measure/allocate.hpp"

#include <limits>

using namespace pqkv;
using Picks = std::vector<std::size_t>;

TEST_CASE("bits go where the error falls most per bit") {
  // Slot 0 gains 8 for its first bit and 1 for two more; slot 1 gains 3, then 2; slot 2 nothing ever.
  const std::vector<std::vector<FormatChoice>> slots = {
      {{1, 10}, {2, 2}, {4, 1}}, {{1, 6}, {2, 3}, {3, 1}}, {{1, 0.5}, {4, 0.5}}};
  CHECK(allocate_bits(slots, 1).value() == Picks{0, 0, 0});
  CHECK(allocate_bits(slots, 4.0 / 3).value() == Picks{1, 0, 0});
  CHECK(allocate_bits(slots, 5.0 / 3).value() == Picks{1, 1, 0});
  CHECK(allocate_bits(slots, 2).value() == Picks{1, 2, 0});
  CHECK(allocate_bits(slots, 100).value() == Picks{2, 2, 0});
}

TEST_CASE("a choice above the hull is skipped, and what does not fit gives way to what does") {
  // Half a bit alone gains little; both together gain much: the step over the middle is taken at once.
  const std::vector<std::vector<FormatChoice>> hull = {{{1, 10}, {1.5, 9.9}, {2, 0}}, {{1, 1}, {2, 0.9}}};
  CHECK(allocate_bits(hull, 1.5).value() == Picks{2, 0});
  // With room for half a bit only, the small step is all there is.
  CHECK(allocate_bits(hull, 1.25).value() == Picks{1, 0});
  // Order of choices and useless ones do not matter.
  const std::vector<std::vector<FormatChoice>> mixed = {{{4, 1}, {2, 3}, {3, 5}, {2, 7}}};
  CHECK(allocate_bits(mixed, 3).value() == Picks{1});
  CHECK(allocate_bits(mixed, 4).value() == Picks{0});
}

TEST_CASE("what cannot be allocated is said with its numbers") {
  const std::vector<std::vector<FormatChoice>> slots = {{{2, 1}}, {{3, 1}}};
  CHECK(allocate_bits(slots, 2).error().message == "2.000000 bits per element for 2 slots: the smallest formats take 2.500000");
  CHECK(allocate_bits(std::vector<std::vector<FormatChoice>>{{}}, 2).error().message == "slot 0 has no formats to choose from");
  const double two[] = {2, 2}, four[] = {4, 4};
  const std::vector<std::vector<FormatChoice>> bad = {{{1, 0}, {2, std::numeric_limits<double>::infinity()}}};
  CHECK(allocate_bits(bad, 2).error().message == "choice 1 of slot 0 is not finite");
  CHECK(allocate_in_turn(Picks{0, 1}, two, four, 1).error().message ==
        "1.000000 bits per element: the coarse formats take 2.000000");
}

TEST_CASE("weights of large norm get more bits") {
  // 4^-1 = 1/4, 4^-2 = 1/16: the first bit of the large one gains 16·3/16 = 3, its second 3/4, the small one's first 3/16.
  const double norms[] = {16, 1};
  const std::vector<std::vector<FormatChoice>> bits(2, {{1, 0}, {2, 0}, {3, 0}});
  CHECK(allocate_by_norms(norms, bits, 1.5).value() == Picks{1, 0});
  CHECK(allocate_by_norms(norms, bits, 2).value() == Picks{2, 0});
  CHECK(allocate_by_norms(norms, bits, 2.5).value() == Picks{2, 1});
}

TEST_CASE("layers in turn: keys before values, or from both ends") {
  CHECK(asymmetric_order(3) == Picks{0, 2, 4, 1, 3, 5});
  CHECK(boundary_order(3) == Picks{0, 1, 4, 5, 2, 3});
  CHECK(boundary_order(4) == Picks{0, 1, 6, 7, 2, 3, 4, 5});
  const std::vector<double> one(6, 1), four(6, 4);
  // Four of six slots at 4 bits, two at 1: 3 bits on average.
  CHECK(allocate_in_turn(asymmetric_order(3), one, four, 3).value() == std::vector<bool>{true, true, true, false, true, false});
  CHECK(allocate_in_turn(asymmetric_order(3), one, four, 3.4).value() == std::vector<bool>{true, true, true, false, true, false});
  CHECK(allocate_in_turn(boundary_order(3), one, four, 4).value() == std::vector<bool>(6, true));
  // Values cost three times what keys do; what does not fit ends it.
  const std::vector<double> uneven = {2, 4, 2, 4, 2, 4};
  CHECK(allocate_in_turn(asymmetric_order(3), one, uneven, 2).value() == std::vector<bool>{true, true, true, false, true, false});
  CHECK(allocate_in_turn(boundary_order(3), one, uneven, 2).value() == std::vector<bool>{true, true, false, false, true, false});
}
