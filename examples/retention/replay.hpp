// One kv head after eviction: the tokens that follow are appended one by one, and each token's queries judge what the cache
// gives them against exact attention over everything that ever was in it.
#pragma once

#include <pqkv/attend.hpp>
#include <pqkv/measure/statistics.hpp>
#include <pqkv/spec.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/workers.hpp"
#include "kv_report/inputs.hpp"
#include "retention/options.hpp"

namespace retention_report {

using Head = pqkv::HeadCache<pqkv::AnyKeys, pqkv::AnyValues>;
using Workspace = pqkv::Workspace<pqkv::AnyKeys, pqkv::AnyValues>;
using kv_report::Text;

/// What everything is measured on.
struct Study {
  const Options& options;
  const std::vector<Text>& texts;
  const std::vector<Text>& calibration;
  const common::Workers& workers;

  [[nodiscard]] const kv_report::Shape& shape() const noexcept { return texts.front().keys.shape; }
};

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

/// What exact attention says to the queries of the last tokens of a text, for one kv head, whose keys and values may be those
/// of another layer.
class Truth {
 public:
  struct Query {
    std::vector<double> weights;     ///< by token
    std::vector<double> out;         ///< [dim]
    std::vector<std::size_t> top;    ///< the tokens of the 32 largest weights
  };
  static constexpr std::size_t top_tokens = 32;

  Truth(const Text& text, std::size_t layer, std::size_t head, std::size_t prompt)
      : Truth(text, layer, head, prompt, layer) {}
  Truth(const Text& text, std::size_t layer, std::size_t head, std::size_t prompt, std::size_t source) {
    const auto queries = text.queries_of(layer, head);
    const auto keys = text.keys.rows(source, head), values = text.values.rows(source, head);
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
  [[nodiscard]] std::size_t size() const noexcept { return queries_.size(); }

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

/// The figures of one query that got `out` by these weights of the tokens at `positions`.
[[nodiscard]] inline Figures judge(const Truth::Query& exact, const std::vector<double>& out, const std::vector<double>& weights,
                                   const std::vector<std::int64_t>& positions) {
  Figures one;
  one.error = pqkv::relative_error(exact.out, out);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double expected = exact.weights[static_cast<std::size_t>(positions[i])];
    if (weights[i] > 0) one.divergence += weights[i] * std::log(weights[i] / std::max(expected, 1e-30));
  }
  std::size_t found = 0;
  for (const std::size_t i : Truth::largest(weights)) {
    found += std::binary_search(exact.top.begin(), exact.top.end(), static_cast<std::size_t>(positions[i])) ? 1 : 0;
  }
  one.recall = static_cast<double>(found) / static_cast<double>(exact.top.size());
  one.queries = 1;
  return one;
}

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
      const auto part = [q](const std::vector<float>& all, std::size_t size) {
        const auto first = all.begin() + static_cast<std::ptrdiff_t>(q * size);
        return std::vector<double>(first, first + static_cast<std::ptrdiff_t>(size));
      };
      Figures one = judge(truth.query((t - prompt) * queries.group + q), part(outs, dim), part(weights, tokens), positions);
      one.kept = figures.kept;
      figures.merge(one);
    }
  }
  return figures;
}

}  // namespace retention_report
