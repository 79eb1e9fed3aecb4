// What a loop of loads on one core reads from its second-level cache and from memory: the pace that codes can hope for.
#include "subjects.hpp"
#include "support/bandwidth.hpp"
#include "support/counters.hpp"
#include "support/rotation.hpp"

namespace pqkv::bench {
namespace {

void read_memory(benchmark::State& state, Placement placement) {
  const std::size_t piece = working_set(Placement::warm) / 512 * 512;
  RotatingBytes bytes(placement, piece, std::vector<std::byte>(512, std::byte{1}));
  const double nanoseconds =
      nanoseconds_per_iteration(state, [&] { benchmark::DoNotOptimize(read_all(bytes.next(), piece)); });
  count(state, nanoseconds, piece / 64, "line", 64, "read");
}

}  // namespace

void register_limits() {
  for (const Placement placement : placements) {
    const std::string name = fmt::format("limits/read/{}", name_of(placement));
    benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { read_memory(state, placement); });
  }
}

}  // namespace pqkv::bench
