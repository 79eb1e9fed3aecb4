// Staged append, truncate, limits and errors of one head.
#include "catch.hpp"
#include "support/decoded.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

TEST_CASE("appending one token at a time ends in the same bytes as appending all") {
  const std::size_t dim = 48;
  const std::size_t tokens = 411;
  const auto keys = normal_floats(tokens * dim, 1);
  const auto values = normal_floats(tokens * dim, 2);
  for (const CacheOptions& options : {CacheOptions{}, CacheOptions{.sinks = 5, .recent = 33},
                                     CacheOptions{.sinks = 1, .recent = 64, .window = ScalarType::f16}}) {
    for (const AnyKeys& key : key_policies(dim)) {
      INFO(key.describe());
      const AnyValues value = Int4Values::make(dim, 16).value();
      HeadCache one(key, value, options);
      HeadCache all(key, value, options);
      HeadCache some(key, value, options);
      REQUIRE(all.append(Rows(keys.data(), tokens, dim), Rows(values.data(), tokens, dim)));
      std::size_t step = 1;
      for (std::size_t t = 0; t < tokens; ++t) {
        REQUIRE(one.append(Rows(keys.data() + t * dim, 1, dim), Rows(values.data() + t * dim, 1, dim)));
      }
      for (std::size_t t = 0; t < tokens; t += step, step = step % 50 + 7) {
        const std::size_t count = std::min(step, tokens - t);
        REQUIRE(some.append(Rows(keys.data() + t * dim, count, dim), Rows(values.data() + t * dim, count, dim)));
      }
      require_same_state(one, all);
      require_same_state(some, all);
    }
  }
}

TEST_CASE("rows may be strided and of any scalar type") {
  const std::size_t dim = 32;
  const std::size_t tokens = 100;
  const auto floats = normal_floats(tokens * dim, 3);
  std::vector<f16> halves(tokens * (dim + 3));
  std::vector<float> rounded(tokens * dim);
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t d = 0; d < dim; ++d) {
      halves[t * (dim + 3) + d] = to_f16(floats[t * dim + d]);
      rounded[t * dim + d] = to_float(halves[t * (dim + 3) + d]);
    }
  }
  const AnyValues value = Int8Values::make(dim, 16).value();
  const AnyKeys key = Pq4Keys::make(random_codebook(dim, 8, 16)).value();
  HeadCache from_halves(key, value, {.sinks = 2, .recent = 9});
  HeadCache from_floats(key, value, {.sinks = 2, .recent = 9});
  const Rows strided(halves.data(), ScalarType::f16, tokens, dim, dim + 3);
  REQUIRE(from_halves.append(strided, strided));
  REQUIRE(from_floats.append(Rows(rounded.data(), tokens, dim), Rows(rounded.data(), tokens, dim)));
  require_same_state(from_halves, from_floats);
}

TEST_CASE("windows hold what they promise") {
  const std::size_t dim = 16;
  const auto rows = normal_floats(500 * dim, 4);
  HeadCache head(ExactKeys{dim}, ExactValues{dim}, {.sinks = 4, .recent = 20});
  for (std::size_t t = 0; t < 500; ++t) {
    REQUIRE(head.append(Rows(rows.data() + t * dim, 1, dim), Rows(rows.data() + t * dim, 1, dim)));
    REQUIRE(head.tokens() == t + 1);
    REQUIRE(head.sinks().tokens() == std::min<std::size_t>(4, t + 1));
    REQUIRE(head.recent().tokens() >= std::min<std::size_t>(20, t + 1 - head.sinks().tokens()));
    REQUIRE(head.recent().tokens() < 20 + block_tokens);
    const auto* newest = reinterpret_cast<const float*>(head.recent().keys());
    if (head.recent().tokens() > 0) {
      REQUIRE(newest[(head.recent().tokens() - 1) * dim] == rows[t * dim]);
    }
  }
}

TEST_CASE("truncate drops the newest tokens and append goes on from there") {
  const std::size_t dim = 16;
  const std::size_t tokens = 300;
  const auto rows = normal_floats(tokens * dim, 5);
  const auto query = normal_floats(dim, 6);
  Workspace<ExactKeys, ExactValues> workspace;
  for (const std::size_t kept : {300, 299, 281, 280, 200, 101, 68, 36, 5, 4, 2, 0}) {
    INFO("kept " << kept);
    HeadCache head(ExactKeys{dim}, ExactValues{dim}, {.sinks = 4, .recent = 16});
    REQUIRE(head.append(Rows(rows.data(), tokens, dim), Rows(rows.data(), tokens, dim)));
    head.truncate(kept);
    REQUIRE(head.tokens() == kept);
    REQUIRE(head.append(Rows(rows.data() + kept * dim, tokens - kept, dim),
                        Rows(rows.data() + kept * dim, tokens - kept, dim)));
    REQUIRE(head.tokens() == tokens);
    std::vector<float> out(dim);
    attend(head, {query.data(), 1, dim}, out.data(), dim, workspace);
    const auto expected = attention(query.data(), rows, rows, tokens, dim, 0.25);
    for (std::size_t d = 0; d < dim; ++d) REQUIRE(std::fabs(static_cast<double>(out[d]) - expected[d]) < 1e-5);
  }
}

TEST_CASE("bad rows are refused whole, with their numbers") {
  const std::size_t dim = 16;
  auto rows = normal_floats(50 * dim, 7);
  HeadCache head(ExactKeys{dim}, ExactValues{dim}, {.sinks = 1, .recent = 2, .max_tokens = 60});
  REQUIRE(head.append(Rows(rows.data(), 40, dim), Rows(rows.data(), 40, dim)));
  const auto refused = [&](Rows keys, Rows values, Errc code, const char* text) {
    const Status status = head.append(keys, values);
    REQUIRE_FALSE(status);
    REQUIRE(status.error().code == code);
    INFO(status.error().message);
    REQUIRE(status.error().message.find(text) != std::string::npos);
    REQUIRE(head.tokens() == 40);
  };
  refused(Rows(rows.data(), 2, dim), Rows(rows.data(), 3, dim), Errc::invalid_shape, "2 keys but 3 values");
  refused(Rows(rows.data(), 2, 8), Rows(rows.data(), 2, dim), Errc::invalid_shape, "8 (keys)");
  refused(Rows(rows.data(), 21, dim), Rows(rows.data(), 21, dim), Errc::cache_full, "40 of at most 60");
  rows[3 * dim + 5] = NAN;
  refused(Rows(rows.data(), 10, dim), Rows(rows.data() + 20 * dim, 10, dim), Errc::invalid_data, "element 5 of key row 3");
  refused(Rows(rows.data() + 20 * dim, 10, dim), Rows(rows.data(), 10, dim), Errc::invalid_data, "element 5 of value row 3");
  const std::vector<f16> infinite(dim, f16{0x7c00});
  refused(Rows(infinite.data(), 1, dim), Rows(rows.data(), 1, dim), Errc::invalid_data, "element 0 of key row 0");
  REQUIRE_FALSE(head.reserve(61));
  REQUIRE(head.append(Rows(rows.data() + 20 * dim, 20, dim), Rows(rows.data() + 20 * dim, 20, dim)));
}

TEST_CASE("a layer is appended to all heads or none") {
  using Cache = CompressedKVCache<ExactKeys, ExactValues>;
  const std::size_t dim = 16;
  auto cache = Cache::make({2, 3, dim}, {ExactKeys{dim}}, {ExactValues{dim}}).value();
  auto rows = normal_floats(10 * 3 * dim, 8);
  REQUIRE(cache.append_layer(1, Rows(rows.data(), 10, 3 * dim), Rows(rows.data(), 10, 3 * dim)));
  CHECK(cache.tokens(0) == 0);
  CHECK(cache.tokens(1) == 10);
  rows[2 * dim] = INFINITY;  // the last head of the first token
  const Status status = cache.append_layer(1, Rows(rows.data(), 1, 3 * dim), Rows(rows.data() + 3 * dim, 1, 3 * dim));
  REQUIRE_FALSE(status);
  CHECK(status.error().message.find("layer 1 head 2") != std::string::npos);
  for (std::size_t h = 0; h < 3; ++h) CHECK(cache.head(1, h).tokens() == 10);
  CHECK_FALSE(Cache::make({2, 3, 32}, {ExactKeys{dim}}, {ExactValues{dim}}));
  CHECK_FALSE(Cache::make({2, 3, dim}, {ExactKeys{dim}, ExactKeys{dim}}, {ExactValues{dim}}));
}

TEST_CASE("bytes are what was allocated, close to codes and scales alone") {
  const std::size_t dim = 128;
  const std::size_t tokens = 256 * 1024;
  const AnyKeys key = Pq4Keys::make(random_codebook(dim, 32, 16)).value();
  HeadCache head(key, AnyValues(Int4Values::make(dim, 32).value()));
  REQUIRE(head.reserve(tokens));
  const double alone = head.bytes_per_token() * static_cast<double>(tokens);
  CHECK(head.bytes_per_token() == 16 + 64 + 16);
  CHECK(static_cast<double>(head.bytes()) >= alone);
  CHECK(static_cast<double>(head.bytes()) <= alone * 1.03);
}
