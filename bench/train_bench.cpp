// Training a codebook of one head on one thread: ten iterations over 16,384 rows, however early they might converge.
#include "pqkv/train.hpp"
#include "subjects.hpp"
#include "support/counters.hpp"
#include "support/data.hpp"

namespace pqkv::bench {
namespace {

void train(benchmark::State& state, const CodebookShape& shape) {
  constexpr std::size_t rows = 16384;
  const std::vector<float> samples = random_floats(rows * shape.dim, 1);
  const double nanoseconds = nanoseconds_per_iteration(state, [&] {
    benchmark::DoNotOptimize(
        must(train_codebook(FloatRows(samples.data(), rows, shape.dim), shape, {.iterations = 10, .tolerance = 0})));
  });
  count(state, nanoseconds, rows, "row", static_cast<double>(shape.dim * sizeof(float)), "rows");
}

}  // namespace

void register_train() {
  for (const std::size_t dim : {64, 128}) {
    for (const CodebookShape& shape : {CodebookShape{dim, dim / 8, 256}, CodebookShape{dim, dim / 4, 16}}) {
      const std::string name =
          fmt::format("train/pq{}:m={}/dim:{}", shape.centroids == 256 ? 8 : 4, shape.subspaces, dim);
      benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { train(state, shape); });
    }
  }
}

}  // namespace pqkv::bench
