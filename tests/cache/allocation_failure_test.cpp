// Every allocation of every operation fails in turn: an error that says so, and the sequence is what it was.
#include <functional>

#include "catch.hpp"
#include "pqkv/cache/compact.hpp"
#include "support/allocations.hpp"
#include "support/policies.hpp"
#include "support/sequence.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr std::size_t dim = 16;
using Head = HeadCache<ExactKeys, Int8Values>;

/// Sealed blocks with holes, a moved range, replaced rows, and room in none of its arrays on purpose.
Head eventful(const std::vector<float>& rows) {
  CacheOptions options{.sinks = 2, .recent = 10, .window = ScalarType::f16};
  options.rope = std::make_shared<const Rope>(Rope::with_base(dim, 1e4));
  Head head(ExactKeys{dim}, Int8Values::make(dim, 16).value(), options);
  REQUIRE(head.append(Rows(rows.data(), 300, dim), Rows(rows.data(), 300, dim)));
  REQUIRE(head.erase({100, 40}, Gap::close));
  for (std::size_t t = 0; t < 10; ++t) REQUIRE(head.erase({20 + 3 * t, 2}));
  const std::vector<std::int64_t> positions{7};
  REQUIRE(head.replace({30, 4}, Rows(rows.data(), 1, dim), Rows(rows.data(), 1, dim), positions));
  return head;
}

bool same(const Head& head, const std::vector<ReferenceToken>& expected) {
  const auto tokens = tokens_of(head);
  bool equal = tokens.size() == expected.size();
  for (std::size_t t = 0; equal && t < tokens.size(); ++t) {
    equal = tokens[t].key == expected[t].key && tokens[t].value == expected[t].value &&
            tokens[t].position == expected[t].position;
  }
  return equal;
}

}  // namespace

TEST_CASE("whatever allocation fails, the sequence is what it was") {
  const auto rows = normal_floats(900 * dim, 1);
  const Rows many(rows.data(), 900, dim), two(rows.data(), 2, dim);
  const std::vector<std::int64_t> positions{500, 501};
  struct Operation {
    const char* name;
    std::function<Status(Head&)> run;
  };
  const auto status_of = [](const auto& result) { return result ? Status() : Status(result.error()); };
  const std::vector<Operation> operations = {
      {"append", [&](Head& head) { return head.append(many, many); }},
      {"reserve", [&](Head& head) { return head.reserve(5000); }},
      {"erase", [&](Head& head) {
         const std::vector<TokenRange> ranges = {{3, 1}, {5, 1}, {60, 1}, {70, 2}, {80, 1}, {90, 1}, {95, 1}, {99, 1}};
         return head.erase(ranges, Gap::close);
       }},
      {"shift", [&](Head& head) { return head.shift({50, 61}, 9); }},
      {"replace", [&](Head& head) { return head.replace({10, 1}, two, two, positions); }},
      {"fork", [&](Head& head) { return status_of(head.fork()); }},
      {"compact", [&](Head& head) { return status_of(compact(head, 1.0)); }},
      {"merge", [&](Head& head) { return head.append_or_merge(two.slice(0, 1), two.slice(0, 1), 1.0f, true); }},
  };
  std::size_t all_failures = 0;
  for (const Operation& operation : operations) {
    INFO(operation.name);
    std::size_t failures = 0;
    for (bool done = false; !done; ++failures) {
      REQUIRE(failures < 500);
      Head head = eventful(rows);
      const auto before = tokens_of(head);
      const std::int64_t next = head.next_position();
      fail_allocations_after(failures);
      const Status status = operation.run(head);
      allow_allocations();
      done = status.ok();
      if (done) break;
      REQUIRE(status.error().code == Errc::out_of_memory);
      REQUIRE(same(head, before));
      REQUIRE(head.next_position() == next);
      REQUIRE(operation.run(head).ok());  // and goes on from there
    }
    all_failures += failures;
  }
  CHECK(all_failures > 15);  // some operations find room that others left
}
