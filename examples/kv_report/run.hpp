// kv_report from its arguments to its exit code, so that tests can call it.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "common/instruction_set.hpp"
#include "kv_report/gains.hpp"
#include "kv_report/page.hpp"

namespace kv_report {

inline constexpr int exit_ok = 0;
inline constexpr int exit_bad_input = 2;

[[nodiscard]] inline bool write_file(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return false;
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  return std::fclose(file) == 0 && written;
}

/// Runs the program; tables go to `out`, complaints to `err`.
[[nodiscard]] inline int run(const std::vector<std::string>& arguments, std::FILE* out, std::FILE* err) {
  const auto refuse = [err](const std::string& text) {
    std::fprintf(err, "kv_report: %s\n", text.c_str());
    return exit_bad_input;
  };
  const auto options = parse_options(arguments);
  if (!options) return refuse(options.error().message);
  if (options->help) return std::fputs(std::string(usage).c_str(), out) < 0 ? 1 : exit_ok;
  if (options->list) return std::fputs(pqkv::list_formats().c_str(), out) < 0 ? 1 : exit_ok;
  const auto texts = load_texts(options->evaluation);
  if (!texts) return refuse(texts.error().message);
  const auto calibration = load_texts(options->calibration);
  if (!calibration) return refuse(calibration.error().message);
  const std::vector<Text>& training = calibration->empty() ? *texts : *calibration;
  const Shape& shape = texts->front().keys.shape;
  const Shape& trained = training.front().keys.shape;
  if (shape.layers != trained.layers || shape.heads != trained.heads || shape.dim != trained.dim) {
    return refuse(pqkv::message("calibration keys ", text_of(trained), " and evaluation keys ", text_of(shape),
                                " are not of one model"));
  }

  const std::size_t turned = options->rope_dims == 0 ? shape.dim : options->rope_dims;
  if (turned > shape.dim || turned % 2 != 0) return refuse(pqkv::message("--rope-dims ", turned, " of rows of ", shape.dim));
  const auto rope = options->rope_theta > 0 ? pqkv::Rope::with_base(turned, options->rope_theta, options->rope_pairing)
                                            : pqkv::Rope();

  std::size_t tokens = 0, training_tokens = 0;
  for (const Text& text : *texts) tokens += text.keys.shape.tokens;
  for (const Text& text : training) training_tokens += text.keys.shape.tokens;
  const std::string subtitle = fmt::format(
      "{} layers, {} query heads on {} kv heads, dim {}; {} text{} of {} tokens in all; codebooks trained on {} tokens of {}.",
      shape.layers, texts->front().queries.shape.heads, shape.heads, shape.dim, texts->size(), texts->size() == 1 ? "" : "s",
      tokens, training_tokens, calibration->empty() ? "the same texts" : "other texts");
  fmt::print(out, "{}\n{}.\n\n", subtitle, common::instruction_set());

  std::vector<Policy> policies = options->policies;
  if (policies.empty()) {
    const bool fits = options->rope_theta > 0 && !training.front().queries.data.empty();
    policies = make_default_policies(fits);
    if (!fits) {
      fmt::print(out, "Policies with fitted keys are left out: they need the model's RoPE (--rope-theta) and {}.\n\n",
                 calibration->empty() ? "its queries" : "--calibration-queries");
    }
  }
  const common::Workers workers(options->threads);
  std::vector<PolicyResult> results;
  {
    common::ProgressBar progress(policies.size() * shape.layers * shape.heads);
    for (const Policy& policy : policies) {
      auto result = evaluate_policy(policy, *texts, {training, rope, options->seed}, workers, progress);
      if (!result) return refuse(pqkv::message(policy.spec.text, ": ", result.error().message));
      results.push_back(std::move(*result));
    }
  }
  fmt::print(out, "{}", table_text(results));
  for (const auto& [path, text] : {std::pair{options->json, json_text(results)}, {options->csv, csv_text(results)},
                                   {options->html, html_text(results, subtitle)}, {options->svg, svg_text(results)}}) {
    if (path.empty()) continue;
    if (!write_file(path, text)) return refuse(path + ": cannot be written");
    fmt::print(out, "\nwrote {}", path);
  }
  if (const std::string gains = gains_text(results); !gains.empty()) fmt::print(out, "\n\n{}", gains);
  fmt::print(out, "\n");
  return exit_ok;
}

}  // namespace kv_report
