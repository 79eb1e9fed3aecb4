// Thousands of random sequences of operations against a model in double, alone and on threads that share pages.
// PQKV_TEST_SEED=<number> runs one seed of each case.
#include <cstdlib>
#include <thread>

#include "catch.hpp"
#include "support/operations.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr double exact_tolerance = 1e-3;      // f32 sums; f16 rows are what they are
constexpr double attention_tolerance = 5e-3;  // 15-bit weights
constexpr double table_tolerance = 8e-2;      // pq4 keys: 8-bit tables
constexpr std::size_t dim = 16;
constexpr std::size_t seeds = 200;  // per case; the suite runs once per instruction set
constexpr std::size_t operations = 25;

std::shared_ptr<const CodeSpace> space(const Rope& rope) {
  CodeSpaceParts parts{.dim = dim,
                       .rope = rope,
                       .run_tokens = 64,
                       .mean = normal_floats(dim, 77),
                       .forward = {},
                       .inverse = {},
                       .term_rows = {},
                       .term_basis = {}};
  parts.term_basis.assign(dim * dim, 0.0f);
  for (std::size_t d = 0; d < dim; ++d) parts.term_basis[d * dim + d] = 1.0f;
  for (std::size_t j = 0; j < parts.run_tokens; ++j) {
    std::vector<float> row = parts.mean;
    rope.turn(static_cast<double>(j), row.data());
    parts.term_rows.insert(parts.term_rows.end(), row.begin(), row.end());
  }
  return CodeSpace::make(parts).value();
}

/// `memory` serves the case that has a small pool.
std::vector<OperationCase> cases(std::vector<std::byte>& memory) {
  const auto adjacent = std::make_shared<const Rope>(Rope::with_base(dim, 1e4));
  const auto halves = std::make_shared<const Rope>(Rope::with_base(dim / 2, 5e5, RopePairing::half_split));
  const Pq8Keys pq8 = Pq8Keys::make(random_codebook(dim, 4, 256)).value();
  const Int8Values int8 = Int8Values::make(dim, 16).value();
  const std::size_t page = BlockBytes{pq8.block_bytes(), int8.block_bytes()}.page(3);
  memory.resize(12 * (page + 64));
  const auto pool = PagePool::make(memory, 3, page).value();
  std::vector<OperationCase> all;
  all.push_back(
      {"exact f32", ExactKeys(dim), ExactValues(dim), {.sinks = 3, .recent = 10, .rope = adjacent}, exact_tolerance});
  all.push_back({"exact f16",
                 ExactKeys(dim, ScalarType::f16),
                 ExactValues(dim, ScalarType::f16),
                 {.sinks = 0, .recent = 0, .window = ScalarType::f16, .rope = halves},
                 exact_tolerance});
  all.push_back({"pq8, pq4 values",
                 pq8,
                 Pq4Values::make(random_codebook(dim, 4, 16)).value(),
                 {.sinks = 1, .recent = 1, .rope = halves},
                 attention_tolerance});
  all.push_back({"pq4, int4",
                 Pq4Keys::make(random_codebook(dim, 4, 16)).value(),
                 Int4Values::make(dim, 16).value(),
                 {.sinks = 4, .recent = 20, .rope = adjacent},
                 table_tolerance});
  all.push_back({"pq8 in a space, int8",
                 SpacedKeys<Pq8Keys>::make(pq8, space(*adjacent)).value(),
                 int8,
                 {.sinks = 2, .recent = 5, .rope = adjacent},
                 attention_tolerance});
  const CodeSpaceParts turned{.dim = dim,
                              .rope = *halves,
                              .run_tokens = 96,
                              .mean = {},
                              .forward = {},
                              .inverse = {},
                              .term_rows = {},
                              .term_basis = {}};
  const Pq6Keys pq6 = Pq6Keys::make(random_codebook(dim, 4, 64)).value();
  all.push_back({"pq6 turned back by runs, int8",
                 SpacedKeys<Pq6Keys>::make(pq6, CodeSpace::make(turned).value()).value(),
                 int8,
                 {.sinks = 0, .recent = 12, .window = ScalarType::f32, .rope = adjacent},
                 table_tolerance});
  all.push_back({"pq8, int8, a small pool",
                 pq8,
                 int8,
                 {.sinks = 2, .recent = 7, .rope = adjacent, .pages = pool},
                 attention_tolerance});
  return all;
}

}  // namespace

TEST_CASE("random operations leave what the model says") {
  std::vector<std::byte> memory;
  const char* chosen = std::getenv("PQKV_TEST_SEED");
  for (const OperationCase& each : cases(memory)) {
    for (std::size_t seed = 0; seed < seeds; ++seed) {
      if (chosen != nullptr && std::to_string(seed) != chosen) continue;
      Operations run(each, seed);
      const std::string fault = run.run(operations);
      INFO(run.log());
      REQUIRE(fault == "");
    }
  }
}

TEST_CASE("random operations on threads that share one prompt") {
  std::vector<std::byte> memory;
  for (const OperationCase& each : cases(memory)) {
    Operations prompt(each, 1);
    REQUIRE(prompt.run(12) == "");
    std::vector<std::string> faults(4);
    std::vector<std::string> logs(4);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < faults.size(); ++i) {
      threads.emplace_back([&, i] {
        auto fork = prompt.head().fork();
        if (!fork) return;
        Operations run(each, 100 + i, std::move(fork).value(), prompt.model());
        faults[i] = run.run(60);
        logs[i] = run.log();
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (std::size_t i = 0; i < faults.size(); ++i) {
      INFO(logs[i]);
      REQUIRE(faults[i] == "");
    }
  }
}
