// Attention over recalled tokens only: by codes, by clusters; rows from stores.
#include "catch.hpp"
#include "pqkv/retention/cluster_index.hpp"
#include "pqkv/retention/recall.hpp"
#include "support/policies.hpp"
#include "support/sequence.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr std::size_t dim = 16;
constexpr double rounding = 1e-4;

Rows rows_of(const std::vector<float>& rows, std::size_t first, std::size_t count) {
  return {rows.data() + first * dim, count, dim};
}

/// Rows as they were appended, and which were asked for.
struct Originals {
  const std::vector<float>& keys;
  const std::vector<float>& values;
  std::vector<std::size_t> asked;

  Status fetch(std::span<const std::size_t> tokens, float* out_keys, float* out_values) {
    asked.assign(tokens.begin(), tokens.end());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      std::copy_n(&keys[tokens[i] * dim], dim, out_keys + i * dim);
      std::copy_n(&values[tokens[i] * dim], dim, out_values + i * dim);
    }
    return {};
  }
};

struct Broken {
  Status fetch(std::span<const std::size_t>, float*, float*) { return Error{Errc::bad_file, "the store is gone"}; }
};
static_assert(RowStore<Originals> && RowStore<Broken> && RowStore<FinerCode<ExactKeys, ExactValues>>);

}  // namespace

TEST_CASE("recalled tokens are attended to exactly, the others not at all") {
  const auto keys = normal_floats(300 * dim, 1), values = normal_floats(300 * dim, 2), queries = normal_floats(3 * dim, 3);
  using Head = HeadCache<Pq4Keys, Int8Values>;
  Head head(Pq4Keys::make(random_codebook(dim, 4, 16)).value(), Int8Values::make(dim, 16).value(), {.sinks = 4, .recent = 20});
  REQUIRE(head.append(rows_of(keys, 0, 300), rows_of(values, 0, 300)).ok());
  Workspace<Pq4Keys, Int8Values> workspace;
  Originals store{keys, values, {}};
  std::vector<float> outs(3 * dim);
  const std::size_t sealed = head.sealed_tokens();
  const float slope = 0.01f;
  const std::vector<float> slopes(3, slope);
  for (const bool linear : {false, true}) {
    for (const std::size_t count : {std::size_t{0}, std::size_t{10}, sealed, sealed + 50}) {
      AttendOptions options;
      if (linear) options.alibi_slopes = slopes;
      REQUIRE(attend_best(head, {queries.data(), 3, dim}, count, store, outs.data(), dim, workspace, options).ok());
      REQUIRE(store.asked.size() == std::min(count, sealed));
      std::vector<ReferenceToken> tokens;
      for (std::size_t t = 0; t < 300; ++t) {
        const bool exact = t < 4 || t >= 4 + sealed;
        if (!exact && !std::binary_search(store.asked.begin(), store.asked.end(), t)) continue;
        tokens.push_back({as_doubles(&keys[t * dim], dim), as_doubles(&values[t * dim], dim), std::int64_t(t), 0});
      }
      ReferenceOptions reference;
      reference.scale = 1 / std::sqrt(double(dim));
      reference.slope = linear ? double(slope) : 0;
      reference.query_position = 299;
      for (std::size_t q = 0; q < 3; ++q) {
        const auto expected = reference_attention(&queries[q * dim], dim, tokens, Rope(), reference);
        for (std::size_t d = 0; d < dim; ++d) REQUIRE(std::fabs(double(outs[q * dim + d]) - expected[d]) < rounding);
      }
    }
  }
}

TEST_CASE("the best tokens are those of the largest weights") {
  const auto keys = normal_floats(200 * dim, 1), queries = normal_floats(2 * dim, 3);
  HeadCache<ExactKeys, ExactValues> head(ExactKeys{dim}, ExactValues{dim}, {.sinks = 4, .recent = 10});
  REQUIRE(head.append(rows_of(keys, 0, 200), rows_of(keys, 0, 200)).ok());
  Workspace<ExactKeys, ExactValues> workspace;
  const auto best = best_tokens(head, {queries.data(), 2, dim}, 12, workspace);
  std::vector<double> weights(200);
  for (std::size_t q = 0; q < 2; ++q) {
    std::vector<double> line;
    double sum = 0;
    for (std::size_t t = 0; t < 200; ++t) {
      line.push_back(std::exp(dot(&queries[q * dim], &keys[t * dim], dim) / std::sqrt(double(dim))));
      sum += line.back();
    }
    for (std::size_t t = 0; t < 200; ++t) weights[t] += line[t] / sum;
  }
  std::vector<std::size_t> order;
  for (std::size_t t = 4; t < 4 + head.sealed_tokens(); ++t) order.push_back(t);
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return weights[a] > weights[b]; });
  order.resize(12);
  std::sort(order.begin(), order.end());
  CHECK(best == order);
}

TEST_CASE("a finer code of the same tokens is a store; a store's error is attention's") {
  const auto keys = normal_floats(200 * dim, 1), query = normal_floats(dim, 3);
  HeadCache<Pq4Keys, Int4Values> head(Pq4Keys::make(random_codebook(dim, 4, 16)).value(), Int4Values::make(dim, 16).value());
  HeadCache<ExactKeys, ExactValues> fine(ExactKeys{dim}, ExactValues{dim});
  REQUIRE(head.append(rows_of(keys, 0, 200), rows_of(keys, 0, 200)).ok());
  REQUIRE(fine.append(rows_of(keys, 0, 200), rows_of(keys, 0, 200)).ok());
  Workspace<Pq4Keys, Int4Values> workspace;
  Originals originals{keys, keys, {}};
  FinerCode<ExactKeys, ExactValues> finer{fine};
  std::vector<float> expected(dim), out(dim);
  REQUIRE(attend_best(head, {query.data(), 1, dim}, 40, originals, expected.data(), dim, workspace).ok());
  REQUIRE(attend_best(head, {query.data(), 1, dim}, 40, finer, out.data(), dim, workspace).ok());
  CHECK(out == expected);
  Broken broken;
  CHECK(attend_best(head, {query.data(), 1, dim}, 40, broken, out.data(), dim, workspace).error().message == "the store is gone");
  CHECK(out == expected);
  fine.truncate(20);
  CHECK(!attend_best(head, {query.data(), 1, dim}, 150, finer, out.data(), dim, workspace).ok());
}

TEST_CASE("clusters gather like keys, and the best are recalled whole") {
  // Keys near three directions in turn, of different lengths: cosine, not distance, tells them apart.
  constexpr std::size_t tokens = 96;
  std::vector<float> keys = normal_floats(tokens * dim, 1);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t d = 0; d < dim; ++d) {
      keys[t * dim + d] *= 0.02f;
      if (d == t % 3) keys[t * dim + d] += 1.0f + float(t % 7);
    }
  }
  HeadCache<ExactKeys, ExactValues> head(ExactKeys{dim}, ExactValues{dim});
  REQUIRE(head.append(rows_of(keys, 0, tokens), rows_of(keys, 0, tokens)).ok());
  REQUIRE(head.sealed_tokens() == tokens);
  // One start in each direction is not certain with three clusters; with more, each has one direction.
  ClusterIndex index(dim);
  index.add(head, {.tokens_per_cluster = 8, .iterations = 8, .seed = 2});
  REQUIRE(index.clusters() == 12);
  CHECK(index.indexed() == tokens);
  std::vector<std::size_t> all;
  for (std::size_t c = 0; c < index.clusters(); ++c) {
    for (const std::size_t t : index.members(c)) {
      CHECK(t % 3 == index.members(c)[0] % 3);
      all.push_back(t);
    }
  }
  std::sort(all.begin(), all.end());
  for (std::size_t t = 0; t < tokens; ++t) REQUIRE(all[t] == t);
  // A query along direction 1 recalls its 32 tokens first.
  std::vector<float> query(dim);
  query[1] = 1;
  const auto recalled = index.recall({query.data(), 1, dim}, 32);
  REQUIRE(recalled.size() == 32);
  for (std::size_t i = 0; i < 32; ++i) CHECK(recalled[i] == 3 * i + 1);
  CHECK(index.recall({query.data(), 1, dim}, 5).size() == 5);
  CHECK(index.recall({query.data(), 1, dim}, 500).size() == tokens);
  // Later tokens get clusters of their own.
  REQUIRE(head.append(rows_of(keys, 0, 32), rows_of(keys, 0, 32)).ok());
  index.add(head, {.tokens_per_cluster = 8});
  CHECK(index.clusters() == 16);
  CHECK(index.indexed() == 128);
  for (std::size_t c = 12; c < 16; ++c) {
    for (const std::size_t t : index.members(c)) CHECK(t >= 96);
  }
}
