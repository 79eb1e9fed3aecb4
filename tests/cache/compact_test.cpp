// compact: the same tokens in fewer blocks, before and after whatever else happens to a sequence.
#include <map>

#include "catch.hpp"
#include "pqkv/io/sequence_file.hpp"
#include "support/checksum.hpp"
#include "support/policies.hpp"
#include "support/sequence.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr std::size_t dim = 16;
constexpr double table_tolerance = 8e-2;      // 8-bit tables
constexpr double attention_tolerance = 5e-3;  // 15-bit weights
using Head = HeadCache<AnyKeys, AnyValues>;

CacheOptions options() {
  CacheOptions options{.sinks = 2, .recent = 5};
  options.rope = std::make_shared<const Rope>(Rope::with_base(dim, 1e4));
  return options;
}

Head filled(const AnyKeys& keys, const AnyValues& values, std::size_t tokens) {
  Head head(keys, values, options());
  const auto rows = normal_floats(2 * tokens * dim, 3);
  REQUIRE(head.append(Rows(rows.data(), tokens, dim), Rows(rows.data() + tokens * dim, tokens, dim)).ok());
  return head;
}

std::vector<TokenRange> all_but_every(std::size_t step, std::size_t tokens) {
  std::vector<TokenRange> ranges;
  for (std::size_t t = 2; t + step <= tokens; t += step) ranges.push_back({t, step - 1});
  return ranges;
}

/// The fewest blocks that hold the sealed tokens, where codes keep to the origin of their run.
std::size_t fewest_blocks(const Head& head) {
  if (!head.keys().needs_origin()) return (head.sealed_tokens() + 31) / 32;
  std::map<std::int64_t, std::size_t> live;
  for (const Run& run : head.runs()) live[run.origin] += run.live;
  std::size_t blocks = 0;
  for (const auto& [origin, tokens] : live) blocks += (tokens + 31) / 32;
  return blocks;
}

std::size_t blocks_of(const Head& head) {
  std::size_t blocks = 0;
  for (const Run& run : head.runs()) blocks += run.blocks();
  return blocks;
}

void require_same_tokens(const Head& head, const std::vector<ReferenceToken>& expected) {
  const auto tokens = tokens_of(head);
  REQUIRE(tokens.size() == expected.size());
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    INFO("token " << t);
    REQUIRE(tokens[t].position == expected[t].position);
    REQUIRE(tokens[t].key == expected[t].key);
    REQUIRE(tokens[t].value == expected[t].value);
  }
  std::vector<std::int64_t> positions(head.tokens());
  head.sequence().positions(positions.data());
  for (std::size_t t = 0; t < tokens.size(); ++t) REQUIRE(positions[t] == expected[t].position);
}

/// Attention, and the weights that policies see, equal those over the tokens as they decode, in double.
void require_attends(const Head& head) {
  const double tolerance = has_byte_tables(head.keys()) ? table_tolerance : attention_tolerance;
  const auto query = normal_floats(dim, 9);
  const auto tokens = tokens_of(head);
  REQUIRE(attention_error(head, query, tokens, *head.options().rope) < tolerance);
  std::vector<float> scores(tokens.size());
  Workspace<AnyKeys, AnyValues> workspace;
  token_scores(head, {query.data(), 1, dim}, scores.data(), scores.size(), workspace, {.scale = 1 / float(dim)});
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    double expected = 0;
    for (std::size_t d = 0; d < dim; ++d) expected += double(query[d]) * tokens[t].key[d] / double(dim);
    REQUIRE(std::fabs(double(scores[t]) - expected) < tolerance);
  }
}

/// A format whose codes may go anywhere, and one that takes RoPE and a turning mean out by runs of 64.
std::vector<AnyKeys> still_and_turning() {
  const Pq8Keys keys = Pq8Keys::make(random_codebook(dim, 4, 256)).value();
  const SpaceChoice choice{.rotary = dim, .run_tokens = 64, .mean = true};
  return {keys, SpacedKeys<Pq8Keys>::make(keys, random_space(dim, choice)).value()};
}

}  // namespace

TEST_CASE("compaction keeps every token as it is, in as few blocks as they need") {
  for (const AnyKeys& keys : key_policies(dim)) {
    for (const AnyValues& values : {AnyValues(ExactValues(dim)), AnyValues(Int4Values::make(dim, 16).value())}) {
      Head head = filled(keys, values, 700);
      REQUIRE(head.erase(all_but_every(8, 690)).ok());
      const auto before = tokens_of(head);
      const std::size_t blocks = blocks_of(head);
      const auto fewer = compact(head);
      INFO(keys.describe());
      if (!keys.rows_move()) {
        REQUIRE(!fewer);
        CHECK(fewer.error().code == Errc::invalid_parameter);
        require_same_tokens(head, before);
        continue;
      }
      REQUIRE(bool(fewer));
      CHECK(blocks_of(head) == fewest_blocks(head));
      CHECK(*fewer == blocks - blocks_of(head));
      CHECK(*fewer > (keys.run_tokens() == unlimited_tokens ? 15 : 9));
      require_same_tokens(head, before);
      require_attends(head);
      CHECK(*compact(head) == 0);  // nothing left to do
    }
  }
}

TEST_CASE("compaction gives memory back") {
  Head head = filled(ExactKeys(dim), ExactValues(dim), 16384);
  const std::size_t full = head.bytes();
  REQUIRE(head.erase(all_but_every(8, 16370)).ok());
  head.trim();
  CHECK(head.bytes() > full);  // every block still has a token, and the runs have holes
  REQUIRE(bool(compact(head)));
  head.trim();
  CHECK(head.bytes() < full / 3);
}

TEST_CASE("codes that keep to the origin of their run are gathered in it, and nowhere else") {
  Head head = filled(still_and_turning()[1], ExactValues(dim), 2 + 4 * 64 + 5);
  // Of the runs at 2, 66, 130 and 194 one loses nothing, two are thinned out, one is left with a token in each block.
  std::vector<TokenRange> ranges = {{66, 60}, {130, 10}, {145, 40}, {195, 40}, {236, 20}};
  REQUIRE(head.erase(ranges).ok());
  const auto before = tokens_of(head);
  CHECK(blocks_of(head) == 2 + 1 + 2 + 2);
  const auto fewer = compact(head);
  REQUIRE(bool(fewer));
  CHECK(*fewer == 2);
  REQUIRE(head.runs().size() == 4);
  for (std::size_t i = 0; i < 4; ++i) CHECK(head.runs()[i].origin == 2 + 64 * std::int64_t(i));
  CHECK(!head.runs()[0].is_compacted());
  CHECK(head.runs()[2].is_compacted());
  require_same_tokens(head, before);
  require_attends(head);
}

TEST_CASE("a compacted sequence is edited, forked, compacted again and saved like any other") {
  for (const AnyKeys& keys : still_and_turning()) {
    const AnyValues values = Int8Values::make(dim, 16).value();
    Head head = filled(keys, values, 600);
    REQUIRE(head.erase(all_but_every(4, 590)).ok());
    const Head fork = std::move(head.fork()).value();
    const auto shared = tokens_of(fork);
    REQUIRE(bool(compact(head)));
    require_same_tokens(fork, shared);
    require_same_tokens(head, shared);

    auto expected = shared;
    const auto drop = [&](std::size_t first, std::size_t count) {
      expected.erase(expected.begin() + std::ptrdiff_t(first), expected.begin() + std::ptrdiff_t(first + count));
    };
    REQUIRE(head.erase({40, 7}).ok());
    drop(40, 7);
    require_same_tokens(head, expected);
    REQUIRE(head.erase({10, 70}).ok());  // whole blocks go
    drop(10, 70);
    require_same_tokens(head, expected);
    // A shift cuts the run; keys turn, so only positions are compared, and attention.
    REQUIRE(head.shift({20, 17}, 1000).ok());
    for (std::size_t t = 20; t < 37; ++t) expected[t].position += 1000;
    for (std::size_t t = 0; t < expected.size(); ++t) REQUIRE(head.position(t) == expected[t].position);
    require_attends(head);
    expected = tokens_of(head);
    REQUIRE(bool(compact(head, 1.0)));
    require_same_tokens(head, expected);

    MemorySink sink;
    REQUIRE(save_head(sink, head, test_checksum()).ok());
    MemorySource source(sink.bytes());
    auto loaded = load_head(source, keys, values, test_checksum(), {.rope = head.options().rope});
    REQUIRE(bool(loaded));
    require_same_tokens(*loaded, expected);
    require_attends(*loaded);

    const std::int64_t next = head.position(30);
    head.truncate(30);
    expected.resize(30);
    require_same_tokens(head, expected);
    CHECK(head.next_position() == next);
    const auto rows = normal_floats(100 * dim, 5);
    REQUIRE(head.append(Rows(rows.data(), 100, dim), Rows(rows.data(), 100, dim)).ok());
    for (std::size_t t = 0; t < 100; ++t) CHECK(head.position(30 + t) == next + std::int64_t(t));
    require_attends(head);
  }
}

TEST_CASE("rules that depend on positions see a compacted token where it stands") {
  Head head = filled(ExactKeys(dim), ExactValues(dim), 400);
  REQUIRE(head.erase(all_but_every(3, 390)).ok());
  const auto tokens = tokens_of(head);
  const float slope = 0.02f;
  const auto query = normal_floats(dim, 8), bias = normal_floats(tokens.size(), 4);
  const AttendOptions rules{.sliding_window = 170, .alibi_slopes = std::span(&slope, 1), .bias = bias};
  ReferenceOptions reference;
  reference.scale = 1 / std::sqrt(double(dim));
  reference.window = 170;
  reference.slope = double(slope);
  reference.bias = {bias.begin(), bias.end()};
  reference.query_position = 399;
  const auto expected = reference_attention(query.data(), dim, tokens, *head.options().rope, reference);
  REQUIRE(bool(compact(head)));
  Workspace<AnyKeys, AnyValues> workspace;
  std::vector<float> out(dim);
  attend(head, {query.data(), 1, dim}, out.data(), dim, workspace, rules);
  for (std::size_t d = 0; d < dim; ++d) CHECK(std::fabs(double(out[d]) - expected[d]) < 1e-4);
}

TEST_CASE("without room compaction changes nothing") {
  const AnyKeys keys = Pq8Keys::make(random_codebook(dim, 4, 256)).value();
  const AnyValues values = Int8Values::make(dim, 16).value();
  const std::size_t page = BlockBytes{keys.block_bytes(), values.block_bytes()}.page(4);
  std::vector<std::byte> memory(5 * (page + 64));
  CacheOptions small = options();
  small.pages = PagePool::make(memory, 4, page).value();
  Head head(keys, values, small);
  const auto rows = normal_floats(640 * dim, 3);
  REQUIRE(head.append(Rows(rows.data(), 640, dim), Rows(rows.data(), 640, dim)).ok());
  REQUIRE(head.erase(all_but_every(2, 630)).ok());
  const auto before = tokens_of(head);
  const auto fewer = compact(head);
  REQUIRE(!fewer);
  CHECK(fewer.error().code == Errc::cache_full);
  require_same_tokens(head, before);
}

TEST_CASE("full blocks stay where they are") {
  Head head = filled(Pq8Keys::make(random_codebook(dim, 4, 256)).value(), ExactValues(dim), 700);
  REQUIRE(head.shift({300, 200}, 5).ok());  // runs of their own
  REQUIRE(head.erase(all_but_every(8, 290)).ok());
  const auto before = tokens_of(head);
  const std::byte* dense = head.store().key_block(head.runs()[1].first_block);
  REQUIRE(bool(compact(head)));
  require_same_tokens(head, before);
  CHECK(head.store().key_block(head.runs()[1].first_block) == dense);
  CHECK(!head.runs()[1].is_compacted());
  CHECK(head.runs()[0].is_compacted());
}
