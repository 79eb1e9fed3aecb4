// ExactWindow: the newest or the first tokens of one head, kept exact and contiguous. Layer 4.
// Append works through it: rows wait here until 32 of them have aged out and become a block.
#pragma once

#include <cstddef>
#include <cstring>

#include "pqkv/base/buffer.hpp"
#include "pqkv/codec/exact_rows.hpp"

namespace pqkv::inline PQKV_ABI {

/// At most `capacity` tokens, a key row and a value row each.
class ExactWindow {
 public:
  ExactWindow() = default;
  ExactWindow(std::size_t dim, ScalarType type, std::size_t capacity) noexcept
      : rows_{dim, type}, capacity_(capacity) {}

  /// Allocates room for all of `capacity`; false when memory runs out.
  [[nodiscard]] bool reserve() noexcept {
    const std::size_t bytes = capacity_ * rows_.row_bytes();
    return keys_.grow(bytes) && values_.grow(bytes) && scratch_.grow(rows_.dim);
  }

  [[nodiscard]] const ExactRows& rows() const noexcept { return rows_; }
  [[nodiscard]] std::size_t tokens() const noexcept { return tokens_; }
  [[nodiscard]] std::size_t room() const noexcept { return capacity_ - tokens_; }
  [[nodiscard]] const std::byte* keys() const noexcept { return keys_.data(); }
  [[nodiscard]] const std::byte* values() const noexcept { return values_.data(); }
  [[nodiscard]] std::size_t bytes() const noexcept { 
    return keys_.size() + values_.size() + scratch_.size() * sizeof(float);
  }

  /// Appends rows of any scalar type; expects room() and reserve() before.
  void push(Rows keys, Rows values) noexcept {
    PQKV_EXPECTS(keys.count == values.count && keys.count <= room());
    for (std::size_t i = 0; i < keys.count; ++i) {
      put(keys, i, keys_.data() + (tokens_ + i) * rows_.row_bytes());
      put(values, i, values_.data() + (tokens_ + i) * rows_.row_bytes());
    }
    tokens_ += keys.count;
  }

  void drop_oldest(std::size_t count) noexcept {
    PQKV_EXPECTS(count <= tokens_);
    tokens_ -= count;
    std::memmove(keys_.data(), keys_.data() + count * rows_.row_bytes(), tokens_ * rows_.row_bytes());
    std::memmove(values_.data(), values_.data() + count * rows_.row_bytes(), tokens_ * rows_.row_bytes());
  }

  void truncate(std::size_t tokens) noexcept {
    PQKV_EXPECTS(tokens <= tokens_);
    tokens_ = tokens;
  }

 private:
  void put(const Rows& rows, std::size_t index, std::byte* out) noexcept {
    if (rows.type == rows_.type) {
      std::memcpy(out, rows.row(index), rows_.row_bytes());
      return;
    }
    to_floats(rows, index, scratch_.data());
    rows_.store(scratch_.data(), rows_.dim, out);
  }

  ExactRows rows_;
  std::size_t capacity_ = 0;
  std::size_t tokens_ = 0;
  Buffer<std::byte> keys_;
  Buffer<std::byte> values_;
  Buffer<float> scratch_;  // one row on its way to another scalar type
};

}  // namespace pqkv::inline PQKV_ABI
