// Retrieval: a passage from elsewhere is planted in ordinary text, then its beginning comes again; how much likelier does
// the model hold its continuation than without the plant, through each cache? What it gains can only come through
// attention to the planted tokens.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "tiny_llm/perplexity.hpp"

namespace tiny_llm {

struct Retrieval {
  std::size_t length = 0;  ///< tokens before the question
  double depth = 0;        ///< where the passage lies, as a share of them
  double probability = 0;  ///< of the right token, geometric mean
  double gain = 0;         ///< log-probability gained by the plant, nats per token
  double median_rank = 0;  ///< of the right token; 0 is the most likely
};

namespace detail {

inline constexpr std::size_t passage_tokens = 24;

/// Log-probabilities of the second half of `passage` behind `text` and the first half; ranks are appended.
[[nodiscard]] inline pqkv::Result<double> ask(const Model& model, Sequence& sequence, std::span<const std::uint32_t> text,
                                              std::span<const std::uint32_t> passage, const pqkv::AttendOptions& options,
                                              std::vector<double>* ranks) {
  for (std::size_t at = 0; at < text.size(); at += 128) {
    const auto chunk = text.subspan(at, std::min<std::size_t>(128, text.size() - at));
    if (auto logits = forward(model, sequence, chunk, false, options); !logits) return logits.error();
  }
  double sum = 0;
  for (std::size_t i = 0; i + 1 < passage.size(); ++i) {
    const auto logits = forward(model, sequence, passage.subspan(i, 1), false, options);
    if (!logits) return logits.error();
    if (i + 1 < passage.size() / 2) continue;
    const auto log_p = log_probabilities(logits->data(), model.vocabulary);
    const double right = log_p[passage[i + 1]];
    sum += right;
    if (ranks != nullptr) {
      ranks->push_back(static_cast<double>(std::count_if(log_p.begin(), log_p.end(), [&](double x) { return x > right; })));
    }
  }
  return sum / static_cast<double>(passage.size() - passage.size() / 2);
}

}  // namespace detail

/// 1k, 2k, 4k … tokens and the model's limit; a quarter, half and all of the limit where that is 4k or less.
[[nodiscard]] inline std::vector<std::size_t> retrieval_lengths(std::size_t context) {
  std::vector<std::size_t> lengths;
  for (std::size_t length = std::min<std::size_t>(1024, context / 4); length != 0 && length < context; length *= 2) {
    lengths.push_back(length);
  }
  lengths.push_back(context);
  return lengths;
}

/// `trials` texts for each length and depth; the same texts and passages for every spec.
[[nodiscard]] inline pqkv::Result<std::vector<Retrieval>> measure_retrieval(
    const Model& model, std::span<const std::uint32_t> text, const LayerSpecs& specs, const pqkv::CodebookSource& codebooks,
    std::size_t trials, std::uint64_t seed, const pqkv::AttendOptions& options, const common::Workers& workers) {
  constexpr std::size_t passage_size = detail::passage_tokens;
  std::vector<Retrieval> cases;
  for (const std::size_t total : retrieval_lengths(model.context)) {
    if (total < 4 * passage_size || total > text.size()) continue;
    for (const double depth : {0.1, 0.5, 0.9}) cases.push_back({total - passage_size, depth, 0, 0, 0});
  }
  if (cases.empty()) {
    return pqkv::Error{pqkv::Errc::invalid_data, pqkv::message("a text of ", text.size(), " tokens or a context of ", model.context,
                                                               " is too short to plant anything")};
  }
  std::vector<pqkv::Status> failures(cases.size());
  workers.run(cases.size(), [&](std::size_t c, std::size_t) {
    Retrieval& result = cases[c];
    std::vector<double> ranks;
    double log_probability = 0;
    for (std::size_t trial = 0; trial < trials; ++trial) {
      pqkv::Random random(seed + trial);
      const auto start = static_cast<std::ptrdiff_t>(random.below(text.size() - result.length + 1));
      const std::size_t from = random.below(text.size() - passage_size + 1);
      const auto passage = text.subspan(from, passage_size);
      std::vector<std::uint32_t> plain(text.begin() + start, text.begin() + start + static_cast<std::ptrdiff_t>(result.length));
      std::vector<std::uint32_t> planted = plain;
      const double place = result.depth * static_cast<double>(result.length - passage_size);
      std::copy(passage.begin(), passage.end(), planted.begin() + static_cast<std::ptrdiff_t>(place));
      double with_and_without[2] = {};
      for (const bool with : {true, false}) {
        auto sequence = make_sequence(model, specs, codebooks);
        if (!sequence) return void(failures[c] = sequence.error());
        const auto answer = detail::ask(model, *sequence, with ? planted : plain, passage, options, with ? &ranks : nullptr);
        if (!answer) return void(failures[c] = answer.error());
        with_and_without[with ? 0 : 1] = *answer;
      }
      log_probability += with_and_without[0] / static_cast<double>(trials);
      result.gain += (with_and_without[0] - with_and_without[1]) / static_cast<double>(trials);
    }
    result.probability = std::exp(log_probability);
    std::nth_element(ranks.begin(), ranks.begin() + static_cast<std::ptrdiff_t>(ranks.size() / 2), ranks.end());
    result.median_rank = ranks[ranks.size() / 2];
  });
  for (const pqkv::Status& failure : failures) {
    if (!failure) return failure.error();
  }
  return cases;
}

[[nodiscard]] inline std::string table_text(const std::string& policy, const std::vector<Retrieval>& cases) {
  std::string text = policy + "\n";
  for (const Retrieval& r : cases) {
    text += fmt::format("  {:>5} tokens, depth {:>3.0f} %: right token's probability {:.4f}, median rank {:.0f}; "
                        "{:+.4f} nats by the plant\n",
                        r.length, 100 * r.depth, r.probability, r.median_rank, r.gain);
  }
  return text;
}

/// The table for a README: probability and rank (0 is the most likely) per spec, length and depth.
[[nodiscard]] inline std::string markdown_text(const std::vector<std::pair<std::string, std::vector<Retrieval>>>& results) {
  std::string text = "| cache | tokens | depth | probability | rank | gain in nats |\n|---|---|---|---|---|---|\n";
  for (const auto& [policy, cases] : results) {
    for (const Retrieval& r : cases) {
      text += fmt::format("| `{}` | {} | {:.0f} % | {:.4f} | {:.0f} | {:+.3f} |\n", policy, r.length, 100 * r.depth,
                          r.probability, r.median_rank, r.gain);
    }
  }
  return text;
}

}  // namespace tiny_llm
