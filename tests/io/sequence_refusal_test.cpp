// Files that are not what was saved: foreign, damaged, cut, or lying behind good checksums. Nothing else is taken.
#include <cstring>

#include "support/saved_heads.hpp"

using namespace pqkv;
using namespace pqkv::test;
using namespace pqkv::test::saved_heads;

namespace {

/// Lies about a saved head: how many there were, and how many were refused.
template <class K, class V>
std::pair<std::size_t, std::size_t> lie_about(const HeadCache<K, V>& head) {
  const auto good = saved(head);
  // Every number of the first two sections in turn becomes something else, and the checksum is made to fit.
  const auto forged = [&](std::size_t at, std::uint64_t number) {
    auto bytes = good;
    std::memcpy(bytes.data() + at, &number, 8);
    for (std::size_t header = 64; header < bytes.size();) {
      std::uint64_t size = 0;
      std::memcpy(&size, bytes.data() + header + 8, 8);
      if (size > bytes.size() - header - 64) break;
      std::uint32_t sum = test_checksum().update(0, bytes.data() + header, 60);
      sum = test_checksum().update(sum, bytes.data() + header + 64, size);
      std::memcpy(bytes.data() + header + 60, &sum, 4);
      header += 64 + (size + 63) / 64 * 64;
    }
    return bytes;
  };
  std::uint64_t runs_bytes = 0;
  std::uint64_t head_bytes = 0;
  std::memcpy(&head_bytes, good.data() + 72, 8);
  const std::size_t runs_at = 128 + (head_bytes + 63) / 64 * 64;
  std::memcpy(&runs_bytes, good.data() + runs_at + 8, 8);
  std::vector<std::size_t> places;
  for (std::size_t at = 128; at < 128 + head_bytes - 8; at += 8) places.push_back(at);
  for (std::size_t at = runs_at + 64; at < runs_at + 64 + runs_bytes; at += 8) places.push_back(at);
  std::size_t refused = 0;
  for (const std::size_t at : places) {
    for (const std::uint64_t number :
         {std::uint64_t{0}, std::uint64_t{33}, std::uint64_t{1} << 33, ~std::uint64_t{0}}) {
      const auto bytes = forged(at, number);
      MemorySource source(bytes);
      auto result = load_head(source, head.keys(), head.values(), test_checksum(), {.rope = rope()});
      if (!result) {
        ++refused;
        continue;
      }
      static_cast<void>(tokens_of(*result));  // what is taken can be read
      static_cast<void>(result->erase({0, result->tokens() / 2}));
    }
  }
  return {4 * places.size(), refused};
}

}  // namespace

TEST_CASE("a foreign codebook is refused, whatever the format that carries one") {
  const auto own_keys = key_policies(dim);
  const auto own_values = value_policies(dim);
  codebook_seed = 99;
  const auto foreign_keys = key_policies(dim);
  const auto foreign_values = value_policies(dim);
  codebook_seed = 7;
  const auto rows = uniform_floats(100 * dim, 1);
  std::size_t refused = 0;
  const auto check = [&](const AnyKeys& keys, const AnyValues& values, const AnyKeys& other_keys, const AnyValues& other_values) {
    INFO(keys.describe() << " / " << values.describe());
    HeadCache head(keys, values, CacheOptions{});
    REQUIRE(head.append(Rows(rows.data(), 100, dim), Rows(rows.data(), 100, dim)));
    const auto bytes = saved(head);
    MemorySource source(bytes), foreign(bytes);
    CHECK(bool(load_head(source, keys, values, test_checksum())));
    const auto result = load_head(foreign, other_keys, other_values, test_checksum());
    REQUIRE(!result);
    CHECK(result.error().message.find("coded with other codebooks") != std::string::npos);
    ++refused;
  };
  const AnyKeys plain_keys = ExactKeys(dim);
  const AnyValues plain_values = ExactValues(dim);
  for (std::size_t i = 0; i < own_keys.size(); ++i) {
    if (own_keys[i].codebook_bytes() == 0) continue;
    check(own_keys[i], plain_values, foreign_keys[i], plain_values);
  }
  for (std::size_t i = 0; i < own_values.size(); ++i) {
    if (own_values[i].codebook_bytes() == 0 || own_values[i].describe().starts_with("int")) continue;  // a list of channels
    check(plain_keys, own_values[i], plain_keys, foreign_values[i]);
  }
  CHECK(refused > 40);
}

TEST_CASE("damaged, cut and foreign files are refused") {
  const auto head = eventful(ExactKeys{dim}, Int8Values::make(dim, 16).value(), ScalarType::f16);
  const auto good = saved(head);
  const auto load = [&](std::span<const std::byte> bytes, const LoadOptions& options) {
    MemorySource source(bytes);
    return load_head(source, head.keys(), head.values(), test_checksum(), options);
  };
  Random random(9);
  for (int i = 0; i < 300; ++i) {
    auto bad = good;
    const std::size_t at = i < 150 ? random.below(1024) : random.below(good.size());
    bad[at] ^= std::byte{static_cast<unsigned char>(1u << random.below(8))};
    const auto result = load(bad, {.rope = rope()});
    if (result) require_equal(head, *result);  // a bit of the padding
    const std::size_t size = random.below(good.size());
    REQUIRE_FALSE(load(std::span(good).first(size), {.rope = rope()}));
  }
  CHECK(load(good, {}).error().message.find("another Rope") != std::string::npos);
  CHECK(load(good, {.rope = std::make_shared<const Rope>(Rope::with_base(dim, 1e5))})
            .error()
            .message.find("another Rope") != std::string::npos);
  MemorySource source(good);
  const auto other = load_head(source, ExactKeys(dim, ScalarType::f16), head.values(), test_checksum());
  CHECK(other.error().message.find("saved as exact:f32 / int8") != std::string::npos);
}

TEST_CASE("files that lie behind good checksums are refused") {
  const auto [lies, refused] = lie_about(eventful(ExactKeys{dim}, Int8Values::make(dim, 16).value()));
  CHECK(refused > lies / 4);
}

TEST_CASE("a compacted head comes back, and lies about one do no harm") {
  const SpaceChoice choice{.rotary = dim, .run_tokens = 64, .mean = true};
  const auto turning = SpacedKeys<ExactKeys>::make(ExactKeys{dim}, random_space(dim, choice)).value();
  for (const AnyKeys& keys : {AnyKeys(ExactKeys{dim}), AnyKeys(turning)}) {
    HeadCache head(keys, AnyValues(Int8Values::make(dim, 16).value()), CacheOptions{.sinks = 3, .recent = 20, .rope = rope()});
    const auto rows = uniform_floats(800 * dim, 1);
    REQUIRE(head.append(Rows(rows.data(), 800, dim), Rows(rows.data(), 800, dim)));
    std::vector<TokenRange> scattered;
    for (std::size_t t = 3; t < 700; t += 7) scattered.push_back({t, 6});
    REQUIRE(head.erase(scattered));
    REQUIRE(head.shift({40, 30}, 500));
    REQUIRE(compact(head));
    REQUIRE(head.runs()[0].is_compacted());
    const auto bytes = saved(head);
    MemorySource source(bytes);
    require_equal(head, load_head(source, head.keys(), head.values(), test_checksum(), {.rope = rope()}).value());
    CHECK(lie_about(head).second > 40);
  }
}
