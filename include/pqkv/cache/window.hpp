// ExactWindow: tokens of one head that are kept exact and contiguous, the first or the newest ones. Layer 4.
// Append works through it: rows wait here until 32 of them have aged out and become a block.
//
// Every row knows its position, and by how many positions it was moved since it was appended. The row itself stays as it
// came: readers turn the query instead, by the whole of the move, so that many moves lose no more than one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "pqkv/base/buffer.hpp"
#include "pqkv/cache/token_range.hpp"
#include "pqkv/codec/exact_rows.hpp"
#include "pqkv/codec/rope.hpp"

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
    return keys_.grow(bytes) && values_.grow(bytes) && places_.grow(capacity_) && scratch_.grow(rows_.dim);
  }
  /// The same for at least `capacity` tokens.
  [[nodiscard]] bool widen(std::size_t capacity) noexcept {
    const std::size_t before = capacity_;
    capacity_ = std::max(capacity_, capacity);
    if (reserve()) return true;
    capacity_ = before;
    return false;
  }
  /// The rows of `other`; false when memory runs out.
  [[nodiscard]] bool assign(const ExactWindow& other) noexcept {
    rows_ = other.rows_;
    capacity_ = other.capacity_;
    if (other.tokens_ == 0) return true;
    if (!reserve()) return false;
    tokens_ = other.tokens_;
    std::memcpy(keys_.data(), other.keys_.data(), tokens_ * rows_.row_bytes());
    std::memcpy(values_.data(), other.values_.data(), tokens_ * rows_.row_bytes());
    std::copy_n(other.places_.data(), tokens_, places_.data());
    consecutive_ = other.consecutive_;
    return true;
  }

  [[nodiscard]] const ExactRows& rows() const noexcept { return rows_; }
  [[nodiscard]] std::size_t tokens() const noexcept { return tokens_; }
  [[nodiscard]] std::size_t room() const noexcept { return capacity_ - tokens_; }
  [[nodiscard]] const std::byte* keys() const noexcept { return keys_.data(); }
  [[nodiscard]] const std::byte* values() const noexcept { return values_.data(); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return keys_.size() + values_.size() + places_.size() * sizeof(Place) + scratch_.size() * sizeof(float);
  }
  /// Where token `index` stands now.
  [[nodiscard]] std::int64_t position(std::size_t index) const noexcept { return places_[index].position; }
  /// By how many positions it was moved since it was appended.
  [[nodiscard]] std::int64_t shift_of(std::size_t index) const noexcept { return places_[index].shift; }
  /// How many tokens from `first` on were moved equally far.
  [[nodiscard]] std::size_t moved_alike(std::size_t first) const noexcept {
    if (consecutive_) return tokens_ - first;
    std::size_t end = first + 1;
    while (end < tokens_ && places_[end].shift == places_[first].shift) ++end;
    return end - first;
  }
  /// Whether each token stands one position behind the one before it and none was moved.
  [[nodiscard]] bool consecutive() const noexcept { return consecutive_; }

  /// Appends rows of any scalar type, the first at `position`, with the saliency of each or, where nothing is known yet, none;
  /// expects room() and reserve() before.
  void push(Rows keys, Rows values, std::int64_t position, std::span<const float> saliency = {}) noexcept {
    PQKV_EXPECTS(keys.count == values.count && keys.count <= room());
    consecutive_ = consecutive_ && (tokens_ == 0 || keys.count == 0 || places_[tokens_ - 1].position + 1 == position);
    for (std::size_t i = 0; i < keys.count; ++i) {
      put(keys, i, keys_.data() + (tokens_ + i) * rows_.row_bytes());
      put(values, i, values_.data() + (tokens_ + i) * rows_.row_bytes());
      places_[tokens_ + i] = {position + static_cast<std::int64_t>(i), 0, 1.0f, saliency.empty() ? 0.0f : saliency[i]};
    }
    tokens_ += keys.count;
  }

  /// Key row `index` as it stands now, [dim] floats: turned by as far as it was moved.
  void key(std::size_t index, const Rope* rope, float* row) const noexcept {
    rows_.load(keys_.data() + index * rows_.row_bytes(), rows_.dim, row);
    if (places_[index].shift != 0 && rope != nullptr) rope->turn(static_cast<double>(places_[index].shift), row);
  }
  void value(std::size_t index, float* row) const noexcept {
    rows_.load(values_.data() + index * rows_.row_bytes(), rows_.dim, row);
  }
  /// The attention that token `index` has got, as far as anybody collected it (attend/collect.hpp).
  [[nodiscard]] float saliency(std::size_t index) const noexcept { return places_[index].saliency; }
  void add_saliency(std::size_t index, float weight) noexcept { places_[index].saliency += weight; }

  /// The oldest tokens on their way into a block, one in each of `slots` slots whose bit is set in `filled`: keys turned to where
  /// they stand, or values. An empty slot gets a copy of the row before it, which no scale of the block feels. `scratch` has
  /// room for slots · dim floats, unless the window holds them as they are wanted.
  [[nodiscard]] FloatRows in_slots(std::size_t slots, std::uint32_t filled, bool keys, const Rope* rope,
                                   float* scratch) const noexcept {
    const std::byte* rows = keys ? keys_.data() : values_.data();
    if (consecutive_) {
      if (rows_.type == ScalarType::f32) return {reinterpret_cast<const float*>(rows), slots, rows_.dim};
      rows_.load(rows, slots * rows_.dim, scratch);
      return {scratch, slots, rows_.dim};
    }
    std::size_t index = 0;
    for (std::size_t slot = 0; slot < slots; ++slot) {
      float* out = scratch + slot * rows_.dim;
      if ((filled >> slot & 1u) == 0) {
        std::memcpy(out, out - rows_.dim, rows_.dim * sizeof(float));
      } else if (keys) {
        key(index++, rope, out);
      } else {
        value(index++, out);
      }
    }
    return {scratch, slots, rows_.dim};
  }
  /// The saliency in each of those slots: 0 in empty ones, and more in every other.
  void saliency_in_slots(std::size_t slots, std::uint32_t filled, float* out) const noexcept {
    constexpr float least = 1e-30f;
    std::size_t index = 0;
    for (std::size_t slot = 0; slot < slots; ++slot) out[slot] = (filled >> slot & 1u) == 0 ? 0.0f : saliency(index++) + least;
  }

  /// The sum of the weights of the rows that token `index` stands for; 1 unless weigh() or merge() said otherwise.
  [[nodiscard]] float weight(std::size_t index) const noexcept { return places_[index].weight; }
  void weigh(std::size_t index, float weight) noexcept { places_[index].weight = weight; }
  /// Token `index` becomes the weighted mean of itself and of rows [dim] in floats, the key as it was before the token
  /// was moved. `scratch` has 2·dim floats.
  void merge(std::size_t index, const float* key, const float* value, float weight, float* scratch) noexcept {
    const float share = weight / (places_[index].weight + weight);
    const std::size_t at = index * rows_.row_bytes();
    rows_.load(keys_.data() + at, rows_.dim, scratch);
    rows_.load(values_.data() + at, rows_.dim, scratch + rows_.dim);
    for (std::size_t d = 0; d < rows_.dim; ++d) {
      scratch[d] += share * (key[d] - scratch[d]);
      scratch[rows_.dim + d] += share * (value[d] - scratch[rows_.dim + d]);
    }
    rows_.store(scratch, rows_.dim, keys_.data() + at);
    rows_.store(scratch + rows_.dim, rows_.dim, values_.data() + at);
    places_[index].weight += weight;
  }

  /// Loading: `count` tokens as they were saved, rows in the window's own scalar type. False when memory runs out.
  [[nodiscard]] bool restore(std::size_t count, const void* keys, const void* values, const std::int64_t* positions,
                             const std::int64_t* shifts, const float* weights) noexcept {
    if (!keys_.grow(count * rows_.row_bytes()) || !values_.grow(count * rows_.row_bytes()) || !places_.grow(count)) return false;
    capacity_ = std::max(capacity_, count);
    tokens_ = count;
    if (count != 0) std::memcpy(keys_.data(), keys, count * rows_.row_bytes());
    if (count != 0) std::memcpy(values_.data(), values, count * rows_.row_bytes());
    for (std::size_t i = 0; i < count; ++i) places_[i] = {positions[i], shifts[i], weights[i], 0.0f};
    recheck();
    return true;
  }

  void drop_oldest(std::size_t count) noexcept {
    PQKV_EXPECTS(count <= tokens_);
    move_down(0, count, tokens_ - count);
    tokens_ -= count;
    if (!consecutive_) recheck();
  }

  void truncate(std::size_t tokens) noexcept {
    PQKV_EXPECTS(tokens <= tokens_);
    tokens_ = tokens;
    if (!consecutive_) recheck();
  }

  /// Drops the tokens whose indices, counted from `base`, are in `ranges` (sorted, disjoint).
  void erase(std::span<const TokenRange> ranges, std::size_t base) noexcept {
    std::size_t kept = 0;
    std::size_t seen = 0;
    for (const TokenRange& range : ranges) {
      const std::size_t first = std::clamp(range.first, base, base + tokens_) - base;
      const std::size_t last = std::clamp(range.end(), base, base + tokens_) - base;
      move_down(kept, seen, first - seen);
      kept += first - seen;
      seen = last;
    }
    move_down(kept, seen, tokens_ - seen);
    tokens_ = kept + tokens_ - seen;
    recheck();
  }

  /// Moves tokens by `delta` positions; their rows stay as they are.
  void shift(std::size_t first, std::size_t count, std::int64_t delta) noexcept {
    PQKV_EXPECTS(first + count <= tokens_);
    for (std::size_t i = first; i < first + count; ++i) {
      places_[i].position += delta;
      places_[i].shift += delta;
    }
    recheck();
  }

 private:
  struct Place {
    std::int64_t position;
    std::int64_t shift;
    float weight;  // of the rows that were merged into this one
    float saliency;
  };

  void put(const Rows& rows, std::size_t index, std::byte* out) noexcept {
    if (rows.type == rows_.type) {
      std::memcpy(out, rows.row(index), rows_.row_bytes());
      return;
    }
    to_floats(rows, index, scratch_.data());
    rows_.store(scratch_.data(), rows_.dim, out);
  }
  void move_down(std::size_t to, std::size_t from, std::size_t count) noexcept {
    if (to == from || count == 0) return;
    const std::size_t bytes = rows_.row_bytes();
    std::memmove(keys_.data() + to * bytes, keys_.data() + from * bytes, count * bytes);
    std::memmove(values_.data() + to * bytes, values_.data() + from * bytes, count * bytes);
    std::memmove(places_.data() + to, places_.data() + from, count * sizeof(Place));
  }
  void recheck() noexcept {
    consecutive_ = true;
    for (std::size_t i = 0; i < tokens_; ++i) {
      const std::int64_t expected = places_[0].position + static_cast<std::int64_t>(i);
      consecutive_ = consecutive_ && places_[i].shift == 0 && places_[i].position == expected;
    }
  }

  ExactRows rows_;
  std::size_t capacity_ = 0;
  std::size_t tokens_ = 0;
  bool consecutive_ = true;
  Buffer<std::byte> keys_;
  Buffer<std::byte> values_;
  Buffer<Place> places_;
  Buffer<float> scratch_;  // one row on its way to another scalar type
};

}  // namespace pqkv::inline PQKV_ABI
