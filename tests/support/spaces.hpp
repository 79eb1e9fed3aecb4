// Code spaces with known parts, and what they do to rows, in double from the definition.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "pqkv/codec/code_space.hpp"
#include "support/data.hpp"

namespace pqkv::test {

/// Which parts a space has.
struct SpaceChoice {
  std::size_t rotary = 0;  ///< elements that RoPE turns; 0: no RoPE
  std::size_t run_tokens = unlimited_tokens;
  RopePairing pairing = RopePairing::adjacent;
  bool mean = false;
  bool mapped = false;  ///< an invertible matrix that is neither orthogonal nor symmetric
};

/// row ← R(position)·row, by the definition.
inline void turn64(const Rope& rope, double position, std::vector<double>& row) {
  for (std::size_t i = 0; i < rope.pairs(); ++i) {
    const bool adjacent = rope.pairing() == RopePairing::adjacent;
    double& a = row[adjacent ? 2 * i : i];
    double& b = row[adjacent ? 2 * i + 1 : i + rope.pairs()];
    const double angle = position * rope.frequencies()[i];
    const double turned = a * std::cos(angle) - b * std::sin(angle);
    b = a * std::sin(angle) + b * std::cos(angle);
    a = turned;
  }
}

/// A·x or Aᵀ·x for A = [dim][dim] row-major; x itself where A is empty.
inline std::vector<double> product64(const std::vector<float>& matrix, const std::vector<double>& x, bool transposed = false) {
  if (matrix.empty()) return x;
  std::vector<double> out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t j = 0; j < x.size(); ++j) {
      out[i] += static_cast<double>(matrix[transposed ? j * x.size() + i : i * x.size() + j]) * x[j];
    }
  }
  return out;
}

/// Parts drawn from a seed. The mean's positional term is exact: every pair contributes μ and μ turned by a right angle.
inline CodeSpaceParts random_parts(std::size_t dim, const SpaceChoice& choice, std::uint64_t seed = 17) {
  CodeSpaceParts parts;
  parts.dim = dim;
  parts.run_tokens = choice.run_tokens;
  if (choice.rotary != 0) parts.rope = Rope::with_base(choice.rotary, 1000.0, choice.pairing);
  Random random(seed);
  if (choice.mean) parts.mean = normal_floats(dim, seed + 1);
  if (choice.mean && choice.rotary != 0) {
    const std::size_t pairs = parts.rope.pairs(), rank = 2 * pairs + 1;
    parts.term_basis.assign(rank * dim, 0.0f);
    parts.term_rows.assign(choice.run_tokens * rank, 1.0f);
    for (std::size_t d = 0; d < dim; ++d) parts.term_basis[2 * pairs * dim + d] = parts.mean[d];  // what does not turn
    for (std::size_t i = 0; i < pairs; ++i) {
      const std::size_t a = choice.pairing == RopePairing::adjacent ? 2 * i : i;
      const std::size_t b = choice.pairing == RopePairing::adjacent ? 2 * i + 1 : i + pairs;
      parts.term_basis[2 * i * dim + a] = parts.term_basis[(2 * i + 1) * dim + b] = parts.mean[a];
      parts.term_basis[2 * i * dim + b] = parts.mean[b];
      parts.term_basis[(2 * i + 1) * dim + a] = -parts.mean[b];
      parts.term_basis[2 * pairs * dim + a] = parts.term_basis[2 * pairs * dim + b] = 0.0f;
      for (std::size_t j = 0; j < choice.run_tokens; ++j) {
        const double angle = static_cast<double>(j) * parts.rope.frequencies()[i];
        parts.term_rows[j * rank + 2 * i] = static_cast<float>(std::cos(angle));
        parts.term_rows[j * rank + 2 * i + 1] = static_cast<float>(std::sin(angle));
      }
    }
  }
  if (!choice.mapped) return parts;
  // A = G·D: a product of plane rotations behind a diagonal of 0.8 to 1.25; A⁻¹ = D⁻¹·Gᵀ.
  std::vector<double> forward(dim * dim), scales(dim);
  for (std::size_t i = 0; i < dim; ++i) forward[i * dim + i] = 1;
  for (std::size_t turns = 0; turns < 4 * dim; ++turns) {
    const std::size_t i = random.below(dim), j = (i + 1 + random.below(dim - 1)) % dim;
    const double angle = 6.28 * random.uniform();
    for (std::size_t column = 0; column < dim; ++column) {
      const double a = forward[i * dim + column], b = forward[j * dim + column];
      forward[i * dim + column] = a * std::cos(angle) - b * std::sin(angle);
      forward[j * dim + column] = a * std::sin(angle) + b * std::cos(angle);
    }
  }
  for (double& scale : scales) scale = std::pow(1.25, 2 * random.uniform() - 1);
  for (std::size_t i = 0; i < dim; ++i) {
    for (std::size_t j = 0; j < dim; ++j) {
      parts.forward.push_back(static_cast<float>(forward[i * dim + j] * scales[j]));
      parts.inverse.push_back(static_cast<float>(forward[j * dim + i] / scales[i]));
    }
  }
  return parts;
}

inline std::shared_ptr<const CodeSpace> random_space(std::size_t dim, const SpaceChoice& choice, std::uint64_t seed = 17) {
  return CodeSpace::make(random_parts(dim, choice, seed)).value();
}

/// R(offset)·μ, or μ where nothing turns; zeros without a mean.
inline std::vector<double> mean64(const CodeSpaceParts& parts, std::size_t offset) {
  std::vector<double> mean(parts.dim);
  if (!parts.mean.empty()) mean.assign(parts.mean.begin(), parts.mean.end());
  turn64(parts.rope, static_cast<double>(offset), mean);
  return mean;
}

/// x = A·(R(−o)·k − R(s − o)·μ) of a row at `offset` tokens into a run of that origin.
inline std::vector<double> spaced64(const CodeSpaceParts& parts, const float* row, std::int64_t origin, std::size_t offset) {
  std::vector<double> x(row, row + parts.dim);
  turn64(parts.rope, -static_cast<double>(origin), x);
  const std::vector<double> mean = mean64(parts, offset);
  for (std::size_t d = 0; d < parts.dim; ++d) x[d] -= mean[d];
  return product64(parts.forward, x);
}

}  // namespace pqkv::test
