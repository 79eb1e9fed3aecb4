// Reproducible inputs, and the plain arithmetic that results are compared with.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "pqkv/base/random.hpp"

namespace pqkv::test {

inline std::vector<float> normal_floats(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> floats(count);
  for (float& x : floats) x = static_cast<float>(random.normal());
  return floats;
}

inline double dot(const float* a, const float* b, std::size_t dim) {
  double sum = 0;
  for (std::size_t d = 0; d < dim; ++d) sum += static_cast<double>(a[d]) * static_cast<double>(b[d]);
  return sum;
}

/// softmax(scale · q · keys) · values in double; keys and values [tokens][dim].
inline std::vector<double> attention(const float* query, const std::vector<float>& keys,
                                     const std::vector<float>& values, std::size_t tokens, std::size_t dim,
                                     double scale) {
  std::vector<double> scores(tokens);
  double most = -1e300;
  for (std::size_t t = 0; t < tokens; ++t) {
    scores[t] = scale * dot(query, keys.data() + t * dim, dim);
    most = std::max(most, scores[t]);
  }
  double sum = 0;
  std::vector<double> out(dim);
  for (std::size_t t = 0; t < tokens; ++t) {
    const double weight = std::exp(scores[t] - most);
    sum += weight;
    for (std::size_t d = 0; d < dim; ++d) out[d] += weight * static_cast<double>(values[t * dim + d]);
  }
  for (double& x : out) x /= sum;
  return out;
}

}  // namespace pqkv::test
