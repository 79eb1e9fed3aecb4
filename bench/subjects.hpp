// What main.cpp can run: a function per file that registers its benchmarks, and the comparison of --ratios.
#pragma once

#include <string>
#include <vector>

namespace pqkv::bench {

void register_encode();
void register_table();
void register_score();
void register_accumulate();
void register_attend();
void register_train();
void register_limits();
void register_sequence();

/// Prints what is reached of each target, against peers where they are; all groups of lines or those named: score,
/// attend, context, skip, encode, train, workers.
void print_ratios(const std::vector<std::string>& groups);

}  // namespace pqkv::bench
