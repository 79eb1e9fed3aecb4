// The command line of the retention report.
#pragma once

#include <pqkv/spec.hpp>

#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace retention_report {

struct Options {
  std::vector<std::string> evaluation;   ///< PREFIX of PREFIX_queries.npy, PREFIX_keys.npy, PREFIX_values.npy
  std::vector<std::string> calibration;  ///< likewise
  std::vector<std::string> specs;        ///< formats of the cache
  std::vector<std::size_t> ratios{2, 4, 8, 16, 32};
  std::size_t new_tokens = 64;
  std::size_t sinks = 4;
  std::size_t window = 16;
  std::size_t threads = 1;
  bool help = false;
};

inline constexpr std::string_view usage =
    R"(retention: what each retention policy does to attention, at each token budget.

  --evaluation PREFIX    rows of one text: PREFIX_queries.npy, PREFIX_keys.npy, PREFIX_values.npy; repeatable
  --calibration PREFIX   rows that query filters, head importances and codebooks are fitted on; repeatable
  --formats SPEC         of the cache, without windows (default: exact rows, then k=pq4,v=int4); repeatable
  --new N                the last N tokens of each text come after eviction, and their queries judge it (default 64)
  --sinks N  --window N  first and newest tokens of the prompt that every policy keeps (default 4 and 16); the window's
                         queries are those that SnapKV observes
  --threads N            workers (default: one per core)
)";

/// Errors name the argument.
[[nodiscard]] inline pqkv::Result<Options> parse_options(const std::vector<std::string>& arguments) {
  Options options;
  options.threads = std::max(1u, std::thread::hardware_concurrency());
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& flag = arguments[i];
    if (flag == "--help" || flag == "-h") {
      options.help = true;
      return options;
    }
    std::vector<std::string>* list = flag == "--evaluation"    ? &options.evaluation
                                     : flag == "--calibration" ? &options.calibration
                                     : flag == "--formats"     ? &options.specs
                                                               : nullptr;
    std::size_t* number = flag == "--new"       ? &options.new_tokens
                          : flag == "--sinks"   ? &options.sinks
                          : flag == "--window"  ? &options.window
                          : flag == "--threads" ? &options.threads
                                                : nullptr;
    if (list == nullptr && number == nullptr) {
      return pqkv::Error{pqkv::Errc::invalid_parameter, pqkv::message("unknown argument '", flag, "'; see --help")};
    }
    if (i + 1 == arguments.size()) {
      return pqkv::Error{pqkv::Errc::invalid_parameter, pqkv::message(flag, " needs a value; see --help")};
    }
    const std::string& value = arguments[++i];
    if (list != nullptr) {
      list->push_back(value);
      continue;
    }
    const auto parsed = pqkv::parse_number(value, flag);
    if (!parsed) return parsed.error();
    if (*parsed == 0 || *parsed > 1'000'000) {
      return pqkv::Error{pqkv::Errc::invalid_parameter, pqkv::message(flag, ": 1 to 1000000, not ", *parsed)};
    }
    *number = *parsed;
  }
  if (options.evaluation.empty() || options.calibration.empty()) {
    return pqkv::Error{pqkv::Errc::invalid_parameter, "give --evaluation and --calibration; see --help"};
  }
  if (options.specs.empty()) options.specs = {"k=exact,v=exact", "k=pq4,v=int4"};
  return options;
}

}  // namespace retention_report
