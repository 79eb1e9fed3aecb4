// What a sequence should be, in double: its tokens with their rows and positions, and attention over them as the
// definition says it. Shares no code with the library but the description of a Rope.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <optional>
#include <vector>

#include "pqkv/pqkv.hpp"

namespace pqkv::test {

/// A token: its rows as they were stored, where it stands, and by how much it was moved since.
struct ReferenceToken {
  std::vector<double> key;
  std::vector<double> value;
  std::int64_t position = 0;
  std::int64_t shift = 0;
};

struct ReferenceOptions {
  double scale = 1;
  double soft_cap = 0;
  std::int64_t window = 0;
  double slope = 0;
  std::optional<double> sink;
  std::vector<double> bias;
  std::int64_t query_position = 0;
};

/// row turned by `positions`, in complex numbers.
inline std::vector<double> rotated(std::vector<double> row, const Rope& rope, std::int64_t positions) {
  for (std::size_t i = 0; i < rope.pairs(); ++i) {
    const std::size_t first = rope.pairing() == RopePairing::adjacent ? 2 * i : i;
    const std::size_t second = rope.pairing() == RopePairing::adjacent ? 2 * i + 1 : i + rope.pairs();
    const std::complex<double> turned =
        std::complex(row[first], row[second]) * std::polar(1.0, static_cast<double>(positions) * rope.frequencies()[i]);
    row[first] = turned.real();
    row[second] = turned.imag();
  }
  return row;
}

inline std::vector<double> as_doubles(const float* row, std::size_t dim) { return std::vector<double>(row, row + dim); }

inline std::vector<double> reference_attention(const float* query, std::size_t dim,
                                               const std::vector<ReferenceToken>& tokens, const Rope& rope,
                                               const ReferenceOptions& options) {
  std::vector<double> scores;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const std::vector<double> key = rotated(tokens[t].key, rope, tokens[t].shift);
    double score = 0;
    for (std::size_t d = 0; d < dim; ++d) score += static_cast<double>(query[d]) * key[d];
    score *= options.scale;
    if (options.soft_cap != 0) score = options.soft_cap * std::tanh(score / options.soft_cap);
    score += options.slope * static_cast<double>(tokens[t].position - options.query_position);
    if (!options.bias.empty()) score += options.bias[t];
    const bool seen = options.window == 0 || options.query_position - tokens[t].position < options.window;
    scores.push_back(seen ? score : -1e300);
  }
  double most = options.sink.value_or(-1e300);
  for (const double score : scores) most = std::max(most, score);
  double sum = options.sink ? std::exp(*options.sink - most) : 0;
  std::vector<double> out(dim);
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    if (scores[t] == -1e300) continue;
    const double weight = std::exp(scores[t] - most);
    sum += weight;
    for (std::size_t d = 0; d < dim; ++d) out[d] += weight * tokens[t].value[d];
  }
  for (double& x : out) x = sum > 0 ? x / sum : 0;
  return out;
}

/// The tokens of a head whose rows have not been moved yet.
template <class K, class V>
std::vector<ReferenceToken> tokens_of(const HeadCache<K, V>& head) {
  std::vector<ReferenceToken> tokens;
  std::vector<float> key(head.dim()), value(head.dim());
  for (std::size_t t = 0; t < head.tokens(); ++t) {
    head.decode(t, key.data(), value.data());
    tokens.push_back({as_doubles(key.data(), head.dim()), as_doubles(value.data(), head.dim()), head.position(t), 0});
  }
  return tokens;
}

/// The largest difference between a head's attention and the reference's.
template <class K, class V>
double attention_error(const HeadCache<K, V>& head, const std::vector<float>& query,
                       const std::vector<ReferenceToken>& tokens, const Rope& rope = {}) {
  const std::size_t dim = head.dim();
  Workspace<K, V> workspace;
  std::vector<float> out(dim);
  attend(head, {query.data(), 1, dim}, out.data(), dim, workspace);
  ReferenceOptions options;
  options.scale = 1 / std::sqrt(static_cast<double>(dim));
  const auto expected = reference_attention(query.data(), dim, tokens, rope, options);
  double error = 0;
  for (std::size_t d = 0; d < dim; ++d) error = std::max(error, std::fabs(static_cast<double>(out[d]) - expected[d]));
  return error;
}

}  // namespace pqkv::test
