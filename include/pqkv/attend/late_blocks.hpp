// LateBlocks: blocks of values whose weights are known, on their way from memory. Layer 5.
//
//   chosen ─► | newest … oldest | ─► added to the sum
//
// Which values are read is known only once their keys are scored (AttendOptions::skip_below); memory wants to be asked long
// before. So a block waits until as many newer ones were chosen as there is room for, and while the oldest is added, the
// newest is asked for, line by line: reading and arithmetic overlap, and nothing is asked for that is not read.
#pragma once

#include <algorithm>
#include <cstddef>

#include "pqkv/codec/rows_buffer.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

class LateBlocks {
 public:
  static constexpr std::size_t most_blocks = 16;

  /// Empties it, with room for `blocks` ≤ most_blocks blocks and their weights for `queries` queries. Allocates when it grows.
  void reset(std::size_t queries, std::size_t blocks) {
    PQKV_EXPECTS(blocks >= 1 && blocks <= most_blocks);
    weights_.shape(queries, blocks * block_tokens);
    room_ = blocks;
    oldest_ = held_ = 0;
  }

  /// `count` blocks that lie one behind the other, with weights[q·stride + t] for all of their tokens, 0 for those that do not
  /// count. What must make room is added to `sum`.
  template <ValuePolicy V>
  void push(const V& policy, typename V::WeightedSum& sum, const std::byte* blocks, std::size_t count, const float* weights,
            std::size_t stride) noexcept {
    const std::size_t bytes = policy.block_bytes();
    while (count > 0) {
      std::size_t slot = oldest_, size = 0;
      if (held_ == room_) {
        size = std::min(count, neighbours(bytes));
        add_oldest(policy, sum, size, blocks - blocks_[oldest_]);
      } else {
        slot = (oldest_ + held_) % room_;
        size = std::min({count, room_ - held_, room_ - slot});
        ask_memory(blocks, size * bytes);
      }
      for (std::size_t i = 0; i < size; ++i) blocks_[slot + i] = blocks + i * bytes;
      for (std::size_t q = 0; q < weights_.count(); ++q) {
        std::copy_n(weights + q * stride, size * block_tokens, weights_.row(q) + slot * block_tokens);
      }
      held_ += size;
      blocks += size * bytes;
      weights += size * block_tokens;
      count -= size;
    }
  }

  /// Adds all that is left.
  template <ValuePolicy V>
  void flush(const V& policy, typename V::WeightedSum& sum) noexcept {
    while (held_ > 0) add_oldest(policy, sum, neighbours(policy.block_bytes()), 0);
  }

 private:
  /// How many of the oldest lie one behind the other, here and in memory.
  [[nodiscard]] std::size_t neighbours(std::size_t bytes) const noexcept {
    const std::size_t most = std::min(held_, room_ - oldest_);
    std::size_t count = 1;
    while (count < most && blocks_[oldest_ + count] == blocks_[oldest_] + count * bytes) ++count;
    return count;
  }
  template <ValuePolicy V>
  void add_oldest(const V& policy, typename V::WeightedSum& sum, std::size_t count, std::ptrdiff_t ahead) noexcept {
    policy.add(sum, {blocks_[oldest_], count * block_tokens, 0, nullptr, ahead}, weights_.row(0) + oldest_ * block_tokens,
               weights_.width());
    oldest_ = (oldest_ + count) % room_;
    held_ -= count;
  }

  RowsBuffer weights_;                       // [query][slot · 32]
  const std::byte* blocks_[most_blocks] = {};  // by slot
  std::size_t room_ = 1;
  std::size_t oldest_ = 0;
  std::size_t held_ = 0;
};

}  // namespace pqkv::inline PQKV_ABI
