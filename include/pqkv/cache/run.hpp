// Run: consecutive blocks of a sequence whose tokens were encoded and moved alike; where their tokens stand. Layer 4.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// Run::places of runs whose tokens stand one position behind the other.
inline constexpr std::size_t no_places = std::numeric_limits<std::size_t>::max();

/// Consecutive blocks whose tokens share a position origin and were moved alike. The first and the last slot of `tokens`
/// need not be the first and last of a block; every block holds at least one token.
struct Run {
  std::size_t first_block = 0;
  std::size_t tokens = 0;   ///< slots from the first block's first to behind the last token left, erased ones included
  std::int64_t origin = 0;  ///< what the tokens were encoded with
  std::size_t offset = 0;   ///< slots of the run they were encoded in that lie before the first block
  std::size_t live = 0;     ///< tokens left
  std::int64_t shift = 0;   ///< positions moved since they were encoded
  /// A compacted run's tokens stand anywhere (in the order of indices): slot s as many positions behind the origin as number
  /// places + s of the sequence's list says, before the shift; offset then means nothing.
  std::size_t places = no_places;

  [[nodiscard]] std::size_t blocks() const noexcept { return (tokens + block_tokens - 1) / block_tokens; }
  [[nodiscard]] bool has_holes() const noexcept { return live != tokens; }
  [[nodiscard]] bool is_compacted() const noexcept { return places != no_places; }
  /// Where what is left of the run from block `b` on would find its places.
  [[nodiscard]] std::size_t places_from(std::size_t b) const noexcept {
    return is_compacted() ? places + b * block_tokens : no_places;
  }
};

/// Where the tokens in the slots of a run stand now.
class SlotPositions {
 public:
  /// Slot s stands at first + s.
  explicit SlotPositions(std::int64_t first) noexcept : first_(first) {}
  /// Slot s stands at list[s] + first.
  SlotPositions(const std::int64_t* list, std::int64_t first) noexcept : list_(list), first_(first) {}

  /// Null where slots stand one behind the other.
  [[nodiscard]] const std::int64_t* list() const noexcept { return list_; }
  [[nodiscard]] std::int64_t operator()(std::size_t slot) const noexcept {
    return list_ != nullptr ? list_[slot] + first_ : first_ + static_cast<std::int64_t>(slot);
  }
  /// No slot up to this one stands behind it.
  [[nodiscard]] std::int64_t latest(std::size_t slot) const noexcept {
    constexpr std::int64_t anywhere = std::numeric_limits<std::int64_t>::max() / 2;  // no difference of positions overflows
    return list_ != nullptr ? anywhere : (*this)(slot);
  }
  /// The same, counted from another slot.
  [[nodiscard]] SlotPositions from(std::size_t slot) const noexcept {
    return list_ != nullptr ? SlotPositions(list_ + slot, first_) : SlotPositions((*this)(slot));
  }

 private:
  const std::int64_t* list_ = nullptr;
  std::int64_t first_;
};

}  // namespace pqkv::inline PQKV_ABI
