// Heads with everything in them, saved to memory, and what it means that two are equal: for the tests of files.
#pragma once

#include <filesystem>
#include <string>

#include "catch.hpp"
#include "pqkv/io/sequence_file.hpp"
#include "support/checksum.hpp"
#include "support/policies.hpp"
#include "support/sequence.hpp"

namespace pqkv::test::saved_heads {

inline constexpr std::size_t dim = 32;

inline std::string temporary(const char* name) { return (std::filesystem::temp_directory_path() / name).string(); }

/// Uniform floats that any standard library computes alike.
inline std::vector<float> uniform_floats(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> floats(count);
  for (float& x : floats) x = static_cast<float>(random.uniform() * 2 - 1);
  return floats;
}

inline std::shared_ptr<const Rope> rope() { return std::make_shared<const Rope>(Rope::with_base(dim, 1e4)); }

/// A head with everything in it: sinks, replaced rows, holes, moved runs and rows, merged weights.
template <class K, class V>
HeadCache<K, V> eventful(K keys, V values, ScalarType window = ScalarType::f32, bool merged = true) {
  HeadCache head(std::move(keys), std::move(values),
                 CacheOptions{.sinks = 3, .recent = 20, .window = window, .rope = rope()});
  const auto rows = uniform_floats(5000 * dim, 1);
  const Rows many(rows.data(), 4600, dim), few(rows.data() + 4600 * dim, 5, dim);
  REQUIRE(head.append(many, many));
  const std::vector<std::int64_t> positions = {50, 53, 55, 57, 59};
  REQUIRE(head.replace({50, 40}, few, few, positions));
  const std::vector<TokenRange> holes = {{100, 1}, {120, 2}, {400, 70}};
  REQUIRE(head.erase(holes));
  REQUIRE(head.erase({1000, 300}, Gap::close));
  if (merged) REQUIRE(head.append_or_merge(Rows(rows.data(), 1, dim), Rows(rows.data(), 1, dim), 2.5f, true));
  return head;
}

template <class K, class V>
std::vector<std::byte> saved(const HeadCache<K, V>& head) {
  MemorySink sink;
  REQUIRE(save_head(sink, head, test_checksum()));
  return sink.bytes();
}

template <class K, class V>
void require_equal(const HeadCache<K, V>& a, const HeadCache<K, V>& b) {
  REQUIRE(a.tokens() == b.tokens());
  REQUIRE(a.next_position() == b.next_position());
  std::vector<float> ka(dim), va(dim), kb(dim), vb(dim);
  for (std::size_t t = 0; t < a.tokens(); ++t) {
    REQUIRE(a.position(t) == b.position(t));
    a.decode(t, ka.data(), va.data());
    b.decode(t, kb.data(), vb.data());
    REQUIRE(ka == kb);
    REQUIRE(va == vb);
  }
  const auto queries = uniform_floats(4 * dim, 3);
  std::vector<float> x(4 * dim), y(4 * dim);
  Workspace<K, V> workspace;
  attend(a, {queries.data(), 4, dim}, x.data(), dim, workspace);
  attend(b, {queries.data(), 4, dim}, y.data(), dim, workspace);
  // The same blocks in other pages are cut into other tiles: sums may differ in their last bits, scores do not.
  for (std::size_t i = 0; i < x.size(); ++i) REQUIRE(std::fabs(x[i] - y[i]) < 1e-4f);
}

}  // namespace pqkv::test::saved_heads
