// What the tokens of the next block learn of the attention that they get: every way of collecting it against its definition in
// double, and what becomes of it.
#include <cstring>

#include "pqkv/io/file.hpp"
#include "support/saved_heads.hpp"
#include "support/sequence.hpp"
#include "support/two_threads.hpp"

using namespace pqkv;
using namespace pqkv::test;
using saved_heads::saved;

namespace {

/// Weights are at most 1, of exact keys by float sums, and up to 3 · 64 of them are added.
constexpr double tolerance = 2e-5;
constexpr std::size_t dim = 32, group = 3;

using Head = HeadCache<ExactKeys, HeavyValues<Turbo2Values>>;

HeavyValues<Turbo2Values> heavy(std::size_t tokens = 4) {
  return HeavyValues<Turbo2Values>::make(Turbo2Values::make(dim).value(), tokens).value();
}

std::shared_ptr<const Rope> rope() { return std::make_shared<const Rope>(Rope::with_base(dim, 100.0)); }

const std::vector<float> slopes = {0.5f, 0.125f, 0.02f};
const std::vector<float> logits = {1.0f, -2.0f, 3.0f};
const std::vector<float> bias = normal_floats(1000, 99);

std::vector<std::pair<const char*, AttendOptions>> cases() {
  return {{"none", {}},
          {"scale", {.scale = 0.6f}},
          {"soft cap", {.soft_cap = 1.5f}},
          {"window", {.sliding_window = 40}},
          {"sinks", {.sink_logits = logits}},
          {"slopes", {.alibi_slopes = slopes}},
          {"bias", {.bias = bias}}};
}

/// Adds to each token's saliency what the newest token's queries give it, if it is of the next block and they are behind that.
void collect64(const Head& head, const std::vector<ReferenceToken>& tokens, const float* queries, const AttendOptions& options,
               std::vector<double>& saliency) {
  const std::size_t first = head.sinks().tokens() + head.sealed_tokens();
  if (tokens.size() <= first + block_tokens) return;
  auto marked = tokens;  // a token's value says which of the block's it is: the output is the weights
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    marked[t].value.assign(dim, 0.0);
    if (t >= first && t < first + block_tokens) marked[t].value[t - first] = 1;
  }
  for (std::size_t q = 0; q < group; ++q) {
    ReferenceOptions reference;
    reference.scale = options.scale != 0 ? static_cast<double>(options.scale) : 1 / std::sqrt(static_cast<double>(dim));
    reference.soft_cap = static_cast<double>(options.soft_cap);
    reference.window = static_cast<std::int64_t>(options.sliding_window);
    if (!options.alibi_slopes.empty()) reference.slope = static_cast<double>(options.alibi_slopes[q]);
    if (!options.sink_logits.empty()) reference.sink = static_cast<double>(options.sink_logits[q]);
    if (!options.bias.empty()) reference.bias.assign(options.bias.begin(), options.bias.end());
    reference.query_position = tokens.back().position;
    const auto weights = reference_attention(queries + q * dim, dim, marked, *rope(), reference);
    for (std::size_t i = 0; i < block_tokens; ++i) saliency[first + i] += weights[i];
  }
}

/// Whether the tokens of the window know what they should.
void require_known(const Head& head, const std::vector<double>& saliency) {
  const std::size_t first = head.sinks().tokens() + head.sealed_tokens();
  for (std::size_t i = 0; i < head.recent().tokens(); ++i) {
    INFO("token " << first + i << " on " << isa::best().name);
    REQUIRE(std::fabs(static_cast<double>(head.recent().saliency(i)) - saliency[first + i]) <= tolerance);
  }
}

struct Text {
  std::vector<float> queries, keys, values;
  explicit Text(std::size_t tokens)
      : queries(normal_floats(tokens * group * dim, 1)), keys(normal_floats(tokens * dim, 2)),
        values(normal_floats(tokens * dim, 3)) {}
  [[nodiscard]] Rows key(std::size_t first, std::size_t count) const { return {keys.data() + first * dim, count, dim}; }
  [[nodiscard]] Rows value(std::size_t first, std::size_t count) const { return {values.data() + first * dim, count, dim}; }
  [[nodiscard]] FloatRows query(std::size_t t) const { return {queries.data() + t * group * dim, group, dim}; }
};

/// Appends tokens and attends to them one by one.
void decode(Head& head, const Text& text, std::size_t first, std::size_t count, const AttendOptions& options = {}) {
  Workspace<ExactKeys, HeavyValues<Turbo2Values>> workspace;
  std::vector<float> out(group * dim);
  for (std::size_t t = first; t < first + count; ++t) {
    REQUIRE(head.append(text.key(t, 1), text.value(t, 1)));
    attend_and_collect(head, text.query(t), out.data(), dim, workspace, options);
  }
}

/// The same as one chunk.
void prompt(Head& head, const Text& text, std::size_t first, std::size_t count, const AttendOptions& options = {}) {
  Workspace<ExactKeys, HeavyValues<Turbo2Values>> workspace;
  std::vector<float> out(count * group * dim);
  REQUIRE(extend(head, {text.queries.data() + first * group * dim, count, group, group * dim, dim}, text.key(first, count),
                 text.value(first, count), {out.data(), count, group, group * dim, dim}, workspace, options));
}

/// Value blocks, one behind the other.
std::vector<std::byte> value_bytes(const Head& head) {
  std::vector<std::byte> bytes;
  for (const Run& run : head.runs()) {
    for (std::size_t b = 0; b < run.blocks(); ++b) {
      const std::byte* block = head.store().value_block(run.first_block + b);
      bytes.insert(bytes.end(), block, block + head.values().block_bytes());
    }
  }
  return bytes;
}

}  // namespace

TEST_CASE("decoding steps leave the weights of queries behind the next block with its tokens") {
  const std::size_t tokens = 150;
  const Text text(tokens);
  for (const auto& [name, options] : cases()) {
    INFO(name);
    Head head(ExactKeys{dim}, heavy(), {.sinks = 3, .recent = 20, .rope = rope()});
    Workspace<ExactKeys, HeavyValues<Turbo2Values>> workspace;
    std::vector<ReferenceToken> reference;
    std::vector<double> saliency(tokens);
    std::vector<float> out(group * dim), plain(group * dim);
    for (std::size_t t = 0; t < tokens; ++t) {
      REQUIRE(head.append(text.key(t, 1), text.value(t, 1)));
      const float* key = text.keys.data() + t * dim;
      reference.push_back({as_doubles(key, dim), {}, static_cast<std::int64_t>(t), 0});
      attend(std::as_const(head), text.query(t), plain.data(), dim, workspace, options);
      attend_and_collect(head, text.query(t), out.data(), dim, workspace, options);
      REQUIRE(out == plain);
      collect64(head, reference, text.query(t).row(0), options, saliency);
      require_known(head, saliency);
    }
    CHECK(head.sealed_tokens() == 96);
    CHECK(std::any_of(saliency.begin() + 99, saliency.end(), [](double x) { return x > 0; }));
  }
}

TEST_CASE("chunks of prompt, however long, collect what their tokens one by one would have") {
  const std::size_t tokens = 400;
  const Text text(tokens);
  for (const auto& [name, options] : cases()) {
    for (const auto& [sinks, recent] : {std::pair{3, 20}, {0, 32}, {40, 0}, {0, 70}}) {
      const CacheOptions cache{.sinks = static_cast<std::size_t>(sinks), .recent = static_cast<std::size_t>(recent)};
      Head one_by_one(ExactKeys{dim}, heavy(), cache);
      decode(one_by_one, text, 0, tokens, options);
      for (const std::vector<std::size_t>& chunks : {std::vector<std::size_t>{400}, {7, 50, 3, 100, 240}, {90, 1, 1, 308}}) {
        INFO(name << ", " << sinks << " sinks, " << recent << " recent, chunks from " << chunks.front());
        Head head(ExactKeys{dim}, heavy(), cache);
        std::size_t first = 0;
        for (const std::size_t count : chunks) {
          prompt(head, text, first, count, options);
          first += count;
        }
        REQUIRE(head.recent().tokens() == one_by_one.recent().tokens());
        for (std::size_t i = 0; i < head.recent().tokens(); ++i) {
          const auto difference = static_cast<double>(head.recent().saliency(i) - one_by_one.recent().saliency(i));
          REQUIRE(std::fabs(difference) <= tolerance);
        }
        REQUIRE(value_bytes(head) == value_bytes(one_by_one));
      }
    }
  }
}

TEST_CASE("keys whose blocks have half as many tokens make the next block half as long") {
  const std::size_t tokens = 120;
  const Text text(tokens);
  const auto keys = SpacedKeys<ExactKeys>::make(ExactKeys{dim}, random_space(dim, {.rotary = dim, .run_tokens = 16})).value();
  HeadCache head(keys, heavy(), CacheOptions{.recent = 20});
  auto chunked = head.fork().value();
  Workspace<SpacedKeys<ExactKeys>, HeavyValues<Turbo2Values>> workspace;
  std::vector<float> out(tokens * group * dim);
  for (std::size_t t = 0; t < tokens; ++t) {
    REQUIRE(head.append(text.key(t, 1), text.value(t, 1)));
    attend_and_collect(head, text.query(t), out.data(), dim, workspace);
    const std::size_t known = head.recent().tokens() > 16 ? 16 : 0;
    for (std::size_t i = 0; i < head.recent().tokens(); ++i) REQUIRE((head.recent().saliency(i) > 0) == (i < known));
  }
  REQUIRE(extend(chunked, {text.queries.data(), tokens, group, group * dim, dim}, text.key(0, tokens), text.value(0, tokens),
                 {out.data(), tokens, group, group * dim, dim}, workspace));
  for (std::size_t i = 0; i < head.recent().tokens(); ++i) {
    const auto difference = static_cast<double>(head.recent().saliency(i) - chunked.recent().saliency(i));
    REQUIRE(std::fabs(difference) <= 10 * tolerance);  // its keys are turned there and back
  }
}

TEST_CASE("a layer and a batch collect what their heads would have, and their outputs are as without") {
  constexpr std::size_t kv_heads = 2, tokens = 90;
  const auto rows = normal_floats(tokens * kv_heads * dim, 4);
  const auto queries = normal_floats(tokens * kv_heads * group * dim, 5);
  using Cache = CompressedKVCache<ExactKeys, HeavyValues<Turbo2Values>>;
  const auto make = [&] { return Cache::make({1, kv_heads, dim}, {ExactKeys{dim}}, {heavy()}, {.recent = 32}).value(); };
  const std::vector<float> all_slopes = {0.5f, 0.125f, 0.02f, 0.0f, 0.25f, 1.0f};
  const std::vector<float> all_logits = {1.0f, -2.0f, 3.0f, 0.5f, 0.0f, 4.0f};
  const AttendOptions options{.sink_logits = all_logits, .alibi_slopes = all_slopes};
  Cache layer = make(), batched = make(), plain = make();
  auto workspaces = make_workspaces(layer, group, 2);
  std::vector<Head> heads;
  for (std::size_t h = 0; h < kv_heads; ++h) heads.emplace_back(ExactKeys{dim}, heavy(), CacheOptions{.recent = 32});
  std::vector<float> out(kv_heads * group * dim), expected(out.size()), other(out.size());
  for (std::size_t t = 0; t < tokens; ++t) {
    const Rows row(rows.data() + t * kv_heads * dim, 1, kv_heads * dim);
    for (Cache* cache : {&layer, &batched, &plain}) REQUIRE(cache->append_layer(0, row, row));
    const FloatRows mine(queries.data() + t * kv_heads * group * dim, kv_heads * group, dim);
    attend_layer_and_collect(layer, 0, mine, out.data(), dim, workspaces, options, TwoThreads{});
    const SequenceStep<ExactKeys, HeavyValues<Turbo2Values>> step{&batched, mine, other.data(), dim, options, &batched};
    attend_batch(0, std::span(&step, 1), workspaces, TwoThreads{});
    attend_layer(plain, 0, mine, expected.data(), dim, workspaces, options);
    for (std::size_t h = 0; h < kv_heads; ++h) {
      REQUIRE(heads[h].append(layer.head_rows(row, h), layer.head_rows(row, h)));
      attend_and_collect(heads[h], mine.slice(h * group, group), expected.data() + h * group * dim, dim, workspaces[0],
                         options.of_heads(h * group, group));
    }
    REQUIRE(out == expected);
    REQUIRE(out == other);
  }
  for (std::size_t h = 0; h < kv_heads; ++h) {
    REQUIRE(value_bytes(layer.head(0, h)) == value_bytes(heads[h]));
    for (std::size_t i = 0; i < heads[h].recent().tokens(); ++i) {
      REQUIRE(layer.head(0, h).recent().saliency(i) == heads[h].recent().saliency(i));
      REQUIRE(batched.head(0, h).recent().saliency(i) == heads[h].recent().saliency(i));
      REQUIRE(plain.head(0, h).recent().saliency(i) == 0);
    }
  }
}

TEST_CASE("what a token knows stays with it through edits and forks, and moved tokens learn as moved ones") {
  const Text text(300);
  Head head(ExactKeys{dim}, heavy(), {.sinks = 2, .recent = 40, .rope = rope()});
  decode(head, text, 0, 100);
  std::vector<float> known;
  for (std::size_t i = 0; i < head.recent().tokens(); ++i) known.push_back(head.recent().saliency(i));
  REQUIRE(known.size() == 66);
  REQUIRE(known[31] > 0);
  const auto fork = head.fork().value();
  const std::size_t first = head.tokens() - known.size();
  REQUIRE(head.erase({first + 5, 2}));
  REQUIRE(head.shift({first, head.tokens() - first}, 1000));
  head.truncate(head.tokens() - 10);
  known.erase(known.begin() + 5, known.begin() + 7);
  for (std::size_t i = 0; i < head.recent().tokens(); ++i) REQUIRE(head.recent().saliency(i) == known[i]);
  for (std::size_t i = 0; i < 5; ++i) REQUIRE(fork.recent().saliency(i) == known[i]);

  // On it goes, by the definition.
  std::vector<ReferenceToken> reference = tokens_of(head);  // with keys as they stand
  std::vector<double> saliency(head.tokens());
  std::copy(known.begin(), known.end() - 10, saliency.begin() + static_cast<std::ptrdiff_t>(first));
  Workspace<ExactKeys, HeavyValues<Turbo2Values>> workspace;
  std::vector<float> out(group * dim);
  for (std::size_t t = 100; t < 106; ++t) {
    REQUIRE(head.append(text.key(t, 1), text.value(t, 1)));
    reference.push_back({as_doubles(text.keys.data() + t * dim, dim), {}, head.next_position() - 1, 0});
    saliency.push_back(0);
    attend_and_collect(head, text.query(t), out.data(), dim, workspace);
    collect64(head, reference, text.query(t).row(0), {}, saliency);
  }
  require_known(head, saliency);
}

TEST_CASE("a saved window still knows, and what cannot be known is refused") {
  const Text text(200);
  Head head(ExactKeys{dim}, heavy(), {.sinks = 2, .recent = 40});
  decode(head, text, 0, 100);
  const auto bytes = saved(head);
  MemorySource source(bytes);
  auto again = load_head(source, ExactKeys{dim}, heavy(), test_checksum()).value();
  decode(head, text, 100, 80);
  decode(again, text, 100, 80);
  CHECK(saved(head) == saved(again));

  head.add_saliency(0, -1e9f);
  const auto lie = saved(head);
  MemorySource bad(lie);
  const auto result = load_head(bad, ExactKeys{dim}, heavy(), test_checksum());
  REQUIRE_FALSE(result);
  CHECK(result.error().message.find("saliency of -1") != std::string::npos);
  // Formats that do not ask: files are as they were, and nothing is collected.
  HeadCache plain(ExactKeys{dim}, Turbo2Values::make(dim).value(), CacheOptions{.recent = 40});
  Workspace<ExactKeys, Turbo2Values> workspace;
  std::vector<float> out(100 * group * dim);
  REQUIRE(extend(plain, {text.queries.data(), 100, group, group * dim, dim}, text.key(0, 100), text.value(0, 100),
                 {out.data(), 100, group, group * dim, dim}, workspace));
  attend_and_collect(plain, text.query(0), out.data(), dim, workspace);
  for (std::size_t i = 0; i < plain.recent().tokens(); ++i) REQUIRE(plain.recent().saliency(i) == 0);
}

TEST_CASE("where nothing is known errors decide, and slots without a token are never finer") {
  Text text(60);
  for (std::size_t d = 0; d < dim; ++d) text.values[4 * dim + d] *= 5;  // what empty slots behind it repeat
  Head head(ExactKeys{dim}, heavy(), {.recent = 20});
  REQUIRE(head.append(text.key(0, 40), text.value(0, 40)));
  REQUIRE(head.erase({5, 3}));
  REQUIRE(head.append(text.key(40, 20), text.value(40, 20)));
  REQUIRE(head.sealed_tokens() == 29);
  const Turbo2Values coarse = Turbo2Values::make(dim).value();
  std::vector<std::byte> block(coarse.block_bytes());
  std::vector<float> key(dim), value(dim), plain(dim);
  std::size_t finer = 0;
  for (std::size_t t = 0; t < 29; ++t) {
    const float* row = text.values.data() + (t < 5 ? t : t + 3) * dim;
    coarse.encode({row, 1, dim}, block.data());
    coarse.decode(block.data(), 0, plain.data());
    head.decode(t, key.data(), value.data());
    finer += value != plain ? 1 : 0;
    CHECK((t != 4 || value != plain));
  }
  CHECK(finer == 4);
}

TEST_CASE("a block keeps those of its tokens finer that queries behind it asked for") {
  const std::size_t tokens = 64;
  Text text(tokens);
  const std::vector<std::size_t> asked = {3, 11, 12, 30};
  for (std::size_t t = 32; t < tokens; ++t) {  // queries that are the keys of those tokens
    for (std::size_t q = 0; q < group; ++q) {
      for (std::size_t d = 0; d < dim; ++d) {
        text.queries[(t * group + q) * dim + d] = 3 * text.keys[asked[(t + q) % 4] * dim + d];
      }
    }
  }
  Head head(ExactKeys{dim}, heavy(), {.recent = 32});
  decode(head, text, 0, tokens);
  REQUIRE(head.sealed_tokens() == 32);
  const Turbo2Values coarse = Turbo2Values::make(dim).value();
  std::vector<std::byte> block(coarse.block_bytes());
  coarse.encode({text.values.data(), 32, dim}, block.data());
  std::vector<float> key(dim), value(dim), plain(dim);
  for (std::size_t t = 0; t < 32; ++t) {
    head.decode(t, key.data(), value.data());
    coarse.decode(block.data(), t, plain.data());
    REQUIRE((value != plain) == (std::find(asked.begin(), asked.end(), t) != asked.end()));
  }
}
