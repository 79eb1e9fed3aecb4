// References to executors, progress and metrics: functions that are compiled once call what the caller has.
#include <cstddef>
#include <functional>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "pqkv/base/executor.hpp"
#include "pqkv/base/progress.hpp"
#include "pqkv/train/metric.hpp"

using namespace pqkv;

namespace {

/// The last task first; counts its runs, and so is no constant.
struct Backwards {
  std::size_t runs = 0;
  [[nodiscard]] std::size_t workers() noexcept { return 3; }
  template <class Task>
  void run(std::size_t count, const Task& task) {
    ++runs;
    for (std::size_t index = count; index-- > 0;) task(index, index % 3);
  }
};

/// Takes tasks as a function, and is constant.
struct ByFunction {
  [[nodiscard]] std::size_t workers() const noexcept { return 5; }
  void run(std::size_t count, const std::function<void(std::size_t, std::size_t)>& task) const {
    for (std::size_t index = 0; index < count; ++index) task(index, 4);
  }
};

struct Calls {
  std::size_t workers;
  std::vector<std::size_t> order, by;
};

Calls calls_of(ExecutorRef executor) {
  Calls calls{executor.workers(), {}, {}};
  executor.run(4, [&](std::size_t index, std::size_t worker) {
    calls.order.push_back(index);
    calls.by.push_back(worker);
  });
  return calls;
}

bool halts_at(ProgressRef progress, std::size_t done) { return !progress(done, 10); }

bool until_five(std::size_t done, std::size_t /*total*/) { return done < 5; }

struct Scaled {
  float factor;
  void to_euclidean(std::size_t subspace, RowMatrix& rows) const { rows *= factor * static_cast<float>(subspace); }
  void from_euclidean(std::size_t subspace, RowMatrix& rows) const { rows /= factor * static_cast<float>(subspace); }
};

}  // namespace

TEST_CASE("an ExecutorRef runs every task once on the executor it refers to") {
  Backwards backwards;
  const Calls mine = calls_of(backwards);
  CHECK(mine.workers == 3);
  CHECK(mine.order == std::vector<std::size_t>{3, 2, 1, 0});
  CHECK(mine.by == std::vector<std::size_t>{0, 2, 1, 0});
  const ExecutorRef first(backwards);
  CHECK(calls_of(first).order == mine.order);  // a copy refers to the same
  CHECK(backwards.runs == 2);
  for (const Calls& calls : {calls_of(ByFunction{}), calls_of(SerialExecutor()), calls_of({})}) {
    CHECK(calls.order == std::vector<std::size_t>{0, 1, 2, 3});
  }
  CHECK(calls_of(ByFunction{}).workers == 5);
  CHECK(calls_of({}).workers == 1);
  STATIC_REQUIRE_FALSE(std::is_convertible_v<int, ExecutorRef>);
}

TEST_CASE("a ProgressRef calls closures and plain functions, and says nothing of its own") {
  std::size_t seen = 0;
  auto closure = [&, calls = 0](std::size_t done, std::size_t total) mutable {
    seen = done + total;
    return ++calls < 2;
  };
  CHECK_FALSE(halts_at(closure, 3));
  CHECK(seen == 13);
  CHECK(halts_at(closure, 3));
  CHECK_FALSE(halts_at(until_five, 4));
  CHECK(halts_at(until_five, 5));
  CHECK_FALSE(halts_at(NoProgress{}, 5));
  CHECK_FALSE(halts_at({}, 5));
}

TEST_CASE("a MetricRef changes coordinates as its metric does") {
  const Scaled metric{2.0f};
  RowMatrix rows = RowMatrix::Constant(2, 3, 5.0f);
  MetricRef(metric).to_euclidean(3, rows);
  CHECK(rows(1, 2) == 30.0f);
  MetricRef(metric).from_euclidean(2, rows);
  CHECK(rows(0, 0) == 7.5f);
}
