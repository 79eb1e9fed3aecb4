// The last lines of the report: what the library's policies gain over those that it started from, at equal bits and at equal
// error.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kv_report/evaluation.hpp"
#include "kv_report/policies.hpp"

namespace kv_report {

/// Of keys and values together.
[[nodiscard]] inline double bits_of(const PolicyResult& result) noexcept { return (result.key_bits + result.value_bits) / 2; }

/// One policy of the library beside the one of the starting point that it is compared with; numbers are those of the table.
struct Gain {
  std::size_t row = 0;
  std::size_t compared = 0;
  double factor = 0;
};

/// Whether both sides are compressed, so that bits of keys and values can be added up.
[[nodiscard]] inline bool compresses_both(const PolicyResult& result) {
  return result.policy.find("=exact") == std::string::npos;
}

/// What may be compared with the library's policies: both sides compressed, by others' formats.
[[nodiscard]] inline bool is_starting_point(const PolicyResult& result) {
  return (result.group == scalar_group || result.group == plain_group) && compresses_both(result);
}

/// For each policy of the library the best one of the starting point that has no more bits, within `tolerance`, and how many
/// times lower its `error` is. Policies with no partner are left out.
[[nodiscard]] inline std::vector<Gain> gains_at_equal_bits(const std::vector<PolicyResult>& results, double tolerance,
                                                           double pqkv::Quality::*error) {
  std::vector<Gain> gains;
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (results[i].group != library_group) continue;
    Gain best{i, i, 0};
    for (std::size_t j = 0; j < results.size(); ++j) {
      if (!is_starting_point(results[j]) || bits_of(results[j]) > bits_of(results[i]) * (1 + tolerance)) continue;
      const double factor = results[j].mean.*error / (results[i].mean.*error);
      if (best.factor == 0 || factor < best.factor) best = {i, j, factor};
    }
    if (best.factor != 0) gains.push_back(best);
  }
  return gains;
}

/// For each policy of the starting point the one of the library with the fewest bits whose `error` is no higher, and how many
/// times fewer bits those are. Only where they are fewer.
[[nodiscard]] inline std::vector<Gain> gains_at_equal_error(const std::vector<PolicyResult>& results,
                                                            double pqkv::Quality::*error) {
  std::vector<Gain> gains;
  for (std::size_t j = 0; j < results.size(); ++j) {
    if (!is_starting_point(results[j])) continue;
    Gain best{j, j, 0};
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (results[i].group != library_group || results[i].mean.*error > results[j].mean.*error) continue;
      const double factor = bits_of(results[j]) / bits_of(results[i]);
      if (factor > best.factor) best = {i, j, factor};
    }
    if (best.factor > 1) gains.push_back(best);
  }
  return gains;
}

/// A sentence each; empty where there is nothing to compare.
[[nodiscard]] inline std::string gains_text(const std::vector<PolicyResult>& results) {
  constexpr double bits_tolerance = 0.05;
  constexpr auto error = &pqkv::Quality::output_error, divergence = &pqkv::Quality::divergence;
  const auto range = [](const std::vector<Gain>& gains) {
    const auto less = [](const Gain& a, const Gain& b) { return a.factor < b.factor; };
    const auto [least, most] = std::minmax_element(gains.begin(), gains.end(), less);
    return std::pair{*least, *most};
  };
  std::string text;
  const auto in_error = gains_at_equal_bits(results, bits_tolerance, error);
  if (!in_error.empty()) {
    const auto [least, most] = range(in_error);
    const auto [least_divergence, most_divergence] = range(gains_at_equal_bits(results, bits_tolerance, divergence));
    const PolicyResult &row = results[most_divergence.row], &compared = results[most_divergence.compared];
    text += fmt::format("At equal bits the library's policies diverge {:.1f} to {:.1f} times less than the best of the others, and "
                        "err {:.1f} to {:.1f} times less: row {}, a KL of {:.3f} at {:.2f} bits, against row {}, {:.3f} at {:.2f}.\n",
                        least_divergence.factor, most_divergence.factor, least.factor, most.factor, most_divergence.row + 1,
                        row.mean.divergence, bits_of(row), most_divergence.compared + 1, compared.mean.divergence,
                        bits_of(compared));
  }
  const auto in_bits = gains_at_equal_error(results, error);
  if (!in_bits.empty()) {
    const Gain most = range(in_bits).second;
    const PolicyResult &row = results[most.row], &compared = results[most.compared];
    text += fmt::format("At equal error they need up to {:.1f} times fewer bits: row {}, {:.2f} bits for an error of {:.3f}, against "
                        "row {}, {:.2f} bits for {:.3f}.\n",
                        most.factor, most.row + 1, bits_of(row), row.mean.output_error, most.compared + 1, bits_of(compared),
                        compared.mean.output_error);
  }
  return text;
}

}  // namespace kv_report
