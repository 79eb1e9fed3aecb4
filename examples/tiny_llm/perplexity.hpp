// Perplexity and divergence of a cache spec: chunks of text scored token by token through the decoding path, beside the
// same model with an exact cache.
#pragma once

#include <fmt/format.h>
#include <pqkv/measure/bits.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <string>
#include <vector>

#include "common/plot.hpp"
#include "tiny_llm/arguments.hpp"
#include "tiny_llm/calibration.hpp"

namespace tiny_llm {

struct PerplexityResult {
  std::string policy;
  std::string name;               ///< the policy as tables have it
  double mean_nll = 0;            ///< nats per scored token
  double perplexity = 0;
  double perplexity_stderr = 0;   ///< of the mean over tokens, carried to perplexity
  double perplexity_change = 0;   ///< against the exact cache, in perplexity
  double kld_mean = 0;            ///< KL(exact ‖ spec) of the next-token distribution, nats
  double kld_p99 = 0;
  double top1_equal = 0;          ///< share of positions with the exact cache's most likely token
  double key_bits = 0, value_bits = 0, bits_all_told = 0;  ///< per element at the end of a chunk
  double decode_tokens_per_s = 0; ///< one thread, mean over chunks
  std::size_t cache_bytes = 0;    ///< of one sequence at the end of a chunk
};

namespace detail {

/// Figures of the scored positions of one chunk.
struct ChunkScores {
  std::vector<double> nll, divergence;
  std::size_t equal_tops = 0;
  double seconds = 0;
  std::size_t tokens = 0;
};

/// log-probabilities, in double.
[[nodiscard]] inline std::vector<double> log_probabilities(const float* logits, std::size_t count) {
  const double most = static_cast<double>(*std::max_element(logits, logits + count));
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += std::exp(static_cast<double>(logits[i]) - most);
  const double norm = most + std::log(sum);
  std::vector<double> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<double>(logits[i]) - norm;
  return out;
}

[[nodiscard]] inline pqkv::Result<ChunkScores> score_chunk(const Model& model, Sequence& sequence,
                                                           std::span<const std::uint32_t> tokens, const Matrix& exact_logits,
                                                           std::size_t from, const pqkv::AttendOptions& options) {
  ChunkScores scores;
  for (std::size_t t = 0; t + 1 < tokens.size(); ++t) {
    const auto start = std::chrono::steady_clock::now();
    const auto logits = forward(model, sequence, tokens.subspan(t, 1), false, options);
    scores.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (!logits) return logits.error();
    ++scores.tokens;
    if (t < from) continue;
    const auto here = log_probabilities(logits->data(), model.vocabulary);
    const auto exact = log_probabilities(&exact_logits(static_cast<Eigen::Index>(t), 0), model.vocabulary);
    double divergence = 0;
    for (std::size_t v = 0; v < model.vocabulary; ++v) divergence += std::exp(exact[v]) * (exact[v] - here[v]);
    scores.nll.push_back(-here[tokens[t + 1]]);
    scores.divergence.push_back(std::max(divergence, 0.0));
    const auto top = [](const std::vector<double>& x) { return std::max_element(x.begin(), x.end()) - x.begin(); };
    scores.equal_tops += top(here) == top(exact) ? 1 : 0;
  }
  return scores;
}

}  // namespace detail

/// The books for one text: refined on the first `tokens` of it, or trained on them where there are none yet; 0: `books`.
[[nodiscard]] inline pqkv::Result<Books> books_for(const Model& model, const std::vector<LayerSpecs>& specs, const Books& books,
                                                   std::span<const std::uint32_t> text, std::size_t tokens) {
  if (tokens == 0) return books;
  Books mine;
  const common::Workers alone(1);  // the workers have a text each
  const auto rows = collect_rows(model, {text.first(std::min(tokens, text.size()))}, alone, true);
  if (!rows) return rows.error();
  for (const LayerSpecs& one : specs) {
    if (pqkv::Status status = mine.train(model, one, *rows, 1, alone, nullptr, &books); !status) return status.error();
  }
  return mine;
}

/// Scores every spec on every chunk, from position `from` on; chunks are shared among the workers. `prompt`: see books_for.
[[nodiscard]] inline pqkv::Result<std::vector<PerplexityResult>> measure_perplexity(
    const Model& model, const std::vector<std::span<const std::uint32_t>>& chunks, const std::vector<LayerSpecs>& specs,
    const Books& books, std::size_t prompt, std::size_t from, const pqkv::AttendOptions& options,
    const common::Workers& workers, common::ProgressBar* progress) {
  const LayerSpecs exact{*pqkv::parse_cache_spec("k=exact:f32,v=exact:f32")};
  std::vector<std::vector<detail::ChunkScores>> scores(specs.size(), std::vector<detail::ChunkScores>(chunks.size()));
  std::vector<detail::ChunkScores> exact_scores(chunks.size());
  std::vector<PerplexityResult> results(specs.size());
  std::vector<pqkv::Status> failures(chunks.size());
  workers.run(chunks.size(), [&](std::size_t c, std::size_t) {
    auto reference = make_sequence(model, exact, {});
    if (!reference) return void(failures[c] = reference.error());
    const auto exact_logits = forward(model, *reference, chunks[c], true);
    if (!exact_logits) return void(failures[c] = exact_logits.error());
    for (std::size_t t = from; t + 1 < chunks[c].size(); ++t) {
      exact_scores[c].nll.push_back(-detail::log_probabilities(&(*exact_logits)(static_cast<Eigen::Index>(t), 0),
                                                               model.vocabulary)[chunks[c][t + 1]]);
    }
    const auto mine = books_for(model, specs, books, chunks[c], prompt);
    if (!mine) return void(failures[c] = mine.error());
    for (std::size_t s = 0; s < specs.size(); ++s) {
      auto sequence = make_sequence(model, specs[s], mine->source());
      if (!sequence) return void(failures[c] = sequence.error());
      auto chunk = detail::score_chunk(model, *sequence, chunks[c], *exact_logits, from, options);
      if (!chunk) return void(failures[c] = chunk.error());
      scores[s][c] = std::move(*chunk);
      if (c == 0) {
        const pqkv::AnyCache& cache = sequence->cache;
        results[s].cache_bytes = cache.bytes();
        const std::size_t heads = model.layers_count * model.kv_heads;
        for (std::size_t h = 0; h < heads; ++h) {
          const auto& head = cache.head(h / model.kv_heads, h % model.kv_heads);
          const auto share = 1.0 / static_cast<double>(heads);
          const auto bits = [&](std::size_t block_bytes) {
            return share * pqkv::bits_per_element(chunks[c].size(), model.dim, head.options(), block_bytes,
                                                  head.keys().run_tokens());
          };
          results[s].key_bits += bits(head.keys().block_bytes());
          results[s].value_bits += bits(head.values().block_bytes());
        }
      }
      if (progress != nullptr) progress->advance(specs[s].front().text);
    }
  });
  for (const pqkv::Status& failure : failures) {
    if (!failure) return failure.error();
  }
  const auto mean_of = [](const std::vector<double>& x) {
    double sum = 0;
    for (const double value : x) sum += value;
    return x.empty() ? 0.0 : sum / static_cast<double>(x.size());
  };
  std::vector<double> exact_nll;
  for (const auto& chunk : exact_scores) exact_nll.insert(exact_nll.end(), chunk.nll.begin(), chunk.nll.end());
  for (std::size_t s = 0; s < specs.size(); ++s) {
    PerplexityResult& r = results[s];
    r.policy = text_of(specs[s]);
    r.name = short_text_of(specs[s]);
    std::vector<double> nll, divergence;
    double equal = 0, seconds = 0, tokens = 0;
    for (const detail::ChunkScores& chunk : scores[s]) {
      nll.insert(nll.end(), chunk.nll.begin(), chunk.nll.end());
      divergence.insert(divergence.end(), chunk.divergence.begin(), chunk.divergence.end());
      equal += static_cast<double>(chunk.equal_tops);
      seconds += chunk.seconds;
      tokens += static_cast<double>(chunk.tokens);
    }
    const auto count = static_cast<double>(nll.size());
    r.mean_nll = mean_of(nll);
    r.perplexity = std::exp(r.mean_nll);
    double squares = 0;
    for (const double x : nll) squares += (x - r.mean_nll) * (x - r.mean_nll);
    r.perplexity_stderr = r.perplexity * std::sqrt(squares / std::max(count - 1, 1.0) / count);
    r.perplexity_change = r.perplexity - std::exp(mean_of(exact_nll));
    r.kld_mean = mean_of(divergence);
    std::sort(divergence.begin(), divergence.end());
    r.kld_p99 = divergence[static_cast<std::size_t>(0.99 * (count - 1))];
    r.top1_equal = equal / count;
    r.bits_all_told = (r.key_bits + r.value_bits) / 2;
    r.decode_tokens_per_s = tokens / seconds;
  }
  return results;
}

[[nodiscard]] inline std::string table_text(const std::vector<PerplexityResult>& results) {
  std::size_t width = 5;
  for (const PerplexityResult& r : results) width = std::max(width, r.name.size());
  std::string text = fmt::format("{:<{}}  {:>6} {:>6} {:>6}  {:>16} {:>8}  {:>8} {:>8} {:>6}  {:>8} {:>9}\n", "cache", width,
                                 "K bits", "V bits", "both", "perplexity", "change", "KLD", "KLD 99%", "top-1", "tokens/s",
                                 "cache KiB");
  for (const PerplexityResult& r : results) {
    text += fmt::format("{:<{}}  {:>6.2f} {:>6.2f} {:>6.2f}  {:>8.3f} ± {:>5.3f} {:>+8.3f}  {:>8.5f} {:>8.5f} {:>6.3f}  "
                        "{:>8.0f} {:>9.0f}\n",
                        r.name, width, r.key_bits, r.value_bits, r.bits_all_told, r.perplexity, r.perplexity_stderr,
                        r.perplexity_change, r.kld_mean, r.kld_p99, r.top1_equal, r.decode_tokens_per_s,
                        static_cast<double>(r.cache_bytes) / 1024);
  }
  return text;
}

/// The table for a README, rows numbered as in the plot; without speeds, which belong to a machine.
[[nodiscard]] inline std::string markdown_text(const std::vector<PerplexityResult>& results) {
  std::string text = "| # | cache | K bits | V bits | both | perplexity | change | KLD | KLD 99 % | top-1 |\n"
                     "|---|---|---|---|---|---|---|---|---|---|\n";
  for (std::size_t i = 0; i < results.size(); ++i) {
    const PerplexityResult& r = results[i];
    text += fmt::format("| {} | `{}` | {:.2f} | {:.2f} | {:.2f} | {:.2f} ± {:.2f} | {:+.3f} | {:.5f} | {:.4f} | {:.3f} |\n",
                        i + 1, r.name, r.key_bits, r.value_bits, r.bits_all_told, r.perplexity, r.perplexity_stderr,
                        r.perplexity_change, r.kld_mean, r.kld_p99, r.top1_equal);
  }
  return text;
}

[[nodiscard]] inline common::Plot plot_of(const std::vector<PerplexityResult>& results) {
  std::vector<common::PlotPoint> points;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const PerplexityResult& r = results[i];
    points.push_back({r.bits_all_told, r.kld_mean, i + 1,
                      fmt::format("{}: {:.2f} bits, {:.4g}", r.name, r.bits_all_told, r.kld_mean), common::family_of(r.policy)});
  }
  constexpr double rounding = 1e-6;
  return {"Divergence of the next-token distribution", common::Axis("bits per element, K and V (log)", common::Scale::twofold),
          common::Axis("KL divergence in nats (log)", common::Scale::tenfold, rounding), std::move(points)};
}

[[nodiscard]] inline std::string json_text(const std::vector<PerplexityResult>& results) {
  std::string text = "[";
  for (const PerplexityResult& r : results) {
    text += fmt::format(
        "{}\n  {{\"policy\": \"{}\", \"mean_nll\": {}, \"perplexity\": {}, \"perplexity_stderr\": {}, \"perplexity_change\": {}, "
        "\"kld_mean\": {}, \"kld_p99\": {}, \"top1_equal\": {}, \"key_bits\": {}, \"value_bits\": {}, \"bits_all_told\": {}, "
        "\"decode_tokens_per_s\": {}, \"cache_bytes\": {}}}",
        text.size() > 1 ? "," : "", r.policy, r.mean_nll, r.perplexity, r.perplexity_stderr, r.perplexity_change, r.kld_mean,
        r.kld_p99, r.top1_equal, r.key_bits, r.value_bits, r.bits_all_told, r.decode_tokens_per_s, r.cache_bytes);
  }
  return text + "\n]\n";
}

}  // namespace tiny_llm
