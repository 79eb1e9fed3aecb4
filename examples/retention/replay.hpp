// One kv head after eviction: the tokens that follow are appended one by one, and each token's queries judge what the cache
// gives them against exact attention over everything that ever was in it.
#pragma once

#include <pqkv/attend.hpp>
#include <pqkv/measure/statistics.hpp>
#include <pqkv/spec.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kv_report/inputs.hpp"

namespace retention_report {

using Head = pqkv::HeadCache<pqkv::AnyKeys, pqkv::AnyValues>;
using Workspace = pqkv::Workspace<pqkv::AnyKeys, pqkv::AnyValues>;
using kv_report::Text;

/// Means over queries.
struct Figures {
  double error = 0;       ///< ‖output − exact output‖ / ‖exact output‖
  double divergence = 0;  ///< KL(weights ‖ exact weights), nats; where nothing but eviction happened, −log of the mass kept
  double recall = 0;      ///< share of the 32 largest exact weights that are among the 32 largest
  double kept = 0;        ///< share of the prompt's tokens that stayed
  double queries = 0;

  void merge(const Figures& other) noexcept {
    const double all = queries + other.queries;
    if (all == 0) return;
    const auto mean = [&](double& mine, double theirs) { mine = (mine * queries + theirs * other.queries) / all; };
    mean(error, other.error);
    mean(divergence, other.divergence);
    mean(recall, other.recall);
    mean(kept, other.kept);
    queries = all;
  }
};

/// What exact attention says to the queries of the last tokens of a text, for one kv head.
class Truth {
 public:
  struct Query {
    std::vector<double> weights;     ///< by token
    std::vector<double> out;         ///< [dim]
    std::vector<std::size_t> top;    ///< the tokens of the 32 largest weights
  };
  static constexpr std::size_t top_tokens = 32;

  Truth(const Text& text, std::size_t layer, std::size_t head, std::size_t prompt) {
    const auto queries = text.queries_of(layer, head);
    const auto keys = text.keys.rows(layer, head), values = text.values.rows(layer, head);
    const std::size_t dim = keys.dim;
    const double scale = 1 / std::sqrt(static_cast<double>(dim));
    for (std::size_t t = prompt; t < keys.count; ++t) {
      for (std::size_t q = 0; q < queries.group; ++q) {
        Query& query = queries_.emplace_back();
        for (std::size_t i = 0; i <= t; ++i) {
          double product = 0;
          for (std::size_t d = 0; d < dim; ++d) {
            product += static_cast<double>(queries.row(t, q)[d]) * static_cast<double>(keys.row(i)[d]);
          }
          query.weights.push_back(scale * product);
        }
        const double norm = pqkv::log_sum_exp(query.weights);
        query.out.resize(dim);
        for (std::size_t i = 0; i <= t; ++i) {
          query.weights[i] = std::exp(query.weights[i] - norm);
          for (std::size_t d = 0; d < dim; ++d) query.out[d] += query.weights[i] * static_cast<double>(values.row(i)[d]);
        }
        query.top = largest(query.weights);
      }
    }
  }
  [[nodiscard]] const Query& query(std::size_t index) const noexcept { return queries_[index]; }

  /// The indices of the largest, in order of indices; of equals, the first.
  [[nodiscard]] static std::vector<std::size_t> largest(const std::vector<double>& x) {
    std::vector<std::size_t> order(x.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    const std::size_t count = std::min(top_tokens, order.size());
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                      [&](std::size_t a, std::size_t b) { return x[a] != x[b] ? x[a] > x[b] : a < b; });
    order.resize(count);
    std::sort(order.begin(), order.end());
    return order;
  }

 private:
  std::vector<Query> queries_;  // [token behind the prompt][query of the group]
};

/// Replays the tokens behind the prompt on a head that holds what is left of it. Positions are token indices.
[[nodiscard]] inline pqkv::Result<Figures> replay(Head& head, const Text& text, std::size_t layer, std::size_t kv_head,
                                                  std::size_t prompt, const Truth& truth, Workspace& workspace) {
  const auto queries = text.queries_of(layer, kv_head);
  const auto keys = text.keys.rows(layer, kv_head), values = text.values.rows(layer, kv_head);
  const std::size_t dim = keys.dim;
  Figures figures;
  figures.kept = static_cast<double>(head.tokens()) / static_cast<double>(prompt);
  std::vector<float> weights, outs(queries.group * dim);
  std::vector<std::int64_t> positions;
  for (std::size_t t = prompt; t < keys.count; ++t) {
    if (auto status = head.append(keys.slice(t, 1), values.slice(t, 1)); !status) return status.error();
    const std::size_t tokens = head.tokens();
    positions.resize(tokens);
    head.sequence().positions(positions.data());
    weights.resize(queries.group * tokens);
    const pqkv::FloatRows rows(queries.row(t, 0), queries.group, dim, queries.head_stride);
    pqkv::token_weights(head, rows, weights.data(), tokens, workspace);
    pqkv::attend(head, rows, outs.data(), dim, workspace);
    for (std::size_t q = 0; q < queries.group; ++q) {
      const Truth::Query& exact = truth.query((t - prompt) * queries.group + q);
      Figures one;
      std::vector<double> out(outs.begin() + static_cast<std::ptrdiff_t>(q * dim),
                              outs.begin() + static_cast<std::ptrdiff_t>((q + 1) * dim));
      one.error = pqkv::relative_error(exact.out, out);
      std::vector<double> line(weights.begin() + static_cast<std::ptrdiff_t>(q * tokens),
                               weights.begin() + static_cast<std::ptrdiff_t>((q + 1) * tokens));
      for (std::size_t i = 0; i < tokens; ++i) {
        const double expected = exact.weights[static_cast<std::size_t>(positions[i])];
        if (line[i] > 0) one.divergence += line[i] * std::log(line[i] / std::max(expected, 1e-30));
      }
      std::size_t found = 0;
      for (const std::size_t i : Truth::largest(line)) {
        found += std::binary_search(exact.top.begin(), exact.top.end(), static_cast<std::size_t>(positions[i])) ? 1 : 0;
      }
      one.recall = static_cast<double>(found) / static_cast<double>(exact.top.size());
      one.kept = figures.kept;
      one.queries = 1;
      figures.merge(one);
    }
  }
  return figures;
}

}  // namespace retention_report
