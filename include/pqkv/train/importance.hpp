// Importance: how much the error of each sample row counts, by the attention that it received in calibration. Layer 3a.
// An error of token t's value reaches the output times its weight p_t, and so does, to first order, an error of its score;
// squared errors therefore count with Σ p_t² over the queries that see the token.
#pragma once

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "pqkv/base/result.hpp"
#include "pqkv/base/rows.hpp"
#include "pqkv/train/metric.hpp"

namespace pqkv::inline PQKV_ABI {

/// √(Σ p²) per key over the queries of its text from its own on (causal), plus a share of the mean so that every row
/// counts; the mean is 1. [keys.count].
/// `queries` hold `group` rows per key row, token by token; a text begins wherever a position is not above the one before. Errors: invalid_shape.
[[nodiscard]] inline Result<std::vector<float>> attention_importance(FloatRows queries, std::size_t group, FloatRows keys,
                                                                     std::span<const std::int64_t> positions, float scale = 0) {
  if (group == 0 || queries.count != keys.count * group || positions.size() != keys.count || queries.dim != keys.dim) {
    return Error{Errc::invalid_shape, message(queries.count, " queries of dim ", queries.dim, " in groups of ", group,
                                              " and ", positions.size(), " positions for ", keys.count, " keys of dim ",
                                              keys.dim)};
  }
  if (scale == 0) scale = 1.0f / std::sqrt(static_cast<float>(keys.dim));
  using Map = Eigen::Map<const RowMatrix, 0, Eigen::OuterStride<>>;
  const auto map = [](FloatRows rows, std::size_t first, std::size_t count) {
    return Map(rows.row(first), static_cast<Eigen::Index>(count), static_cast<Eigen::Index>(rows.dim),
               Eigen::OuterStride<>(static_cast<Eigen::Index>(rows.stride)));
  };
  constexpr std::size_t batch = 64;  // tokens whose queries are scored at once
  std::vector<double> sums(keys.count);
  for (std::size_t begin = 0; begin < keys.count;) {
    std::size_t end = begin + 1;
    while (end < keys.count && positions[end] > positions[end - 1]) ++end;
    for (std::size_t token = begin; token < end; token += batch) {
      const std::size_t tokens = std::min(batch, end - token);
      RowMatrix scores = scale * (map(queries, token * group, tokens * group) *
                                  map(keys, begin, token + tokens - begin).transpose());
      for (std::size_t q = 0; q < tokens * group; ++q) {
        auto seen = scores.row(static_cast<Eigen::Index>(q)).head(static_cast<Eigen::Index>(token + q / group + 1 - begin)).array();
        const float most = seen.maxCoeff();
        seen = (seen - most).exp();
        const float all = seen.sum();
        for (Eigen::Index t = 0; t < seen.size(); ++t) {
          const double weight = static_cast<double>(seen[t] / all);
          sums[begin + static_cast<std::size_t>(t)] += weight * weight;
        }
      }
    }
    begin = end;
  }
  // The root: squares themselves would leave the codebook to the few tokens that many queries look at.
  constexpr double share = 0.01;
  double mean = 0;
  for (double& sum : sums) mean += sum = std::sqrt(sum);
  mean /= static_cast<double>(keys.count);
  std::vector<float> weights(keys.count);
  for (std::size_t i = 0; i < sums.size(); ++i) weights[i] = static_cast<float>((sums[i] / mean + share) / (1 + share));
  return weights;
}

}  // namespace pqkv::inline PQKV_ABI
