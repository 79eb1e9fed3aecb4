// The state of a head's cache: what it believes its keys and values were, token by token; and whether two are the same.
#pragma once

#include <cstring>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "pqkv/cache.hpp"

namespace pqkv::test {

/// Appends the rows of all tokens, [tokens][dim], to `keys` and `values`, which are emptied first.
template <KeyPolicy K, ValuePolicy V>
void decode_all(const HeadCache<K, V>& head, std::vector<float>& keys, std::vector<float>& values) {
  const std::size_t dim = head.dim();
  keys.clear();
  values.clear();
  std::vector<float> row(dim);
  const auto window = [&](const ExactWindow& exact) {
    for (std::size_t t = 0; t < exact.tokens(); ++t) {
      exact.rows().load(exact.keys() + t * exact.rows().row_bytes(), dim, row.data());
      keys.insert(keys.end(), row.begin(), row.end());
      exact.rows().load(exact.values() + t * exact.rows().row_bytes(), dim, row.data());
      values.insert(values.end(), row.begin(), row.end());
    }
  };
  window(head.sinks());
  for (const Run& run : head.runs()) {
    for (std::size_t t = 0; t < run.tokens; ++t) {
      head.keys().decode(head.store().key_block(run.first_block + t / 32), t % 32, {run.origin, t / 32 * 32}, row.data());
      keys.insert(keys.end(), row.begin(), row.end());
      head.values().decode(head.store().value_block(run.first_block + t / 32), t % 32, row.data());
      values.insert(values.end(), row.begin(), row.end());
    }
  }
  window(head.recent());
}

/// The same runs with the same bytes, and the same exact rows.
template <KeyPolicy K, ValuePolicy V>
void require_same_state(const HeadCache<K, V>& a, const HeadCache<K, V>& b) {
  REQUIRE(a.tokens() == b.tokens());
  REQUIRE(a.runs().size() == b.runs().size());
  for (std::size_t i = 0; i < a.runs().size(); ++i) {
    REQUIRE(a.runs()[i].tokens == b.runs()[i].tokens);
    REQUIRE(a.runs()[i].origin == b.runs()[i].origin);
    for (std::size_t t = 0; t < a.runs()[i].tokens; t += block_tokens) {
      const std::size_t block = a.runs()[i].first_block + t / block_tokens;
      REQUIRE(std::memcmp(a.store().key_block(block), b.store().key_block(block), a.keys().block_bytes()) == 0);
      REQUIRE(std::memcmp(a.store().value_block(block), b.store().value_block(block), a.values().block_bytes()) == 0);
    }
  }
  for (const auto& [x, y] : {std::pair{&a.sinks(), &b.sinks()}, std::pair{&a.recent(), &b.recent()}}) {
    REQUIRE(x->tokens() == y->tokens());
    if (x->tokens() == 0) continue;  // nothing allocated, perhaps
    REQUIRE(std::memcmp(x->keys(), y->keys(), x->tokens() * x->rows().row_bytes()) == 0);
    REQUIRE(std::memcmp(x->values(), y->values(), x->tokens() * x->rows().row_bytes()) == 0);
  }
}

}  // namespace pqkv::test
