// Retrieval: a rare pair of tokens is planted in ordinary text, then its first token comes again; how likely does the
// model hold the second, through each cache? (Small models copy: induction heads.)
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tiny_llm/perplexity.hpp"

namespace tiny_llm {

struct Retrieval {
  std::size_t length = 0;      ///< tokens before the question
  double depth = 0;            ///< where the pair lies, as a share of them
  double probability = 0;      ///< of the right token, mean over trials
  double median_rank = 0;      ///< 0 is the most likely token
};

/// `trials` texts of each length and depth. The pair is planted twice, a few tokens apart, so that it stands out.
[[nodiscard]] inline pqkv::Result<std::vector<Retrieval>> measure_retrieval(
    const Model& model, std::span<const std::uint32_t> text, const LayerSpecs& specs, const pqkv::CodebookSource& codebooks,
    std::size_t trials, std::uint64_t seed, const pqkv::AttendOptions& options, const common::Workers& workers) {
  std::vector<std::size_t> counts(model.vocabulary);
  for (const std::uint32_t token : text) ++counts[token];
  std::vector<std::uint32_t> rare;
  for (std::uint32_t token = 0; token < model.vocabulary; ++token) {
    if (counts[token] >= 1 && counts[token] <= 3) rare.push_back(token);
  }
  if (rare.size() < 2) return pqkv::Error{pqkv::Errc::invalid_data, "the text has no rare tokens to plant"};
  std::vector<Retrieval> cases;
  for (const std::size_t length : {model.context / 4, model.context / 2, model.context - 1}) {
    if (length < 32 || length > text.size()) continue;
    for (const double depth : {0.1, 0.5, 0.9}) cases.push_back({length, depth, 0, 0});
  }
  std::vector<pqkv::Status> failures(cases.size());
  workers.run(cases.size(), [&](std::size_t c, std::size_t) {
    Retrieval& result = cases[c];
    std::vector<double> ranks;
    for (std::size_t trial = 0; trial < trials; ++trial) {
      pqkv::Random random(seed + trial);  // the same pairs and texts in every case and for every spec
      const std::uint32_t first = rare[random.below(rare.size())];
      const std::uint32_t second = rare[random.below(rare.size())];
      const std::size_t start = random.below(text.size() - result.length + 1);
      std::vector<std::uint32_t> tokens(text.begin() + static_cast<std::ptrdiff_t>(start),
                                        text.begin() + static_cast<std::ptrdiff_t>(start + result.length));
      const auto place = static_cast<std::size_t>(result.depth * static_cast<double>(result.length - 12));
      for (const std::size_t at : {place, place + 6}) {
        tokens[at] = first;
        tokens[at + 1] = second;
      }
      tokens.push_back(first);
      auto sequence = make_sequence(model, specs, codebooks);
      if (!sequence) return void(failures[c] = sequence.error());
      // The text as a prompt in chunks, the question as a decoding step.
      const std::span<const std::uint32_t> all(tokens);
      for (std::size_t at = 0; at + 1 < all.size(); at += 128) {
        const auto chunk = all.subspan(at, std::min<std::size_t>(128, all.size() - 1 - at));
        if (auto logits = forward(model, *sequence, chunk, false, options); !logits) return void(failures[c] = logits.error());
      }
      const auto logits = forward(model, *sequence, all.last(1), false, options);
      if (!logits) return void(failures[c] = logits.error());
      const auto log_p = detail::log_probabilities(logits->data(), model.vocabulary);
      result.probability += std::exp(log_p[second]) / static_cast<double>(trials);
      ranks.push_back(static_cast<double>(std::count_if(log_p.begin(), log_p.end(),
                                                        [&](double x) { return x > log_p[second]; })));
    }
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
    text += fmt::format("  {:>6} tokens, depth {:>4.0f} %: probability {:.4f}, median rank {:.0f}\n", r.length, 100 * r.depth,
                        r.probability, r.median_rank);
  }
  return text;
}

}  // namespace tiny_llm
