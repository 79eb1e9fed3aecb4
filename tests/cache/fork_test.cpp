// Forks: shared, immutable blocks; what they cost; on threads.
#include <cstring>
#include <thread>

#include "catch.hpp"
#include "support/allocations.hpp"
#include "support/policies.hpp"
#include "support/sequence.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr double exact_tolerance = 1e-5;
constexpr std::size_t dim = 16;

using Head = HeadCache<ExactKeys, ExactValues>;

Head filled(const std::vector<float>& rows, std::size_t tokens,
            const CacheOptions& options = {.sinks = 2, .recent = 8}) {
  Head head(ExactKeys{dim}, ExactValues{dim}, options);
  REQUIRE(head.append(Rows(rows.data(), tokens, dim), Rows(rows.data(), tokens, dim)));
  return head;
}

void append_some(Head& head, const std::vector<float>& rows, std::size_t first, std::size_t count) {
  REQUIRE(head.append(Rows(rows.data() + first * dim, count, dim), Rows(rows.data() + first * dim, count, dim)));
}

/// Exact formats: token t of the head is row which[t].
void require_rows(const Head& head, const std::vector<float>& rows, const std::vector<std::size_t>& which) {
  REQUIRE(head.tokens() == which.size());
  std::vector<float> key(dim), value(dim);
  for (std::size_t t = 0; t < which.size(); ++t) {
    head.decode(t, key.data(), value.data());
    REQUIRE(std::memcmp(key.data(), rows.data() + which[t] * dim, dim * sizeof(float)) == 0);
    REQUIRE(std::memcmp(value.data(), rows.data() + which[t] * dim, dim * sizeof(float)) == 0);
  }
}

std::vector<std::size_t> numbers(std::size_t first, std::size_t count, std::vector<std::size_t> before = {}) {
  for (std::size_t i = 0; i < count; ++i) before.push_back(first + i);
  return before;
}

}  // namespace

TEST_CASE("forks go on by themselves and never change each other") {
  const auto rows = normal_floats(4000 * dim, 1);
  const auto query = normal_floats(dim, 2);
  for (const std::size_t prompt : {1, 30, 300, 263, 1000}) {
    Head trunk = filled(rows, prompt);
    Head left = trunk.fork().value();
    Head right = trunk.fork().value();
    append_some(trunk, rows, 1000, 500);
    append_some(left, rows, 2000, 700);
    append_some(right, rows, 3000, 90);
    Head leaf = left.fork().value();
    append_some(left, rows, 1500, 100);
    append_some(leaf, rows, 3500, 300);
    require_rows(trunk, rows, numbers(1000, 500, numbers(0, prompt)));
    require_rows(right, rows, numbers(3000, 90, numbers(0, prompt)));
    require_rows(left, rows, numbers(1500, 100, numbers(2000, 700, numbers(0, prompt))));
    require_rows(leaf, rows, numbers(3500, 300, numbers(2000, 700, numbers(0, prompt))));
    REQUIRE(attention_error(leaf, query, tokens_of(leaf)) < exact_tolerance);
  }
}

TEST_CASE("a fork that is truncated into shared blocks leaves them as they are") {
  const auto rows = normal_floats(3000 * dim, 3);
  for (const std::size_t kept : {0, 1, 100, 259, 399, 400}) {
    Head trunk = filled(rows, 400);
    Head other = trunk.fork().value();
    trunk.truncate(kept);
    append_some(trunk, rows, 1000, 500);
    other.truncate(kept / 2);
    append_some(other, rows, 2000, 500);
    Head third = trunk.fork().value();
    trunk.truncate(kept / 3);
    append_some(trunk, rows, 1500, 400);
    require_rows(third, rows, numbers(1000, 500, numbers(0, kept)));
    require_rows(trunk, rows, numbers(1500, 400, numbers(0, kept / 3)));
    require_rows(other, rows, numbers(2000, 500, numbers(0, kept / 2)));
  }
}

TEST_CASE("the last holder of a page may fill it again") {
  const auto rows = normal_floats(600 * dim, 4);
  Head trunk = filled(rows, 300, {});
  std::size_t alone = 0;
  {
    Head fork = trunk.fork().value();
    CHECK(fork.own_bytes() < fork.bytes() / 4);
    alone = trunk.own_bytes();
    CHECK(alone < trunk.bytes() / 4);
  }
  CHECK(trunk.own_bytes() == trunk.bytes());
  trunk.truncate(64);
  append_some(trunk, rows, 300, 200);
  require_rows(trunk, rows, numbers(300, 200, numbers(0, 64)));
}

TEST_CASE("eight forks of a prompt cost the prompt and their own tails") {
  constexpr double most_over = 1.02;
  constexpr std::size_t wide = 64, prompt = 16384, more = 512;
  const auto rows = normal_floats((prompt + more) * wide, 5);
  HeadCache trunk(Pq4Keys::make(random_codebook(wide, wide / 4, 16)).value(), Int4Values::make(wide, 32).value(),
                  {.sinks = 4, .recent = 32});
  const Rows all(rows.data(), prompt, wide);
  REQUIRE(trunk.append(all, all));
  const double one = static_cast<double>(trunk.bytes());
  std::vector<decltype(trunk)> forks;
  for (int i = 0; i < 8; ++i) forks.push_back(trunk.fork().value());
  double together = one;
  const Rows tail(rows.data() + prompt * wide, more, wide);
  decltype(trunk) tail_alone(trunk.keys(), trunk.values(), trunk.options());
  REQUIRE(tail_alone.append(tail, tail));
  const double tails = 8 * static_cast<double>(tail_alone.bytes());
  for (auto& fork : forks) {
    REQUIRE(fork.append(tail, tail));
    together += static_cast<double>(fork.own_bytes());
    CHECK(fork.own_bytes() < fork.bytes() / 4);
  }
  INFO("one " << one << ", nine " << together << ", tails " << tails);
  CHECK(together <= most_over * (one + tails));
}

TEST_CASE("forks of one prompt live on threads of their own") {
  const auto rows = normal_floats(2000 * dim, 6);
  const auto query = normal_floats(dim, 7);
  const Head trunk = filled(rows, 500);
  std::vector<std::thread> threads;
  std::vector<double> errors(4, 1.0);
  for (std::size_t i = 0; i < errors.size(); ++i) {
    threads.emplace_back([&, i] {
      auto head = trunk.fork();
      if (!head) return;
      const Rows more(rows.data() + (500 + i * 300) * dim, 300, dim);
      if (!head->append(more, more)) return;
      head->truncate(400 + i);
      auto second = head->fork();
      if (!second || !second->erase({10 * i, 200}) || !head->append(more, more)) return;
      errors[i] = std::max(attention_error(*head, query, tokens_of(*head)),
                           attention_error(*second, query, tokens_of(*second)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const double error : errors) CHECK(error < exact_tolerance);
}

TEST_CASE("a fork with room reserved allocates nothing more") {
  const auto rows = normal_floats(900 * dim, 8);
  Head trunk = filled(rows, 400);
  Head fork = trunk.fork().value();
  for (Head* head : {&trunk, &fork}) {
    REQUIRE(head->reserve(800));
    std::size_t refused = 0;
    const std::size_t before = allocations();
    for (std::size_t t = 0; t < 400; ++t) {
      const Rows row(rows.data() + (400 + t) * dim, 1, dim);
      if (!head->append(row, row)) ++refused;
    }
    CHECK(allocations() == before);
    CHECK(refused == 0);
  }
}

TEST_CASE("all heads of a cache fork, forget and move together") {
  auto cache = CompressedKVCache<ExactKeys, ExactValues>::make({2, 2, dim}, {ExactKeys{dim}}, {ExactValues{dim}},
                                                               {.rope = std::make_shared<const Rope>()})
                   .value();
  const auto rows = normal_floats(200 * 2 * dim, 9);
  const Rows all(rows.data(), 200, 2 * dim);
  for (const std::size_t layer : {0, 1}) REQUIRE(cache.append_layer(layer, all, all));
  auto fork = cache.fork().value();
  REQUIRE(fork.erase({50, 60}, Gap::close));
  CHECK(cache.tokens() == 200);
  for (const std::size_t layer : {0, 1}) {
    for (const std::size_t head : {0, 1}) {
      CHECK(fork.head(layer, head).tokens() == 140);
      CHECK(fork.head(layer, head).position(50) == 50);
      CHECK(fork.head(layer, head).next_position() == 140);
    }
  }
  REQUIRE(fork.shift({0, 10}, 5));
  CHECK(fork.head(1, 1).position(9) == 14);
  const Status status = fork.erase({100, 41});
  REQUIRE_FALSE(status);
  CHECK(status.error().message.find("layer 0 head 0: tokens 100 to 141") != std::string::npos);
  CHECK(cache.own_bytes() < cache.bytes());
}
