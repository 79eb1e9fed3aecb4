// The figures as a table, as JSON and as CSV.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "kv_report/evaluation.hpp"

namespace kv_report {

/// "1.5 MiB"
[[nodiscard]] inline std::string bytes_text(std::size_t bytes) {
  const auto size = static_cast<double>(bytes);
  if (bytes == 0) return "-";
  if (bytes < 1024 * 1024) return fmt::format("{:.0f} KiB", size / 1024);
  return fmt::format("{:.1f} MiB", size / 1024 / 1024);
}

/// A line per policy, under the name of its group where it has one.
[[nodiscard]] inline std::string table_text(const std::vector<PolicyResult>& results) {
  std::size_t width = 6;
  for (const PolicyResult& result : results) width = std::max(width, result.policy.size());
  std::string text = fmt::format("{:>2}  {:<{}}  {:>6} {:>6} {:>9}  {:>7} {:>7}  {:>8}  {:>7} {:>7}  {:>8} {:>6} {:>8}\n", "#",
                                 "policy", width, "K bits", "V bits", "codebooks", "cosine", "worst", "KL", "logit r", "worst",
                                 "Spearman", "top-5", "error");
  for (std::size_t i = 0; i < results.size(); ++i) {
    const PolicyResult& r = results[i];
    if (!r.group.empty() && (i == 0 || r.group != results[i - 1].group)) text += fmt::format("    {}\n", r.group);
    text += fmt::format(
        "{:>2}  {:<{}}  {:>6.2f} {:>6.2f} {:>9}  {:>7.4f} {:>7.4f}  {:>8.5f}  {:>7.4f} {:>7.4f}  {:>8.4f} {:>6.3f} {:>8.5f}\n",
        i + 1, r.policy, width, r.key_bits, r.value_bits, bytes_text(r.codebook_bytes), r.mean.cosine, r.cosine_worst,
        r.mean.divergence, r.mean.logit_correlation, r.logit_correlation_worst, r.mean.rank_correlation, r.mean.top5,
        r.mean.output_error);
  }
  return text;
}

/// Field names and numbers of one row, in the order of JSON and CSV.
[[nodiscard]] inline std::vector<std::pair<std::string_view, std::string>> fields(const PolicyResult& r) {
  const auto number = [](double x) { return fmt::format("{}", x); };  // shortest text that reads back equal
  return {{"key_bits", number(r.key_bits)},
          {"value_bits", number(r.value_bits)},
          {"codebook_bytes", fmt::format("{}", r.codebook_bytes)},
          {"cosine_mean", number(r.mean.cosine)},
          {"cosine_worst", number(r.cosine_worst)},
          {"kl_mean", number(r.mean.divergence)},
          {"logit_correlation_mean", number(r.mean.logit_correlation)},
          {"logit_correlation_worst", number(r.logit_correlation_worst)},
          {"spearman_mean", number(r.mean.rank_correlation)},
          {"top5_mean", number(r.mean.top5)},
          {"output_relative_error", number(r.mean.output_error)},
          {"tokens", fmt::format("{}", r.tokens)},
          {"heads", fmt::format("{}", r.heads)}};
}

[[nodiscard]] inline std::string json_text(const std::vector<PolicyResult>& results) {
  std::string text = "[";
  for (const PolicyResult& result : results) {
    // A spec is letters, digits and ":=,/._-" (anything else did not parse), so nothing needs escaping.
    text += fmt::format("{}\n  {{\"policy\": \"{}\"", text.size() > 1 ? "," : "", result.policy);
    for (const auto& [name, value] : fields(result)) text += fmt::format(", \"{}\": {}", name, value);
    text += "}";
  }
  return text + "\n]\n";
}

[[nodiscard]] inline std::string csv_text(const std::vector<PolicyResult>& results) {
  std::string text = "policy";
  for (const auto& [name, value] : fields(results.front())) text += fmt::format(",{}", name);
  text += "\n";
  for (const PolicyResult& result : results) {
    text += fmt::format("\"{}\"", result.policy);
    for (const auto& [name, value] : fields(result)) text += fmt::format(",{}", value);
    text += "\n";
  }
  return text;
}

}  // namespace kv_report
