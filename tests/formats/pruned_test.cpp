// PrunedKeys: which channels stay, and that the others count as zero. Conformance is in conformance_test.cpp.
#include "catch.hpp"
#include "pqkv/keys/pruned.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

TEST_CASE("channels stay by the product of their lengths in queries and keys") {
  // ‖Q_c‖²·‖K_c‖² = 1·4, 2·1, 0·9, 4·1.
  const std::vector<float> queries{1, 1, 0, 0, 0, 1, 0, 2};
  const std::vector<float> keys{2, 1, 3, 1};
  CHECK(strongest_channels({queries.data(), 2, 4}, {keys.data(), 1, 4}, 2) == std::vector<std::size_t>{0, 3});
  CHECK(strongest_channels({queries.data(), 2, 4}, {keys.data(), 1, 4}, 3) == std::vector<std::size_t>{0, 1, 3});
  CHECK(strongest_channels({queries.data(), 2, 4}, {keys.data(), 1, 4}, 1) == std::vector<std::size_t>{0});  // 4 and 4: the first
}

TEST_CASE("pruned keys score by the channels that are left, in less memory") {
  constexpr std::size_t dim = 16;
  const std::vector<std::size_t> channels{1, 2, 5, 8, 9, 10, 14, 15};
  const auto keys = PrunedKeys<ExactKeys>::make(ExactKeys(8), channels, dim);
  REQUIRE(bool(keys));
  CHECK(keys->describe() == "exact:f32:channels=8/16");
  const auto others = PrunedKeys<ExactKeys>::make(ExactKeys(8), {0, 2, 5, 8, 9, 10, 14, 15}, dim);
  CHECK(keys->codebook_id() != others->codebook_id());  // a saved sequence would mean something else
  CHECK(keys->block_bytes() == ExactKeys(dim).block_bytes() / 2);
  HeadCache head(*keys, ExactValues(dim), {.sinks = 2, .recent = 3});
  const auto rows = normal_floats(200 * dim, 1), query = normal_floats(dim, 2);
  REQUIRE(head.append(Rows(rows.data(), 200, dim), Rows(rows.data(), 200, dim)).ok());
  Workspace<PrunedKeys<ExactKeys>, ExactValues> workspace;
  std::vector<float> scores(200);
  token_scores(head, {query.data(), 1, dim}, scores.data(), 200, workspace, {.scale = 1});
  for (std::size_t t = 0; t < 200; ++t) {
    double expected = 0;
    const bool whole = t < 2 || t >= 2 + head.sealed_tokens();
    for (std::size_t c = 0; c < dim; ++c) {
      if (whole || std::binary_search(channels.begin(), channels.end(), c)) expected += double(query[c]) * double(rows[t * dim + c]);
    }
    CHECK(std::fabs(double(scores[t]) - expected) < 1e-4);
  }
  for (const auto& wrong : {std::vector<std::size_t>{2, 1, 5, 8, 9, 10, 14, 15}, {1, 1, 5, 8, 9, 10, 14, 15},
                            {1, 2, 5, 8, 9, 10, 14, 16}, {1, 2, 5}, {}}) {
    CHECK(PrunedKeys<ExactKeys>::make(ExactKeys(8), wrong, dim).error().code == Errc::invalid_shape);
  }
}
