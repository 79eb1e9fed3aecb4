// The retention report from its arguments to its exit code, so that tests can call it.
#pragma once

#include <pqkv/train/query_filter.hpp>

#include <fmt/format.h>

#include <cstdio>

#include "common/instruction_set.hpp"
#include "retention/options.hpp"
#include "retention/other_kinds.hpp"
#include "retention/subjects.hpp"

namespace retention_report {

[[nodiscard]] inline Result<std::vector<Text>> load(const std::vector<std::string>& prefixes) {
  std::vector<kv_report::TextFiles> files;
  for (const std::string& prefix : prefixes) files.push_back({prefix + "_queries.npy", prefix + "_keys.npy", prefix + "_values.npy"});
  return kv_report::load_texts(files);
}

/// The share of attention that goes neither to the first `sinks` nor to the newest 64 tokens, over calibration texts.
[[nodiscard]] inline double far_attention(const std::vector<Text>& texts, std::size_t layer, std::size_t head, std::size_t sinks) {
  constexpr std::size_t near = 64;
  constexpr std::size_t step = 16;  // every 16th token's queries are enough for a mean
  double far = 0, queries = 0;
  for (const Text& text : texts) {
    const auto rows = text.queries_of(layer, head);
    const auto keys = text.keys.rows(layer, head);
    for (std::size_t t = near + sinks; t < keys.count; t += step) {
      for (std::size_t q = 0; q < rows.group; ++q) {
        std::vector<double> scores;
        for (std::size_t i = 0; i <= t; ++i) {
          double product = 0;
          for (std::size_t d = 0; d < keys.dim; ++d) {
            product += static_cast<double>(rows.row(t, q)[d]) * static_cast<double>(keys.row(i)[d]);
          }
          scores.push_back(product / std::sqrt(static_cast<double>(keys.dim)));
        }
        const double norm = pqkv::log_sum_exp(scores);
        for (std::size_t i = sinks; i + near <= t; ++i) far += std::exp(scores[i] - norm);
        queries += 1;
      }
    }
  }
  return queries > 0 ? far / queries : 0;
}

/// One row of the report: figures by ratio (one for subjects that take the budget they need).
struct Row {
  std::string name, source;
  std::vector<Figures> figures;
  std::vector<Figures> layers;  ///< at the second ratio, by layer
};

/// Reads the prompt of a text into one head, as an engine would, and observes its queries.
[[nodiscard]] inline Result<Prompt> read_prompt(const Study& study, const pqkv::AnyKeys& keys, const pqkv::AnyValues& values,
                                                const Text& text, std::size_t layer, std::size_t kv_head, Workspace& workspace) {
  const std::size_t prompt = text.keys.shape.tokens - study.options.new_tokens;
  const std::size_t window = study.options.window;
  const auto queries = text.queries_of(layer, kv_head);
  Prompt read;
  read.head = std::make_unique<Head>(keys, values, pqkv::CacheOptions{.sinks = study.options.sinks, .recent = window});
  pqkv::Retainer observer(pqkv::AccumulatedAttention{});
  const auto rows = [&](const kv_report::Tensor& tensor) { return tensor.rows(layer, kv_head).slice(0, prompt); };
  if (auto status = observer.append(*read.head, rows(text.keys), rows(text.values)); !status) return status.error();
  auto before = queries;
  before.tokens = prompt - window;
  auto last = queries;
  last.data = queries.row(prompt - window, 0);
  last.tokens = window;
  if (auto status = observer.observe(*read.head, before, 0, workspace); !status) return status.error();
  const std::vector<float> earlier(observer.record().begin(), observer.record().end());
  observer.forget();
  const auto position = static_cast<std::int64_t>(prompt - window);
  if (auto status = observer.observe(*read.head, last, position, workspace); !status) return status.error();
  read.window_queries.assign(observer.record().begin(), observer.record().end());
  for (std::size_t i = 0; i < prompt; ++i) read.all_queries.push_back(earlier[i] + read.window_queries[i]);
  read.minimum = pqkv::minimum_budget(read.window_queries, 0.9);
  read.window_weights.resize(window * queries.group * prompt);
  for (std::size_t t = 0; t < window; ++t) {
    const pqkv::FloatRows group(last.row(t, 0), last.group, read.head->dim(), last.head_stride);
    pqkv::token_weights(*read.head, group, read.window_weights.data() + t * last.group * prompt, prompt, workspace,
                        {.query_position = position + static_cast<std::int64_t>(t)});
  }
  return read;
}

/// All rows of the table for one pair of formats.
[[nodiscard]] inline Result<std::vector<Row>> study_formats(const Study& study, const pqkv::CacheSpec& spec,
                                                            const std::vector<Calibrated>& calibrated) {
  const kv_report::Shape& shape = study.shape();
  const std::size_t places = shape.layers * shape.heads;
  const auto formats = fit_formats(study, spec);
  if (!formats) return formats.error();
  std::vector<Row> rows;
  const std::vector<Subject> all = subjects();
  for (const Subject& subject : all) {
    rows.push_back({subject.name, subject.source, std::vector<Figures>(subject.free ? 1 : study.options.ratios.size()),
                    std::vector<Figures>(shape.layers)});
  }
  rows.push_back({"everything", "no eviction", std::vector<Figures>(1), std::vector<Figures>(shape.layers)});
  FirstFailure fail;
  std::vector<Workspace> workspaces(study.workers.workers());
  for (const Text& text : study.texts) {
    const std::size_t prompt = text.keys.shape.tokens - study.options.new_tokens;
    std::vector<Prompt> prompts(places);
    study.workers.run(places, [&](std::size_t place, std::size_t worker) {
      auto read = read_prompt(study, *formats->keys[place], *formats->values[place], text, place / shape.heads,
                              place % shape.heads, workspaces[worker]);
      if (!read) return fail(read.error());
      prompts[place] = std::move(*read);
    });
    if (fail.error()) return *fail.error();

    const pqkv::Protection protection{study.options.sinks, study.options.window};
    const pqkv::BudgetLimits limits{protection.sinks + protection.recent, prompt};
    // figures[place][row][ratio]: each worker writes its own, so that the sums do not depend on their order.
    std::vector<std::vector<Row>> figures(places, rows);
    study.workers.run(places, [&](std::size_t place, std::size_t worker) {
      const std::size_t layer = place / shape.heads, head = place % shape.heads;
      const Truth truth(text, layer, head, prompt);
      for (std::size_t r = 0; r < rows.size(); ++r) {
        for (std::size_t i = 0; i < rows[r].figures.size(); ++i) {
          auto fork = prompts[place].head->fork();
          if (!fork) return fail(fork.error());
          if (r < all.size()) {
            const auto shares = budgets(all[r].shares, prompt / study.options.ratios[i], shape.layers, shape.heads, prompts,
                                        calibrated, limits);
            const auto ranges =
                all[r].plan({prompts[place], calibrated[place], shares[place], protection, workspaces[worker]});
            if (!ranges) return fail({ranges.error().code, message(all[r].name, ": ", ranges.error().message)});
            if (auto status = fork->erase(*ranges); !status) return fail(status.error());
          }
          const auto judged = replay(*fork, text, layer, head, prompt, truth, workspaces[worker]);
          if (!judged) return fail(judged.error());
          figures[place][r].figures[i] = *judged;
        }
      }
    });
    if (fail.error()) return *fail.error();
    for (std::size_t place = 0; place < places; ++place) {
      for (std::size_t r = 0; r < rows.size(); ++r) {
        const std::vector<Figures>& one = figures[place][r].figures;
        for (std::size_t i = 0; i < one.size(); ++i) rows[r].figures[i].merge(one[i]);
        rows[r].layers[place / shape.heads].merge(one[std::min<std::size_t>(1, one.size() - 1)]);
      }
    }
  }
  return rows;
}

/// The tables of one pair of formats, in Markdown.
[[nodiscard]] inline std::string tables(const std::string& spec, const std::vector<std::size_t>& ratios, const std::vector<Row>& rows) {
  std::string text = fmt::format("### `{}`\n", spec);
  const auto table = [&](std::string_view title, double Figures::*figure) {
    text += fmt::format("\n| {} | from |", title);
    for (const std::size_t ratio : ratios) text += fmt::format(" {}x |", ratio);
    text += "\n|---|---|";
    for (std::size_t i = 0; i < ratios.size(); ++i) text += "---|";
    text += "\n";
    for (const Row& row : rows) {
      if (row.figures.size() != ratios.size()) continue;
      text += fmt::format("| {} | {} |", row.name, row.source);
      for (const Figures& each : row.figures) text += fmt::format(" {:.3f} |", each.*figure);
      text += "\n";
    }
  };
  table("output error", &Figures::error);
  table("KL", &Figures::divergence);
  table("recall of the top 32", &Figures::recall);
  text += fmt::format("\n| output error at {}x, by layer | from |", ratios[1]);
  for (std::size_t l = 0; l < rows.front().layers.size(); ++l) text += fmt::format(" {} |", l);
  text += "\n|---|---|";
  for (std::size_t l = 0; l < rows.front().layers.size(); ++l) text += "---|";
  text += "\n";
  for (const Row& row : rows) {
    if (row.figures.size() != ratios.size()) continue;
    text += fmt::format("| {} | {} |", row.name, row.source);
    for (const Figures& each : row.layers) text += fmt::format(" {:.3f} |", each.error);
    text += "\n";
  }
  text += "\n| takes what it needs | from | tokens kept | output error | KL | recall of the top 32 |\n|---|---|---|---|---|---|\n";
  for (const Row& row : rows) {
    if (row.figures.size() == ratios.size()) continue;
    const Figures& each = row.figures.front();
    text += fmt::format("| {} | {} | {:.1f} % | {:.3f} | {:.3f} | {:.3f} |\n", row.name, row.source, 100 * each.kept, each.error,
                        each.divergence, each.recall);
  }
  return text + "\n";
}

/// Runs the program; tables go to `out`, complaints to `err`.
[[nodiscard]] inline int run(const std::vector<std::string>& arguments, std::FILE* out, std::FILE* err) {
  common::say_unmet_instruction_set(err);
  const auto refuse = [err](const std::string& text) {
    std::fprintf(err, "retention: %s\n", text.c_str());
    return 2;
  };
  const auto options = parse_options(arguments);
  if (!options) return refuse(options.error().message);
  if (options->help) return std::fputs(std::string(usage).c_str(), out) < 0 ? 1 : 0;
  const auto texts = load(options->evaluation);
  if (!texts) return refuse(texts.error().message);
  const auto calibration = load(options->calibration);
  if (!calibration) return refuse(calibration.error().message);
  const kv_report::Shape& shape = texts->front().keys.shape;
  const kv_report::Shape& fitted = calibration->front().keys.shape;
  if (shape.layers != fitted.layers || shape.heads != fitted.heads || shape.dim != fitted.dim) {
    return refuse(message("calibration keys ", kv_report::text_of(fitted), " and evaluation keys ", kv_report::text_of(shape),
                          " are not of one model"));
  }
  for (const Text& text : *texts) {
    const std::size_t tokens = text.keys.shape.tokens;
    const std::size_t least = options->ratios.back() * (options->sinks + options->window);
    if (tokens < options->new_tokens + least) {
      return refuse(message("a text of ", tokens, " tokens, ", options->new_tokens, " of them new, is too short: at ",
                            options->ratios.back(), "x the prompt must have ", least, " for sinks and window to fit"));
    }
  }
  const common::Workers workers(options->threads);
  std::vector<Calibrated> calibrated(shape.layers * shape.heads);
  for (std::size_t place = 0; place < calibrated.size(); ++place) {
    const std::size_t layer = place / shape.heads, head = place % shape.heads;
    const std::vector<float> queries = kv_report::gather_queries(*calibration, layer, head);
    auto filter = pqkv::fit_query_filter({queries.data(), queries.size() / shape.dim, shape.dim}, calibration->front().group());
    if (!filter) return refuse(filter.error().message);
    calibrated[place].filter = std::move(*filter);
  }
  workers.run(calibrated.size(), [&](std::size_t place, std::size_t) {
    calibrated[place].importance = far_attention(*calibration, place / shape.heads, place % shape.heads, options->sinks);
  });
  for (const std::string& spec_text : options->specs) {
    const auto spec = pqkv::parse_cache_spec(spec_text);
    if (!spec) return refuse(spec.error().message);
    const auto rows = study_formats({*options, *texts, *calibration, workers}, *spec, calibrated);
    if (!rows) return refuse(message(spec_text, ": ", rows.error().message));
    fmt::print(out, "{}", tables(spec_text, options->ratios, *rows));
  }
  const auto others = study_other_kinds({*options, *texts, *calibration, workers});
  if (!others) return refuse(others.error().message);
  fmt::print(out, "{}", table_of(*others));
  return 0;
}

}  // namespace retention_report
