// Keys whose codes are turned back to their run's origin, in a cache of several runs.
#include "catch.hpp"
#include "support/decoded.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr double float_tolerance = 1e-4;      // float sums and 15-bit weights
constexpr double table_tolerance = 3e-2;      // 8-bit tables
constexpr std::size_t dim = 32, tokens = 345;

/// A space of runs of that length, with and without the other parts.
SpaceChoice choice_of(std::size_t run_tokens, bool everything) {
  return {everything ? dim : dim / 2, run_tokens, everything ? RopePairing::adjacent : RopePairing::half_split, everything,
          everything};
}

template <class K>
AnyKeys spaced(K inner, const SpaceChoice& choice) {
  return SpacedKeys<K>::make(std::move(inner), random_space(dim, choice)).value();
}

AnyKeys coded(std::size_t run_tokens, bool everything) {
  return spaced(Pq8Keys::make(random_codebook(dim, 8, 256)).value(), choice_of(run_tokens, everything));
}

void require_attention(const HeadCache<AnyKeys, AnyValues>& head, const std::vector<float>& keys,
                       const std::vector<float>& values, double tolerance) {
  Workspace<AnyKeys, AnyValues> workspace;
  const std::size_t group = 3;
  const auto queries = normal_floats(group * dim, 3);
  std::vector<float> outs(group * dim);
  attend(head, {queries.data(), group, dim}, outs.data(), dim, workspace);
  for (std::size_t q = 0; q < group; ++q) {
    const auto expected = attention(queries.data() + q * dim, keys, values, head.tokens(), dim, 1 / std::sqrt(32.0));
    for (std::size_t d = 0; d < dim; ++d) {
      REQUIRE(std::fabs(static_cast<double>(outs[q * dim + d]) - expected[d]) <= tolerance);
    }
  }
}

}  // namespace

TEST_CASE("runs follow each other, each from the position of its first token") {
  const auto rows = normal_floats(tokens * dim, 1);
  const Rows all(rows.data(), tokens, dim);
  for (const std::size_t run_tokens : {16, 32, 64, 96}) {
    INFO("run " << run_tokens);
    HeadCache head(coded(run_tokens, true), AnyValues(ExactValues{dim}), {.sinks = 3, .recent = 10});
    REQUIRE(head.append(all, all));
    const std::size_t sealed = head.sealed_tokens();
    REQUIRE(sealed >= tokens - 3 - 10 - 31);
    REQUIRE(head.runs().size() == (sealed + run_tokens - 1) / run_tokens);
    for (std::size_t i = 0; i < head.runs().size(); ++i) {
      CHECK(head.runs()[i].origin == static_cast<std::int64_t>(3 + i * run_tokens));
      CHECK(head.runs()[i].tokens == std::min(run_tokens, sealed - i * run_tokens));
    }
  }
}

TEST_CASE("attention over runs equals double precision on the stored rows") {
  const auto keys = normal_floats(tokens * dim, 1), values = normal_floats(tokens * dim, 2);
  for (const std::size_t run_tokens : {16, 32, 64, 96}) {
    for (const bool everything : {false, true}) {
      const SpaceChoice choice = choice_of(run_tokens, everything);
      for (const AnyKeys& policy : {coded(run_tokens, everything), spaced(ExactKeys{dim}, choice),
                                    spaced(Pq4Keys::make(random_codebook(dim, 16, 16)).value(), choice)}) {
        INFO(policy.describe());
        HeadCache head(policy, AnyValues(ExactValues{dim}), {.sinks = 3, .recent = 10});
        REQUIRE(head.append(Rows(keys.data(), tokens, dim), Rows(values.data(), tokens, dim)));
        std::vector<float> stored_keys, stored_values;
        decode_all(head, stored_keys, stored_values);
        const bool tables = policy.describe().starts_with("pq4");
        require_attention(head, stored_keys, stored_values, tables ? table_tolerance : float_tolerance);
        if (!policy.describe().starts_with("exact")) continue;
        // Nothing is lost in the space itself, at whatever position.
        for (std::size_t i = 0; i < keys.size(); ++i) {
          REQUIRE(std::fabs(static_cast<double>(stored_keys[i] - keys[i])) < float_tolerance);
        }
      }
    }
  }
}

TEST_CASE("one token at a time ends in the runs of one big append, and a truncated run goes on") {
  const auto keys = normal_floats(tokens * dim, 1), values = normal_floats(tokens * dim, 2);
  const auto append = [&](HeadCache<AnyKeys, AnyValues>& head, std::size_t from, std::size_t to) {
    REQUIRE(head.append(Rows(keys.data() + from * dim, to - from, dim), Rows(values.data() + from * dim, to - from, dim)));
  };
  for (const std::size_t run_tokens : {16, 32, 64, 96}) {
    const AnyKeys policy = coded(run_tokens, true);
    const AnyValues exact(ExactValues{dim});
    const CacheOptions options{.sinks = 3, .recent = 10};
    HeadCache all(policy, exact, options), one(policy, exact, options);
    append(all, 0, tokens);
    for (std::size_t t = 0; t < tokens; ++t) append(one, t, t + 1);
    require_same_state(one, all);
    for (const std::size_t kept : {344, 300, 262, 195, 131, 67, 50, 35, 20, 2}) {
      INFO("run " << run_tokens << " kept " << kept);
      HeadCache head(policy, exact, options);
      append(head, 0, tokens);
      head.truncate(kept);
      std::vector<float> stored_keys, stored_values;
      decode_all(head, stored_keys, stored_values);
      REQUIRE(stored_keys.size() == kept * dim);
      require_attention(head, stored_keys, stored_values, float_tolerance);
      append(head, kept, tokens);
      REQUIRE(head.tokens() == tokens);
      // Positions still are token indices: a run begins where the tokens before it end.
      std::size_t position = head.sinks().tokens();
      for (const Run& run : head.runs()) {
        REQUIRE(run.origin == static_cast<std::int64_t>(position));
        REQUIRE(run.tokens <= run_tokens);
        position += run.tokens;
      }
      decode_all(head, stored_keys, stored_values);
      REQUIRE(stored_values == values);
      require_attention(head, stored_keys, stored_values, float_tolerance);
    }
  }
}

TEST_CASE("tokens that wait for their block are coded where they will lie in their run") {
  const auto keys = normal_floats(tokens * dim, 1), values = normal_floats(tokens * dim, 2);
  const AnyKeys policy = coded(64, true);
  const CacheOptions options{.sinks = 3, .recent = 10};
  // 3 + 64 + 32 sealed, 21 waiting: the second half of a run; 53 fewer: the first of a run.
  for (const std::size_t count : {3 + 96 + 21 + 10, 3 + 64 + 21 + 10}) {
    HeadCache head(policy, AnyValues(ExactValues{dim}), options);
    REQUIRE(head.append(Rows(keys.data(), count, dim), Rows(values.data(), count, dim)));
    std::vector<float> coded_keys, coded_values;
    decode_all(head, coded_keys, coded_values);
    const std::size_t first = count - 10 - 21;
    const RunPlace place(static_cast<std::int64_t>(3 + (first - 3) / 64 * 64), (first - 3) % 64);
    std::vector<std::byte> block(policy.block_bytes());
    policy.encode({keys.data() + first * dim, 21, dim}, place, block.data());
    for (std::size_t t = 0; t < 21; ++t) policy.decode(block.data(), t, place, coded_keys.data() + (first + t) * dim);
    const auto query = normal_floats(dim, 3);
    std::vector<float> out(dim);
    Workspace<AnyKeys, AnyValues> workspace;
    attend(head, {query.data(), 1, dim}, out.data(), dim, workspace, {.code_waiting = true});
    const auto expected = attention(query.data(), coded_keys, coded_values, count, dim, 1 / std::sqrt(32.0));
    for (std::size_t d = 0; d < dim; ++d) REQUIRE(std::fabs(static_cast<double>(out[d]) - expected[d]) <= float_tolerance);
  }
}
