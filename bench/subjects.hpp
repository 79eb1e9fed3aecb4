// What main.cpp can run: a function per file that registers its benchmarks, and the comparison of --ratios.
#pragma once

namespace pqkv::bench {

void register_encode();
void register_table();
void register_score();
void register_accumulate();
void register_attend();
void register_train();
void register_limits();
void register_sequence();

/// Prints how compressed attention compares with exact attention.
void print_ratios();

}  // namespace pqkv::bench
