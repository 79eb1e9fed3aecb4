// Erasing, moving, replacing and merging tokens: against rows in double that were turned one by one.
#include <numeric>

#include "catch.hpp"
#include "support/allocations.hpp"
#include "support/policies.hpp"
#include "support/sequence.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr double attention_tolerance = 5e-3;  // weights of integer values are rounded to 8 bits (isa/kernels.hpp)
constexpr double table_tolerance = 3e-2;      // pq4 keys: 8-bit tables move scores by some thousandths
constexpr double exact_tolerance = 2e-5;      // exact rows; angles in float

constexpr std::size_t dim = 32;
using ExactHead = HeadCache<ExactKeys, ExactValues>;

/// The ways in which models turn rows.
std::vector<Rope> ropes() {
  std::vector<double> stretched;  // some other table: YaRN's or a linear scaling's
  for (std::size_t i = 0; i < dim / 2; ++i)
    stretched.push_back(std::pow(5e5, -static_cast<double>(i) / 16.0) / (i < 8 ? 1 : 4));
  return {Rope::with_base(dim, 1e4),
          Rope::with_base(dim, 1e4, RopePairing::half_split),
          Rope::with_base(dim / 2, 1e4),
          Rope::with_base(dim / 4, 5e5, RopePairing::half_split),
          Rope(stretched, RopePairing::half_split),
          Rope()};
}

CacheOptions with_rope(const Rope& rope, CacheOptions options = {.sinks = 3, .recent = 20}) {
  options.rope = std::make_shared<const Rope>(rope);
  return options;
}

template <class Head>
void append_rows(Head& head, std::size_t tokens, std::uint64_t seed) {
  const auto keys = normal_floats(tokens * dim, seed);
  const auto values = normal_floats(tokens * dim, seed + 1);
  REQUIRE(head.append(Rows(keys.data(), tokens, dim), Rows(values.data(), tokens, dim)));
}

void erase_from(std::vector<ReferenceToken>& tokens, TokenRange range, Gap gap) {
  tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(range.first),
               tokens.begin() + static_cast<std::ptrdiff_t>(range.end()));
  if (gap == Gap::keep) return;
  for (std::size_t t = range.first; t < tokens.size(); ++t) {
    tokens[t].position -= static_cast<std::int64_t>(range.count);
    tokens[t].shift -= static_cast<std::int64_t>(range.count);
  }
}

template <class Head>
void require_positions(const Head& head, const std::vector<ReferenceToken>& tokens) {
  REQUIRE(head.tokens() == tokens.size());
  for (std::size_t t = 0; t < tokens.size(); ++t) REQUIRE(head.position(t) == tokens[t].position);
}

/// Every key format, those in a space of their own included.
std::vector<AnyKeys> all_keys() {
  auto policies = key_policies(dim);
  CodeSpaceParts parts;
  parts.dim = dim;
  parts.rope = Rope::with_base(dim, 1e4);
  parts.run_tokens = 64;
  parts.mean = normal_floats(dim, 77);
  // R(j)·μ in full: dim basis vectors, and the turned mean itself as their factors.
  parts.term_basis.assign(dim * dim, 0.0f);
  for (std::size_t d = 0; d < dim; ++d) parts.term_basis[d * dim + d] = 1.0f;
  for (std::size_t j = 0; j < parts.run_tokens; ++j) {
    std::vector<float> row = parts.mean;
    parts.rope.turn(static_cast<double>(j), row.data());
    parts.term_rows.insert(parts.term_rows.end(), row.begin(), row.end());
  }
  const auto space = CodeSpace::make(parts).value();
  policies.emplace_back(SpacedKeys<Pq8Keys>::make(Pq8Keys::make(random_codebook(dim, 8, 256)).value(), space).value());
  return policies;
}

/// pq4 and pq6 score through tables of bytes.
bool table_error(const AnyKeys& keys) { return keys.describe().starts_with("pq4") || keys.describe().starts_with("pq6"); }

}  // namespace

TEST_CASE("what is erased is gone, the rest stays, whatever the formats") {
  const auto query = normal_floats(dim, 1);
  for (const AnyKeys& keys : all_keys()) {
    for (const AnyValues& values : {AnyValues(ExactValues(dim)), AnyValues(Int4Values::make(dim, 16).value()),
                                    AnyValues(Pq4Values::make(random_codebook(dim, 8, 16)).value())}) {
      INFO(keys.describe() << " / " << values.describe());
      const double tolerance = table_error(keys) ? table_tolerance : attention_tolerance;
      for (const TokenRange range :
           {TokenRange{0, 5}, {2, 1}, {40, 32}, {35, 32}, {35, 100}, {100, 3}, {300, 47}, {340, 7}, {0, 347}, {5, 0}}) {
        HeadCache head(keys, values, {.sinks = 3, .recent = 20});
        append_rows(head, 347, 10);
        auto tokens = tokens_of(head);
        REQUIRE(head.erase(range));
        erase_from(tokens, range, Gap::keep);
        require_positions(head, tokens);
        REQUIRE(head.next_position() == 347);
        REQUIRE(attention_error(head, query, tokens) < tolerance);
        append_rows(head, 100, 12);
        REQUIRE(head.tokens() == 447 - range.count);
        REQUIRE(head.position(head.tokens() - 1) == 446);
        REQUIRE(attention_error(head, query, tokens_of(head)) < tolerance);
      }
    }
  }
}

TEST_CASE("any tokens can be erased at once, and again") {
  ExactHead head(ExactKeys{dim}, ExactValues{dim}, {.sinks = 3, .recent = 20});
  append_rows(head, 500, 20);
  auto tokens = tokens_of(head);
  const auto query = normal_floats(dim, 2);
  Random random(3);
  while (head.tokens() > 10) {
    std::vector<TokenRange> ranges;
    for (std::size_t t = random.below(3); t < head.tokens(); t += 1 + random.below(12)) {
      const std::size_t count = std::min(head.tokens() - t, 1 + random.below(3));
      ranges.push_back({t, count});
      t += count;
    }
    REQUIRE(head.erase(ranges));
    for (std::size_t i = ranges.size(); i-- > 0;) erase_from(tokens, ranges[i], Gap::keep);
    require_positions(head, tokens);
    if (!tokens.empty()) REQUIRE(attention_error(head, query, tokens) < exact_tolerance);
    for (const Run& run : head.runs()) {
      REQUIRE(run.live >= 1);
      for (std::size_t b = 0; b < run.blocks(); ++b) REQUIRE(head.store().dead(run.first_block + b) != ~0u);
    }
  }
}

TEST_CASE("memory of erased blocks is used again") {
  ExactHead head(ExactKeys{dim}, ExactValues{dim}, {.sinks = 4, .recent = 64});
  append_rows(head, 1000, 30);
  const auto stream = [&](int steps) {  // through a window of about 1000 tokens
    for (int step = 0; step < steps; ++step) {
      REQUIRE(head.erase({4, 100}));
      append_rows(head, 100, 31);
    }
    return head.bytes();
  };
  const std::size_t settled = stream(60);
  CHECK(stream(60) == settled);
  CHECK(head.tokens() == 1000);
  REQUIRE(head.erase({4, 900}));
  head.trim();
  CHECK(head.bytes() < settled);
}

TEST_CASE("after a shift attention is that of keys turned one by one") {
  const auto query = normal_floats(dim, 4);
  for (const Rope& rope : ropes()) {
    for (const AnyKeys& keys : all_keys()) {
      INFO(keys.describe() << " rope " << rope.pairs() << " pairs");
      if (!keys.describe().starts_with("exact") && !keys.describe().starts_with("pq8")) continue;
      HeadCache head(keys, AnyValues(ExactValues(dim)), with_rope(rope));
      append_rows(head, 300, 40);
      auto tokens = tokens_of(head);
      for (const auto& [range, gap] : {std::pair{TokenRange{3, 50}, Gap::close},
                                       {{40, 10}, Gap::close},
                                       {{70, 5}, Gap::keep},
                                       {{100, 120}, Gap::close}}) {
        REQUIRE(head.erase(range, gap));
        erase_from(tokens, range, gap);
        require_positions(head, tokens);
        REQUIRE(attention_error(head, query, tokens, rope) < attention_tolerance);
      }
      REQUIRE(head.next_position() == 120);
      REQUIRE(head.shift({20, 33}, 1000));  // ends inside a block
      for (std::size_t t = 20; t < 53; ++t) tokens[t].position += 1000, tokens[t].shift += 1000;
      require_positions(head, tokens);
      REQUIRE(attention_error(head, query, tokens, rope) < attention_tolerance);
    }
  }
}

TEST_CASE("pq4 keys move too") {
  const auto query = normal_floats(dim, 4);
  const Rope rope = Rope::with_base(dim, 1e4, RopePairing::half_split);
  HeadCache head(Pq4Keys::make(random_codebook(dim, 8, 16)).value(), Int4Values::make(dim, 16).value(),
                 with_rope(rope));
  append_rows(head, 300, 42);
  auto tokens = tokens_of(head);
  REQUIRE(head.erase({10, 111}, Gap::close));
  erase_from(tokens, {10, 111}, Gap::close);
  CHECK(attention_error(head, query, tokens, rope) < table_tolerance);
}

TEST_CASE("attention over moved and erased tokens allocates nothing") {
  const auto query = normal_floats(dim, 8);
  for (const AnyKeys& keys : all_keys()) {
    HeadCache head(keys, AnyValues(Int4Values::make(dim, 16).value()), with_rope(Rope::with_base(dim, 1e4)));
    append_rows(head, 300, 44);
    Workspace<AnyKeys, AnyValues> workspace;
    workspace.reserve(head, 1);
    std::vector<float> out(dim);
    for (const TokenRange range : {TokenRange{10, 50}, {100, 3}, {200, 1}}) REQUIRE(head.erase(range, Gap::close));
    const std::size_t before = allocations();
    attend(head, {query.data(), 1, dim}, out.data(), dim, workspace, {.soft_cap = 3.0f, .sliding_window = 200});
    CHECK(allocations() == before);
  }
}

TEST_CASE("a thousand shifts lose no more than one") {
  const auto query = normal_floats(dim, 5);
  const Rope rope = Rope::with_base(dim, 1e4);
  for (const ScalarType window : {ScalarType::f32, ScalarType::f16}) {
    ExactHead head(ExactKeys{dim}, ExactValues{dim}, with_rope(rope, {.sinks = 3, .recent = 20, .window = window}));
    append_rows(head, 200, 50);
    auto tokens = tokens_of(head);
    std::int64_t moved = 0;
    for (int i = 0; i < 1000; ++i) {
      const std::int64_t delta = i % 2 == 0 ? 977 : -974;
      REQUIRE(head.shift({5, 195}, delta));
      moved += delta;
    }
    for (std::size_t t = 5; t < tokens.size(); ++t) tokens[t].position += moved, tokens[t].shift += moved;
    require_positions(head, tokens);
    CHECK(attention_error(head, query, tokens, rope) < exact_tolerance);
    CHECK(head.runs().size() <= 4);
    CHECK(head.next_position() == 200 + moved);
  }
}

TEST_CASE("rows that were moved while they were exact are sealed where they stand") {
  const auto query = normal_floats(dim, 6);
  const Rope rope = Rope::with_base(dim, 1e4, RopePairing::half_split);
  for (const ScalarType window : {ScalarType::f32, ScalarType::bf16}) {
    ExactHead head(ExactKeys{dim}, ExactValues{dim}, with_rope(rope, {.sinks = 0, .recent = 40, .window = window}));
    append_rows(head, 60, 60);
    auto tokens = tokens_of(head);
    for (const TokenRange range : {TokenRange{20, 3}, {30, 1}, {31, 5}}) {
      const Gap gap = range.first == 20 ? Gap::close : Gap::keep;
      REQUIRE(head.erase(range, gap));
      erase_from(tokens, range, gap);
    }
    append_rows(head, 200, 62);
    const auto all = tokens_of(head);
    tokens.insert(tokens.end(), all.begin() + static_cast<std::ptrdiff_t>(tokens.size()), all.end());
    require_positions(head, tokens);
    REQUIRE(head.sealed_tokens() > 100);
    CHECK(head.position(head.tokens() - 1) == 256);
    CHECK(attention_error(head, query, tokens, rope) < exact_tolerance);
  }
}

TEST_CASE("nothing moves without a Rope, and nothing changes on a bad range") {
  ExactHead head(ExactKeys{dim}, ExactValues{dim}, {.sinks = 1, .recent = 2});
  append_rows(head, 100, 70);
  const auto refused = [&](const Status& status, const char* text) {
    REQUIRE_FALSE(status);
    INFO(status.error().message);
    CHECK(status.error().code == Errc::invalid_parameter);
    CHECK(status.error().message.find(text) != std::string::npos);
    CHECK(head.tokens() == 100);
    CHECK(head.position(99) == 99);
  };
  refused(head.shift({0, 10}, 1), "CacheOptions::rope");
  refused(head.erase({0, 10}, Gap::close), "CacheOptions::rope");
  refused(head.erase({95, 6}), "tokens 95 to 101");
  refused(head.erase({std::size_t(-1), 2}), "not among the 100");
  const std::vector<TokenRange> crossed = {{10, 5}, {14, 2}};
  refused(head.erase(crossed), "tokens 14 to 16 are out of order");
  REQUIRE(head.keep_last(10));
  CHECK(head.tokens() == 10);
  CHECK(head.position(0) == 90);
  head.keep_first(4);
  CHECK(head.position(3) == 93);
  CHECK(head.next_position() == 94);
}

TEST_CASE("memory tokens take the place of a stretch and stay exact") {
  const auto query = normal_floats(dim, 7);
  HeadCache head(Pq8Keys::make(random_codebook(dim, 8, 256)).value(), Int8Values::make(dim, 16).value(),
                 {.sinks = 2, .recent = 8, .max_tokens = 400});
  append_rows(head, 300, 80);
  auto tokens = tokens_of(head);
  const auto keys = normal_floats(8 * dim, 81);
  const auto values = normal_floats(8 * dim, 82);
  std::vector<std::int64_t> positions;
  std::vector<ReferenceToken> memory;
  for (std::size_t i = 0; i < 8; ++i) {
    positions.push_back(static_cast<std::int64_t>(50 + 8 * i));
    memory.push_back(
        {as_doubles(keys.data() + i * dim, dim), as_doubles(values.data() + i * dim, dim), positions[i], 0});
  }
  const Rows key_rows(keys.data(), 8, dim), value_rows(values.data(), 8, dim);
  REQUIRE(head.replace({50, 64}, key_rows, value_rows, positions));
  erase_from(tokens, {50, 64}, Gap::keep);
  tokens.insert(tokens.begin() + 2, memory.begin(), memory.end());
  require_positions(head, tokens);
  CHECK(attention_error(head, query, tokens) < attention_tolerance);
  append_rows(head, 120, 83);
  CHECK(head.position(9) == 50 + 56);
  CHECK(head.sinks().tokens() == 10);
  auto after = tokens_of(head);
  for (std::size_t t = 0; t < 10; ++t) CHECK(after[t].key == tokens[t].key);

  const std::size_t held = head.tokens();
  CHECK(head.replace({0, 2}, key_rows, value_rows, std::span(positions).first(7)).error().code == Errc::invalid_shape);
  CHECK(head.replace({held, 1}, key_rows, value_rows, positions).error().code == Errc::invalid_parameter);
  const auto many = normal_floats(60 * dim, 84);
  const std::vector<std::int64_t> places(60, 1);
  CHECK(head.replace({0, 1}, Rows(many.data(), 60, dim), Rows(many.data(), 60, dim), places).error().code ==
        Errc::cache_full);
  CHECK(head.tokens() == held);
}

TEST_CASE("tokens merge into the open slot by their weights") {
  const auto rows = normal_floats(6 * dim, 90);
  const auto row = [&](std::size_t i) { return Rows(rows.data() + i * dim, 1, dim); };
  const Rope rope = Rope::with_base(dim, 1e4);
  ExactHead head(ExactKeys{dim}, ExactValues{dim}, with_rope(rope, {.sinks = 1, .recent = 1}));
  REQUIRE(head.append_or_merge(row(0), row(0), 1.0f, true));  // nothing to merge with
  REQUIRE(head.append_or_merge(row(1), row(1), 0.5f, false));
  REQUIRE(head.append_or_merge(row(2), row(2), 1.5f, true));
  REQUIRE(head.shift({1, 1}, 7));  // what comes in belongs to where the slot stands now
  std::vector<float> there(rows.begin() + 3 * dim, rows.begin() + 4 * dim);
  rope.turn(7.0, there.data());
  REQUIRE(head.append_or_merge(Rows(there.data(), 1, dim), row(3), 2.0f, true));
  CHECK(head.tokens() == 2);
  std::vector<float> key(dim), value(dim);
  head.decode(1, key.data(), value.data());
  rope.turn(-7.0, key.data());
  for (std::size_t d = 0; d < dim; ++d) {
    const double mean = (0.5 * static_cast<double>(rows[dim + d]) + 1.5 * static_cast<double>(rows[2 * dim + d]) +
                         2.0 * static_cast<double>(rows[3 * dim + d])) /
                        4.0;
    CHECK(std::fabs(static_cast<double>(key[d]) - mean) < exact_tolerance);
    CHECK(std::fabs(static_cast<double>(value[d]) - mean) < exact_tolerance);
  }
  CHECK(head.append_or_merge(row(4), row(4), 0.0f, true).error().code == Errc::invalid_parameter);
  CHECK(head.append_or_merge(Rows(rows.data(), 2, dim), row(4), 1.0f, true).error().code == Errc::invalid_parameter);
  ExactHead sealed(ExactKeys{dim}, ExactValues{dim});
  append_rows(sealed, 32, 91);
  const Status status = sealed.append_or_merge(row(4), row(4), 1.0f, true);
  CHECK(status.error().message.find("newest slot is sealed") != std::string::npos);
}
