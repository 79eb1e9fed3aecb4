// RowMovable: a code that is copied to another slot of another block decodes to what it did, and its new neighbours too.
#include "catch.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr std::size_t dim = 32;

/// Copies the rows of two blocks in another order into a third; `decode(block, slot, place)`, where place is the slot that the
/// row was encoded in.
template <class Format, class Encode, class Decode>
void check_moves(const Format& format, const Encode& encode, const Decode& decode) {
  std::vector<std::byte> first(format.block_bytes()), second(format.block_bytes()), mixed(format.block_bytes());
  encode(1, first.data());
  encode(2, second.data());
  const auto source = [&](std::size_t slot) { return slot % 3 == 0 ? first.data() : second.data(); };
  const auto from = [](std::size_t slot) { return (slot * 7 + 5) % 32; };
  // Slots 20 … 31 stay zeros until the end.
  for (const auto& [begin, end] : {std::pair{0, 20}, {20, 32}}) {
    for (std::size_t slot = std::size_t(begin); slot < std::size_t(end); ++slot) {
      format.copy_row(source(slot), from(slot), mixed.data(), slot);
    }
    for (std::size_t slot = 0; slot < std::size_t(end); ++slot) {
      INFO(format.describe() << ", slot " << slot);
      REQUIRE(decode(mixed.data(), slot, from(slot)) == decode(source(slot), from(slot), from(slot)));
    }
    for (std::size_t slot = 0; slot < 32; ++slot) {
      for (const float x : decode(mixed.data(), slot, slot)) REQUIRE(std::isfinite(x));
    }
  }
}

}  // namespace

TEST_CASE("codes of keys move between blocks") {
  std::size_t moved = 0;
  for (const AnyKeys& format : key_policies(dim)) {
    if (!format.rows_move()) continue;
    ++moved;
    check_moves(
        format,
        [&](std::uint64_t seed, std::byte* block) {
          format.encode({normal_floats(32 * dim, seed).data(), 32, dim}, {}, block);
        },
        [&](const std::byte* block, std::size_t slot, std::size_t place) {
          std::vector<float> row(dim);
          format.decode(block, slot, {0, place - slot}, row.data());
          return row;
        });
  }
  CHECK(moved >= 3 + 9 + 6 + 2 + 10 + 1 + 1);  // exact, PQ of each width and stages, ggml's, in spaces, pruned
  for (const AnyKeys& format : key_policies(dim)) {
    CHECK(format.needs_origin() == (format.describe().find(":run=") != std::string::npos));
  }
}

TEST_CASE("codes of values move between blocks") {
  std::size_t moved = 0;
  for (const AnyValues& format : value_policies(dim)) {
    if (!format.rows_move()) continue;
    ++moved;
    check_moves(
        format,
        [&](std::uint64_t seed, std::byte* block) {
          format.encode({normal_floats(32 * dim, seed).data(), 32, dim}, block);
        },
        [&](const std::byte* block, std::size_t slot, std::size_t) {
          std::vector<float> row(dim);
          format.decode(block, slot, row.data());
          return row;
        });
  }
  CHECK(moved >= 3 + 6 + 6 + 4 + 2 + 6);  // exact, integers, PQ of each width and number of stages, ggml's, those in a space
}
