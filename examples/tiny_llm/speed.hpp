// Decoding speed behind a long history that nobody wrote: rows of keys and values that attention really saw on a text are
// drawn again and again, each element changed by up to a tenth, and appended without running the model. Attention then
// reads as many bytes as behind a real history of that length, and weights are as uneven as on a real text.
// Processor time is what counts: one thread decodes, and on a busy machine the clock on the wall would charge the slow policies
// with the turns of other programs that begin while they work, and the quick ones with none.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <string>
#include <vector>

#include "common/plot.hpp"
#include "tiny_llm/arguments.hpp"
#include "tiny_llm/calibration.hpp"

namespace tiny_llm {

inline constexpr std::size_t most_fake_tokens = 1 << 24;

struct SpeedResult {
  std::string policy;
  std::size_t number = 0;  ///< of the policy, from 1
  std::size_t history = 0;
  double decode_tokens_per_s = 0;  ///< one thread, processor time, median over tokens
  std::size_t cache_bytes = 0;
};

namespace detail {

/// Appends drawn rows to all layers until they hold `tokens`. Layers are shared among the workers.
[[nodiscard]] inline pqkv::Status extend_history(const Model& model, pqkv::AnyCache& cache, const CollectedRows& rows,
                                                 std::size_t tokens, std::uint64_t seed, const common::Workers& workers) {
  if (pqkv::Status status = cache.reserve(tokens); !status) return status;
  std::vector<pqkv::Status> failures(model.layers_count);
  workers.run(model.layers_count, [&](std::size_t layer, std::size_t) {
    pqkv::Random random(seed * model.layers_count + layer + cache.tokens(layer));
    const std::size_t count = rows.head(layer, 0).keys.size() / model.dim;
    while (cache.tokens(layer) < tokens && failures[layer]) {
      const auto batch = static_cast<Eigen::Index>(std::min<std::size_t>(1024, tokens - cache.tokens(layer)));
      Matrix keys(batch, static_cast<Eigen::Index>(model.kv_heads * model.dim)), values(keys.rows(), keys.cols());
      for (Eigen::Index t = 0; t < batch; ++t) {
        const std::size_t row = random.below(count);  // one token of the text, in all heads
        for (std::size_t i = 0; i < model.kv_heads * model.dim; ++i) {
          const HeadRows& head = rows.head(layer, i / model.dim);
          const std::size_t from = row * model.dim + i % model.dim;
          const auto changed = [&random](float x) { return x * static_cast<float>(0.9 + 0.2 * random.uniform()); };
          keys(t, static_cast<Eigen::Index>(i)) = changed(head.keys[from]);
          values(t, static_cast<Eigen::Index>(i)) = changed(head.values[from]);
        }
      }
      failures[layer] = cache.append_layer(layer, view(keys), view(values));
    }
  });
  for (const pqkv::Status& failure : failures) {
    if (!failure) return failure;
  }
  return {};
}

}  // namespace detail

/// Tokens per second of every spec behind every history, in ascending order of histories; each history grows out of the
/// one before. The specs take turns, a few tokens each, so that what else the machine does meets all of them.
[[nodiscard]] inline pqkv::Result<std::vector<SpeedResult>> measure_speed(
    const Model& model, const CollectedRows& rows, const std::vector<LayerSpecs>& specs, const pqkv::CodebookSource& codebooks,
    std::vector<std::size_t> histories, std::size_t tokens, std::uint64_t seed, const common::Workers& workers,
    common::ProgressBar* progress) {
  constexpr std::size_t turn = 4;
  std::sort(histories.begin(), histories.end());
  histories.erase(std::unique(histories.begin(), histories.end()), histories.end());
  std::vector<Sequence> sequences;
  for (const LayerSpecs& spec : specs) {
    auto sequence = make_sequence(model, spec, codebooks);
    if (!sequence) return sequence.error();
    sequences.push_back(std::move(*sequence));
  }
  std::vector<SpeedResult> results;
  for (const std::size_t history : histories) {
    for (Sequence& sequence : sequences) {
      if (pqkv::Status status = detail::extend_history(model, sequence.cache, rows, history, seed, workers); !status) {
        return status.error();
      }
      if (progress != nullptr) progress->advance(pqkv::message("history of ", history));
    }
    std::vector<std::vector<double>> seconds(specs.size());
    for (std::size_t done = 0; done < tokens; done += turn) {
      for (std::size_t s = 0; s < specs.size(); ++s) {
        for (std::size_t i = 0; i <= turn; ++i) {
          // The model knows positions up to its context only; its last one stands for all of them. Text it would not
          // make, but the same work.
          sequences[s].position = model.context - 1;
          const auto token = static_cast<std::uint32_t>((done + i) % model.vocabulary);
          const std::clock_t start = std::clock();
          if (auto logits = forward(model, sequences[s], {&token, 1}); !logits) return logits.error();
          const double took = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
          if (i > 0) seconds[s].push_back(std::max(took, 1e-6));  // the first brings its data back into the caches
        }
      }
    }
    for (std::size_t s = 0; s < specs.size(); ++s) {
      const auto middle = seconds[s].begin() + static_cast<std::ptrdiff_t>(seconds[s].size() / 2);
      std::nth_element(seconds[s].begin(), middle, seconds[s].end());
      results.push_back({short_text_of(specs[s]), s + 1, history, 1 / *middle, sequences[s].cache.bytes()});
    }
  }
  return results;
}

[[nodiscard]] inline std::string table_text(const std::vector<SpeedResult>& results) {
  std::size_t width = 5;
  for (const SpeedResult& r : results) width = std::max(width, r.policy.size());
  std::string text = fmt::format("{:>8}  {:<{}}  {:>9} {:>10}\n", "history", "cache", width, "tokens/s", "cache MiB");
  for (const SpeedResult& r : results) {
    text += fmt::format("{:>8}  {:<{}}  {:>9.1f} {:>10.1f}\n", r.history, r.policy, width, r.decode_tokens_per_s,
                        static_cast<double>(r.cache_bytes) / 1024 / 1024);
  }
  return text;
}

/// The table for a README: a row per policy, a column per history, and times the first policy's speed.
[[nodiscard]] inline std::string markdown_text(const std::vector<SpeedResult>& results) {
  std::size_t policies = 0;
  for (const SpeedResult& r : results) policies = std::max(policies, r.number);
  std::string header = "| # | cache |", rule = "|---|---|";
  for (std::size_t i = 0; i < results.size(); i += policies) {
    header += fmt::format(" {} |", results[i].history);
    rule += "---|";
  }
  std::string text = header + "\n" + rule + "\n";
  for (std::size_t p = 0; p < policies; ++p) {
    text += fmt::format("| {} | `{}` |", p + 1, results[p].policy);
    for (std::size_t i = 0; i < results.size(); i += policies) {
      const double speed = results[i + p].decode_tokens_per_s;
      text += p == 0 ? fmt::format(" {:.4g} |", speed)
                     : fmt::format(" {:.4g} (× {:.2f}) |", speed, speed / results[i].decode_tokens_per_s);
    }
    text += "\n";
  }
  return text;
}

[[nodiscard]] inline std::string json_text(const std::vector<SpeedResult>& results) {
  std::string text = "[";
  for (const SpeedResult& r : results) {
    text += fmt::format("{}\n  {{\"policy\": \"{}\", \"history\": {}, \"decode_tokens_per_s\": {}, \"cache_bytes\": {}}}",
                        text.size() > 1 ? "," : "", r.policy, r.history, r.decode_tokens_per_s, r.cache_bytes);
  }
  return text + "\n]\n";
}

[[nodiscard]] inline common::Plot plot_of(const std::vector<SpeedResult>& results) {
  std::vector<common::PlotPoint> points;
  for (const SpeedResult& r : results) {
    points.push_back({static_cast<double>(r.history), r.decode_tokens_per_s, r.number, r.policy, common::family_of(r.policy)});
  }
  return {"Decoding speed over context", common::Axis("tokens in the cache (log)", common::Scale::fourfold),
          common::Axis("tokens/s, one thread (log)", common::Scale::fourfold), std::move(points), true};
}

}  // namespace tiny_llm
