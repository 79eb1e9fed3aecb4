// The command line of kv_report.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "kv_report/policies.hpp"

namespace kv_report {

/// Files of one text: queries, keys, values.
struct TextFiles {
  std::string queries;
  std::string keys;
  std::string values;
};

struct Options {
  std::vector<TextFiles> evaluation;
  std::vector<TextFiles> calibration;  ///< none: codebooks are trained on the evaluated rows
  std::vector<Policy> policies;  ///< those named by arguments; none: make_default_policies()
  std::size_t threads = 1;
  std::uint64_t seed = 1;
  double rope_theta = 0;  ///< the model's RoPE; 0: not known, and policies with runs are refused
  std::size_t rope_dims = 0;  ///< 0: all
  pqkv::RopePairing rope_pairing = pqkv::RopePairing::adjacent;
  std::string json;
  std::string csv;
  std::string html;
  std::string svg;
  bool list = false;
  bool help = false;
};

inline constexpr std::string_view usage =
    R"(kv_report: what a compressed KV cache does to attention, measured on dumped queries, keys and values.

  --queries F --keys F --values F    .npy, f16 or f32, [layers, heads, tokens, dim]; repeat in matching order for
                                     several texts, which are evaluated together
  --calibration-queries F --calibration-keys F --calibration-values F
                                     the same for training codebooks (queries may be left out);
                                     without them codebooks are trained on the rows that are evaluated
  --policy SPEC                      repeatable, such as k=pq4:m=16,v=int4:g=32,sinks=4,recent=64; without it a list of
                                     its own is judged, whose policies with runs need --rope-theta and calibration queries
  --threads N                        workers (default: one per core)
  --seed N                           of training (default 1)
  --rope-theta X                     the model's RoPE base, for policies with run= (positions are token indices)
  --rope-pairing adjacent|half       which elements make a pair (default adjacent), of --rope-dims N (default all)
  --json F   --csv F                 write the figures
  --html F   --svg F                 write a page with table and plots, or the first plot alone
  --list                             every format with its parameters
)";

namespace detail {

[[nodiscard]] inline pqkv::Result<std::uint64_t> parse_whole(std::string_view flag, std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) {
    return pqkv::Error{pqkv::Errc::invalid_parameter, pqkv::message(flag, ": '", text, "' is not a whole number")};
  }
  return number;
}

/// Zips the three lists of files of one kind.
[[nodiscard]] inline pqkv::Result<std::vector<TextFiles>> pair_files(std::string_view prefix,
                                                                     const std::vector<std::string>& queries,
                                                                     const std::vector<std::string>& keys,
                                                                     const std::vector<std::string>& values,
                                                                     bool queries_optional) {
  const bool without = queries_optional && queries.empty();
  if (keys.size() != values.size() || (!without && queries.size() != keys.size())) {
    return pqkv::Error{pqkv::Errc::invalid_parameter,
                       pqkv::message(queries.size(), " × --", prefix, "queries, ", keys.size(), " × --", prefix,
                                     "keys and ", values.size(), " × --", prefix,
                                     "values do not match: give each text's files, in the same order")};
  }
  std::vector<TextFiles> texts;
  for (std::size_t i = 0; i < keys.size(); ++i) texts.push_back({without ? "" : queries[i], keys[i], values[i]});
  return texts;
}

}  // namespace detail

/// Errors name the argument.
[[nodiscard]] inline pqkv::Result<Options> parse_options(const std::vector<std::string>& arguments) {
  using pqkv::Errc;
  using pqkv::Error;
  using pqkv::message;
  Options options;
  options.threads = std::max(1u, std::thread::hardware_concurrency());
  struct Files {
    std::vector<std::string> queries, keys, values;
  } evaluation, calibration;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& flag = arguments[i];
    if (flag == "--list" || flag == "--help" || flag == "-h") {
      (flag == "--list" ? options.list : options.help) = true;
      return options;
    }
    std::vector<std::string>* files = flag == "--queries"               ? &evaluation.queries
                                      : flag == "--keys"                ? &evaluation.keys
                                      : flag == "--values"              ? &evaluation.values
                                      : flag == "--calibration-queries" ? &calibration.queries
                                      : flag == "--calibration-keys"    ? &calibration.keys
                                      : flag == "--calibration-values"  ? &calibration.values
                                                                        : nullptr;
    std::string* output = flag == "--json"   ? &options.json
                          : flag == "--csv"  ? &options.csv
                          : flag == "--html" ? &options.html
                          : flag == "--svg"  ? &options.svg
                                             : nullptr;
    bool known = files != nullptr || output != nullptr;
    for (const char* name : {"--policy", "--threads", "--seed", "--rope-theta", "--rope-pairing", "--rope-dims"}) {
      known = known || flag == name;
    }
    if (!known) return Error{Errc::invalid_parameter, message("unknown argument '", flag, "'; see --help")};
    if (i + 1 == arguments.size()) return Error{Errc::invalid_parameter, message(flag, " needs a value; see --help")};
    const std::string& value = arguments[++i];
    if (files != nullptr) {
      files->push_back(value);
    } else if (output != nullptr) {
      *output = value;
    } else if (flag == "--policy") {
      auto spec = pqkv::parse_cache_spec(value);
      if (!spec) return Error{spec.error().code, message("--policy: ", spec.error().message)};
      options.policies.push_back({std::move(*spec)});
    } else if (flag == "--rope-pairing") {
      if (value != "adjacent" && value != "half") return Error{Errc::invalid_parameter, "--rope-pairing: adjacent or half"};
      options.rope_pairing = value == "half" ? pqkv::RopePairing::half_split : pqkv::RopePairing::adjacent;
    } else {
      const auto number = detail::parse_whole(flag, value);
      if (!number) return number.error();
      if (flag == "--seed") options.seed = *number;
      if (flag == "--rope-theta") options.rope_theta = static_cast<double>(*number);
      if (flag == "--rope-dims") options.rope_dims = *number;
      if (flag == "--threads") {
        if (*number < 1 || *number > 1024) return Error{Errc::invalid_parameter, "--threads: 1 to 1024"};
        options.threads = *number;
      }
    }
  }
  auto texts = detail::pair_files("", evaluation.queries, evaluation.keys, evaluation.values, false);
  if (!texts) return texts.error();
  if (texts->empty()) return Error{Errc::invalid_parameter, "no input: give --queries, --keys and --values; see --help"};
  options.evaluation = std::move(*texts);
  texts = detail::pair_files("calibration-", calibration.queries, calibration.keys, calibration.values, true);
  if (!texts) return texts.error();
  options.calibration = std::move(*texts);
  return options;
}

}  // namespace kv_report
