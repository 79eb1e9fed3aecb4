// Soft-capping, linear biases, sliding windows, sink logits, a bias per token: each against its definition in double, on
// every way into attention and together with erased and moved tokens.
#include "catch.hpp"
#include "support/policies.hpp"
#include "support/sequence.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr double exact_tolerance = 3e-5;  // exact rows, float sums
constexpr std::size_t dim = 32, group = 3, kv_heads = 2;
using Head = HeadCache<ExactKeys, ExactValues>;

struct Case {
  const char* name;
  AttendOptions options;
};

const std::vector<float> slopes = {0.5f, 0.125f, 0.02f, 0.0f, 0.25f, 1.0f};
const std::vector<float> logits = {1.0f, -2.0f, 3.0f, 0.5f, 0.0f, 4.0f};
const std::vector<float> bias = normal_floats(1000, 99);

std::vector<Case> cases() {
  return {{"none", {}},
          {"soft cap", {.scale = 0.7f, .soft_cap = 1.5f}},
          {"window", {.sliding_window = 37}},
          {"a window that only the newest fits in", {.sliding_window = 1}},
          {"sinks", {.sink_logits = logits}},
          {"slopes", {.alibi_slopes = slopes}},
          {"bias", {.bias = bias}},
          {"all",
           {.scale = 0.4f,
            .soft_cap = 2.0f,
            .sliding_window = 120,
            .sink_logits = logits,
            .alibi_slopes = slopes,
            .bias = bias}}};
}

ReferenceOptions reference_of(const AttendOptions& options, std::size_t query_head, std::size_t tokens,
                              std::int64_t position) {
  ReferenceOptions out;
  out.scale = options.scale != 0 ? static_cast<double>(options.scale) : 1 / std::sqrt(static_cast<double>(dim));
  out.soft_cap = static_cast<double>(options.soft_cap);
  out.window = static_cast<std::int64_t>(options.sliding_window);
  if (!options.alibi_slopes.empty()) out.slope = static_cast<double>(options.alibi_slopes[query_head]);
  if (!options.sink_logits.empty()) out.sink = static_cast<double>(options.sink_logits[query_head]);
  if (!options.bias.empty())
    out.bias.assign(options.bias.begin(), options.bias.begin() + static_cast<std::ptrdiff_t>(tokens));
  out.query_position = position;
  return out;
}

void require_equal(const float* out, const std::vector<double>& expected) {
  for (std::size_t d = 0; d < dim; ++d) REQUIRE(std::fabs(static_cast<double>(out[d]) - expected[d]) < exact_tolerance);
}

Head filled(std::size_t tokens, const Rope* rope = nullptr) {
  Head head(ExactKeys{dim}, ExactValues{dim},
            {.sinks = 3, .recent = 17, .rope = rope != nullptr ? std::make_shared<const Rope>(*rope) : nullptr});
  const auto keys = normal_floats(tokens * dim, 1);
  const auto values = normal_floats(tokens * dim, 2);
  REQUIRE(head.append(Rows(keys.data(), tokens, dim), Rows(values.data(), tokens, dim)));
  return head;
}

}  // namespace

TEST_CASE("score options are what they say") {
  const auto queries = normal_floats(group * dim, 3);
  Workspace<ExactKeys, ExactValues> workspace;
  for (const Case& each : cases()) {
    INFO(each.name);
    for (const std::size_t tokens : {1, 18, 300}) {
      const Head head = filled(tokens);
      std::vector<float> outs(group * dim);
      attend(head, {queries.data(), group, dim}, outs.data(), dim, workspace, each.options);
      for (std::size_t q = 0; q < group; ++q) {
        require_equal(outs.data() + q * dim, reference_attention(queries.data() + q * dim, dim, tokens_of(head), {},
                                                                 reference_of(each.options, q, tokens,
                                                                              static_cast<std::int64_t>(tokens) - 1)));
      }
    }
  }
}

TEST_CASE("score options follow tokens that were erased and moved") {
  const Rope rope = Rope::with_base(dim, 1e4, RopePairing::half_split);
  const auto queries = normal_floats(group * dim, 4);
  Workspace<ExactKeys, ExactValues> workspace;
  for (const Case& each : cases()) {
    INFO(each.name);
    Head head = filled(300, &rope);
    auto tokens = tokens_of(head);
    const std::vector<TokenRange> holes = {{1, 1}, {45, 3}, {50, 1}, {100, 70}, {290, 2}};
    REQUIRE(head.erase(holes));
    for (std::size_t i = holes.size(); i-- > 0;) {
      tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(holes[i].first),
                   tokens.begin() + static_cast<std::ptrdiff_t>(holes[i].end()));
    }
    REQUIRE(head.shift({60, 50}, 30));
    for (std::size_t t = 60; t < 110; ++t) tokens[t].position += 30, tokens[t].shift += 30;
    for (const std::int64_t position : {299, 320}) {
      AttendOptions options = each.options;
      options.query_position = position;
      std::vector<float> outs(group * dim);
      attend(head, {queries.data(), group, dim}, outs.data(), dim, workspace, options);
      for (std::size_t q = 0; q < group; ++q) {
        require_equal(outs.data() + q * dim, reference_attention(queries.data() + q * dim, dim, tokens, rope,
                                                                 reference_of(options, q, tokens.size(), position)));
      }
    }
  }
}

TEST_CASE("a window beyond which nothing lies gives zeros") {
  const Head head = filled(300);
  Workspace<ExactKeys, ExactValues> workspace;
  const auto query = normal_floats(dim, 5);
  std::vector<float> out(dim, 1.0f);
  attend(head, {query.data(), 1, dim}, out.data(), dim, workspace, {.sliding_window = 10, .query_position = 5000});
  for (const float x : out) REQUIRE(x == 0.0f);
  const std::vector<float> hidden(300, -1e30f);
  attend(head, {query.data(), 1, dim}, out.data(), dim, workspace, {.bias = hidden});
  for (const float x : out) REQUIRE(x == 0.0f);
}

TEST_CASE("extend keeps to the options, for the past and for the chunk") {
  const std::size_t past = 90, chunk = 60;
  const auto keys = normal_floats(chunk * dim, 6);
  const auto values = normal_floats(chunk * dim, 7);
  const auto queries = normal_floats(chunk * group * dim, 8);
  for (const Case& each : cases()) {
    INFO(each.name);
    Head head = filled(past);
    auto tokens = tokens_of(head);
    Workspace<ExactKeys, ExactValues> workspace;
    std::vector<float> outs(chunk * group * dim);
    REQUIRE(extend(head, ChunkRows<const float>{queries.data(), chunk, group, group * dim, dim},
                   Rows(keys.data(), chunk, dim), Rows(values.data(), chunk, dim),
                   ChunkRows<float>{outs.data(), chunk, group, group * dim, dim}, workspace, each.options));
    for (std::size_t t = 0; t < chunk; ++t) {
      const auto position = static_cast<std::int64_t>(past + t);
      tokens.push_back({as_doubles(keys.data() + t * dim, dim), as_doubles(values.data() + t * dim, dim), position, 0});
      for (std::size_t g = 0; g < group; ++g) {
        const std::size_t row = (t * group + g) * dim;
        require_equal(outs.data() + row, reference_attention(queries.data() + row, dim, tokens, {},
                                                             reference_of(each.options, g, tokens.size(), position)));
      }
    }
  }
}

TEST_CASE("layers and batches of sequences give each head its own options") {
  using Cache = CompressedKVCache<ExactKeys, ExactValues>;
  constexpr std::size_t width = kv_heads * dim, query_heads = kv_heads * group;
  std::vector<Cache> caches;
  for (const std::size_t tokens : {5, 150, 70}) {
    caches.push_back(
        Cache::make({1, kv_heads, dim}, {ExactKeys{dim}}, {ExactValues{dim}}, {.sinks = 2, .recent = 9}).value());
    const auto keys = normal_floats(tokens * width, tokens);
    const auto values = normal_floats(tokens * width, tokens + 1);
    REQUIRE(caches.back().append_layer(0, Rows(keys.data(), tokens, width), Rows(values.data(), tokens, width)));
  }
  const auto queries = normal_floats(caches.size() * query_heads * dim, 9);
  for (const Case& each : cases()) {
    INFO(each.name);
    std::vector<float> outs(queries.size());
    std::vector<SequenceStep<ExactKeys, ExactValues>> steps;
    for (std::size_t s = 0; s < caches.size(); ++s) {
      const std::size_t at = s * query_heads * dim;
      steps.push_back(
          {&caches[s], FloatRows(queries.data() + at, query_heads, dim), outs.data() + at, dim, each.options});
    }
    auto workspaces = make_workspaces(caches[0], group);
    attend_batch<ExactKeys, ExactValues>(0, steps, workspaces);
    for (std::size_t s = 0; s < caches.size(); ++s) {
      std::vector<float> alone(query_heads * dim);
      attend_layer(caches[s], 0, steps[s].queries, alone.data(), dim, workspaces, each.options);
      for (std::size_t h = 0; h < query_heads; ++h) {
        const Head& head = caches[s].head(0, h / group);
        const auto expected =
            reference_attention(steps[s].queries.row(h), dim, tokens_of(head), {},
                                reference_of(each.options, h, head.tokens(), head.next_position() - 1));
        require_equal(alone.data() + h * dim, expected);
        require_equal(steps[s].outs + h * dim, expected);
      }
    }
  }
}
