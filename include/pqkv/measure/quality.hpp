// Quality: how far a policy's attention is from exact attention, as means over queries. Beside the pipeline: nothing in
// it includes this.
#pragma once

#include <cstddef>
#include <span>

#include "pqkv/measure/statistics.hpp"

namespace pqkv::inline PQKV_ABI {

struct Quality {
  double cosine = 0;             ///< of attention outputs
  double divergence = 0;         ///< KL(exact weights ‖ policy's weights), nats
  double logit_correlation = 0;  ///< Pearson's, over the tokens a query sees
  double rank_correlation = 0;   ///< Spearman's
  double top5 = 0;               ///< share of the five largest weights that stay among the five largest
  double output_error = 0;       ///< ‖output − exact‖ / ‖exact‖
  std::size_t queries = 0;

  /// The means over both sets of queries.
  void merge(const Quality& other) noexcept {
    if (other.queries == 0) return;
    const auto mine = static_cast<double>(queries);
    const auto theirs = static_cast<double>(other.queries);
    const auto mean = [&](double a, double b) { return (a * mine + b * theirs) / (mine + theirs); };
    cosine = mean(cosine, other.cosine);
    divergence = mean(divergence, other.divergence);
    logit_correlation = mean(logit_correlation, other.logit_correlation);
    rank_correlation = mean(rank_correlation, other.rank_correlation);
    top5 = mean(top5, other.top5);
    output_error = mean(output_error, other.output_error);
    queries += other.queries;
  }
};

/// The judgement of one query from scaled logits and outputs. Where exact logits are all equal (a query that sees one
/// token), correlations count as 1.
PQKV_WHEN_CALLED [[nodiscard]] Quality judge(std::span<const double> exact_logits, std::span<const double> logits,
                                             std::span<const double> exact_out, std::span<const double> out) {
  return {cosine(exact_out, out),
          softmax_divergence(exact_logits, logits),
          pearson(exact_logits, logits).value_or(1.0),
          spearman(exact_logits, logits).value_or(1.0),
          top_overlap(exact_logits, logits, 5),
          relative_error(exact_out, out),
          1};
}

}  // namespace pqkv::inline PQKV_ABI
