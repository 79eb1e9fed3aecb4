// --ratios: what the library is to reach, and what it reaches here. One function per group of lines; each prints a line
// per target with the figure of interleaved rounds, and leaves out, with a note, what needs a library that is not there.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "support/contest.hpp"
#include "support/memory_reader.hpp"

namespace pqkv::bench {

/// A line: what was measured, the figure, and the target it is held to. At most: smaller is better.
inline void print_target(const std::string& measure, const Spread& reached, double target, bool at_most = false) {
  const bool met = at_most ? reached.median <= target : reached.median >= target;
  fmt::print("| {:<72} | {:>22} | {} {:<5} | {:<6} |\n", measure, text_of(reached), at_most ? "≤" : "≥", target,
             met ? "met" : "missed");
}
/// A figure without a target.
inline void print_figure(const std::string& measure, const Spread& reached, std::string_view unit) {
  fmt::print("| {:<72} | {:>22} | {:<7} | {:<6} |\n", measure, text_of(reached), unit, "");
}
/// What `bytes` per item in that time are, in GB/s; plot.py draws these.
inline void print_speed(const std::string& measure, double bytes, const Spread& time) {
  print_figure(measure + ", reads", {bytes / time.median, bytes / time.upper, bytes / time.lower}, "GB/s");
}
inline void print_left_out(const std::string& measure, std::string_view why) {
  fmt::print("| {:<72} | {:>22} | {:<7} | {:<6} |\n", measure, "left out", "", why);
}

/// What the machine allows, measured once per run.
void print_limits(MemoryReader& memory);
void score_targets(MemoryReader& memory);
void attend_targets(MemoryReader& memory);
void context_targets();
void skip_targets();
void encode_targets();
void train_targets();
void worker_targets();

}  // namespace pqkv::bench
