// HadamardRotation: a fixed pseudo-random rotation in n·log n additions: rounds of signs drawn from a seed, then a
// Walsh-Hadamard transform, which spreads every coordinate over its block. Layer 2.
//
// One round would turn a row of one strong coordinate into ± the same number everywhere, and two into the same numbers in
// another order whichever coordinate it is; after three its coordinates are nearly normal. Blocks are of the largest power of
// two that divides the dim; where that is not the whole dim, coordinates are dealt to other blocks between rounds.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "pqkv/base/expects.hpp"
#include "pqkv/base/random.hpp"

namespace pqkv::inline PQKV_ABI {

class HadamardRotation {
 public:
  /// Stack space of one row.
  static constexpr std::size_t max_dim = 1024;
  static constexpr std::size_t rounds = 3;

  /// dim in 1..1024.
  HadamardRotation(std::size_t dim, std::uint64_t seed) : dim_(dim), block_(dim & (~dim + 1)), signs_(rounds * dim) {
    PQKV_EXPECTS(dim >= 1 && dim <= max_dim);
    Random random(seed);
    const float unit = 1.0f / std::sqrt(static_cast<float>(block_));  // lengths stay
    for (float& sign : signs_) sign = random.below(2) == 0 ? unit : -unit;
  }

  [[nodiscard]] std::size_t dim() const noexcept { return dim_; }
  [[nodiscard]] std::size_t block() const noexcept { return block_; }

  /// row ← R·row
  void turn(float* row) const noexcept {
    for (std::size_t round = 0; round < rounds; ++round) {
      if (round > 0 && block_ != dim_) deal(row, dim_ / block_, block_);
      for (std::size_t d = 0; d < dim_; ++d) row[d] *= signs_[round * dim_ + d];
      transform(row);
    }
  }
  /// row ← Rᵀ·row, which undoes turn()
  void turn_back(float* row) const noexcept {
    for (std::size_t round = rounds; round-- > 0;) {
      transform(row);
      for (std::size_t d = 0; d < dim_; ++d) row[d] *= signs_[round * dim_ + d];
      if (round > 0 && block_ != dim_) deal(row, block_, dim_ / block_);
    }
  }

 private:
  /// The Walsh-Hadamard transform of each block, without its factor.
  void transform(float* row) const noexcept {
    for (std::size_t half = 1; half < block_; half *= 2) {
      for (std::size_t first = 0; first < dim_; first += 2 * half) {
        for (std::size_t d = first; d < first + half; ++d) {
          const float sum = row[d] + row[d + half];
          row[d + half] = row[d] - row[d + half];
          row[d] = sum;
        }
      }
    }
  }
  /// Transposes the row as a matrix [lines][columns].
  void deal(float* row, std::size_t lines, std::size_t columns) const noexcept {
    float dealt[max_dim];
    for (std::size_t d = 0; d < dim_; ++d) dealt[d % columns * lines + d / columns] = row[d];
    for (std::size_t d = 0; d < dim_; ++d) row[d] = dealt[d];
  }

  std::size_t dim_;
  std::size_t block_;
  std::vector<float> signs_;  // [round][dim], times 1/√block
};

}  // namespace pqkv::inline PQKV_ABI
