// pqkv_bench: Google Benchmark over every subject; --ratios [group…] instead holds what was reached against the targets.
#include <benchmark/benchmark.h>

#include <string>
#include <string_view>

#include "common/instruction_set.hpp"
#include "pqkv/pqkv.hpp"
#include "subjects.hpp"

int main(int argc, char** argv) {
  using namespace pqkv::bench;
  if (argc >= 2 && std::string_view(argv[1]) == "--ratios") {
    print_ratios({argv + 2, argv + argc});
    return 0;
  }
  register_limits();
  register_encode();
  register_table();
  register_score();
  register_accumulate();
  register_attend();
  register_sequence();
#if defined(PQKV_BENCH_TRAIN)
  register_train();
#endif
  benchmark::AddCustomContext("kernels", common::instruction_set());
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
