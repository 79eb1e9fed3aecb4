// Bodies of train/importance.hpp.
#pragma once

#include <algorithm>
#include <cmath>

#include "pqkv/isa/select.hpp"
#include "pqkv/train/importance.hpp"

namespace pqkv::inline PQKV_ABI {

PQKV_COMPILED_ONCE [[nodiscard]] Result<std::vector<float>> attention_importance(FloatRows queries, std::size_t group, FloatRows keys,
                                                                                 std::span<const std::int64_t> positions, float scale) {
  if (group == 0 || queries.count != keys.count * group || positions.size() != keys.count || queries.dim != keys.dim) {
    return Error{Errc::invalid_shape, message(queries.count, " queries of dim ", queries.dim, " in groups of ", group,
                                              " and ", positions.size(), " positions for ", keys.count, " keys of dim ",
                                              keys.dim)};
  }
  if (scale == 0) scale = 1.0f / std::sqrt(static_cast<float>(keys.dim));
  const isa::KernelSet& kernels = isa::best();
  const std::size_t dim = keys.dim;
  std::vector<float> plain;  // keys one behind the other
  if (keys.stride != dim) {
    for (std::size_t t = 0; t < keys.count; ++t) plain.insert(plain.end(), keys.row(t), keys.row(t) + dim);
  }
  const float* rows = plain.empty() ? keys.row(0) : plain.data();
  constexpr std::size_t batch = 16;  // tokens whose queries are scored at once
  std::vector<float> scaled(batch * group * dim), scores, squares;
  std::vector<double> sums(keys.count);
  for (std::size_t begin = 0; begin < keys.count;) {
    std::size_t end = begin + 1;
    while (end < keys.count && positions[end] > positions[end - 1]) ++end;
    for (std::size_t token = begin; token < end; token += batch) {
      const std::size_t tokens = std::min(batch, end - token), seen = token + tokens - begin;
      for (std::size_t q = 0; q < tokens * group; ++q) {
        for (std::size_t d = 0; d < dim; ++d) scaled[q * dim + d] = scale * queries.row(token * group + q)[d];
      }
      scores.resize(tokens * group * seen);
      kernels.dot_f32(rows + begin * dim, seen, dim, scaled.data(), tokens * group, scores.data(), seen);
      squares.assign(seen, 0.0f);
      for (std::size_t q = 0; q < tokens * group; ++q) {
        float* weights = scores.data() + q * seen;
        const std::size_t count = token + q / group + 1 - begin;
        const float share = 1.0f / kernels.exponential(weights, count, kernels.maximum(weights, count));
        for (std::size_t t = 0; t < count; ++t) squares[t] += share * weights[t] * (share * weights[t]);
      }
      for (std::size_t t = 0; t < seen; ++t) sums[begin + t] += static_cast<double>(squares[t]);
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
