// The names of benchmarks and the cases they run over: subject/format/dim:…/warm or cold/group:…
#pragma once

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>

#include "support/placement.hpp"

namespace pqkv::bench {

/// Registers run(state, text, dim, group, placement) for each of `texts`, formats or policies. Groups are innermost:
/// they share what Kept holds.
template <class Run>
void register_groups(std::string_view subject, std::initializer_list<const char*> texts, const Run& run) {
  for (const char* text : texts) {
    for (const std::size_t dim : {64, 128}) {
      for (const Placement placement : placements) {
        for (const std::size_t group : {1, 4, 8}) {
          const std::string name =
              fmt::format("{}/{}/dim:{}/{}/group:{}", subject, text, dim, name_of(placement), group);
          benchmark::RegisterBenchmark(
              name.c_str(), [=](benchmark::State& state) { run(state, std::string(text), dim, group, placement); });
        }
      }
    }
  }
}

}  // namespace pqkv::bench
