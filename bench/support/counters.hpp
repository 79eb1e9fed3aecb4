// The counters that every benchmark reports. Plain numbers of processor time, which a busy machine disturbs less than
// wall time: Google Benchmark's own rates print "/s" behind whatever they count.
#pragma once

#include <benchmark/benchmark.h>

#include <cstddef>
#include <ctime>
#include <string>

namespace pqkv::bench {

/// Runs `body` once per iteration; returns this process's nanoseconds per iteration.
template <class Body>
double nanoseconds_per_iteration(benchmark::State& state, const Body& body) {
  const std::clock_t start = std::clock();
  for (auto _ : state) {
    body();
    benchmark::ClobberMemory();
  }
  const double nanoseconds = static_cast<double>(std::clock() - start) * (1e9 / CLOCKS_PER_SEC);
  return nanoseconds / static_cast<double>(state.iterations());
}

/// An iteration of `nanoseconds` went over `items` items of `bytes` bytes each.
/// unit "token": ns_per_token, bytes_per_token; data "codes": codes_GB_per_s.
inline void count(benchmark::State& state, double nanoseconds, std::size_t items, const std::string& unit, double bytes,
                  const std::string& data) {
  const double per_item = nanoseconds / static_cast<double>(items);
  state.counters["ns_per_" + unit] = per_item;
  state.counters["bytes_per_" + unit] = bytes;
  state.counters[data + "_GB_per_s"] = bytes / per_item;
}

}  // namespace pqkv::bench
