// SealedTokens: the compressed tokens of one sequence, whatever their format: runs of blocks in a BlockStore, and what may
// happen to them without a code being touched: truncate, erase, shift, fork. Layer 4.
//
//   run    | block: 32 slots | block | …      one origin, one shift; block b of it holds slots 32·b … 32·b + 31
//   erase  sets bits in the blocks' `dead` words; blocks with no token left leave the run, which may fall into two
//   shift  changes the run's shift; where it begins inside a block, that block's bytes are copied, so that its tokens can
//          belong to two runs
//   compact copies codes into full blocks, whose runs then list the position of each slot
//
// Otherwise a token keeps the place that it was encoded at (origin, offset) for ever: formats may have used it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "pqkv/cache/block_store.hpp"
#include "pqkv/cache/growing_array.hpp"
#include "pqkv/cache/run.hpp"
#include "pqkv/cache/token_range.hpp"

namespace pqkv::inline PQKV_ABI {

class SealedTokens {
 public:
  SealedTokens() = default;
  SealedTokens(BlockBytes bytes, std::shared_ptr<PageSource> source) noexcept : store_(bytes, std::move(source)) {}

  [[nodiscard]] std::size_t tokens() const noexcept { return tokens_; }
  [[nodiscard]] const GrowingArray<Run>& runs() const noexcept { return runs_; }
  [[nodiscard]] const BlockStore& store() const noexcept { return store_; }
  [[nodiscard]] std::size_t bytes(bool shared = true) const noexcept {
    return store_.bytes(shared) + runs_.bytes() + edited_.bytes() + places_.bytes();
  }

  [[nodiscard]] SlotPositions positions_of(const Run& run) const noexcept {
    if (run.is_compacted()) return {places_.begin() + run.places, run.origin + run.shift};
    return SlotPositions(run.origin + run.shift + static_cast<std::int64_t>(run.offset));
  }

  /// Room for more blocks and runs; false, and everything as it was, when memory or the page source runs out.
  [[nodiscard]] bool reserve(std::size_t blocks, std::size_t runs) noexcept {
    return runs_.reserve(runs_.size() + runs) && store_.reserve(blocks);
  }
  /// Room for erase() of that many ranges, and `cuts` shifts that begin or end inside a run.
  [[nodiscard]] bool reserve_edit(std::size_t ranges, std::size_t cuts) noexcept {
    const std::size_t runs = runs_.size() + ranges + 2 * cuts;
    return runs_.reserve(runs) && edited_.reserve(runs) && store_.reserve(cuts);
  }

  /// Where the next `slots` tokens belong, the first at `position`; runs are at most `run_tokens` long.
  [[nodiscard]] RunPlace place(std::int64_t position, std::size_t slots, std::size_t run_tokens) const noexcept {
    if (!continues(position, slots, run_tokens)) return {position, 0};
    return {runs_.back().origin, runs_.back().offset + runs_.back().tokens};
  }

  struct NewBlock {
    RunPlace place;
    std::byte* keys;
    std::byte* values;
  };
  /// The next block, for `slots` tokens from `position` on less those in `dead`; expects room. The caller encodes it.
  [[nodiscard]] NewBlock open_block(std::int64_t position, std::size_t slots, std::uint32_t dead,
                                    std::size_t run_tokens) noexcept {
    const RunPlace where = place(position, slots, run_tokens);
    if (!continues(position, slots, run_tokens)) runs_.push_back({.first_block = store_.blocks(), .origin = position});
    const std::size_t block = store_.take();
    store_.dead(block) = dead;
    const std::size_t live = slots - static_cast<std::size_t>(std::popcount(dead));
    runs_.back().tokens += slots;
    runs_.back().live += live;
    tokens_ += live;
    return {where, store_.key_block(block), store_.value_block(block)};
  }

  /// Keeps the first `tokens` tokens.
  void truncate(std::size_t tokens) noexcept {
    PQKV_EXPECTS(tokens <= tokens_);
    if (tokens == tokens_) return;
    while (tokens_ > tokens) {
      Run& run = runs_.back();
      const std::size_t drop = std::min(run.live, tokens_ - tokens);
      tokens_ -= drop;
      if (drop == run.live) {
        runs_.pop_back();
      } else {
        run.tokens = slot_of(run, run.live - drop - 1) + 1;
        run.live -= drop;
      }
    }
    store_.keep_only(runs_);
  }

  /// Drops the tokens whose indices, counted from `base`, are in `ranges` (sorted, disjoint). Expects reserve_edit().
  void erase(std::span<const TokenRange> ranges, std::size_t base) noexcept {
    edited_.clear();
    std::size_t token = base;
    std::size_t next = 0;
    for (const Run& run : runs_) {
      while (next < ranges.size() && ranges[next].end() <= token) ++next;
      if (next == ranges.size() || ranges[next].first >= token + run.live) {
        edited_.push_back(run);
      } else {
        erase_in(run, ranges.subspan(next), token);
      }
      token += run.live;
    }
    std::swap(runs_, edited_);
    const std::size_t before = tokens_;
    tokens_ = 0;
    for (const Run& run : runs_) tokens_ += run.live;
    if (tokens_ != before) store_.keep_only(runs_);
  }

  /// Moves tokens by `delta` positions. Expects reserve_edit() of two cuts.
  void shift(std::size_t first, std::size_t count, std::int64_t delta) noexcept {
    if (count == 0 || delta == 0) return;
    const std::size_t begin = cut(first);
    const std::size_t end = cut(first + count);
    for (std::size_t i = begin; i < end; ++i) runs_[i].shift += delta;
  }

  /// compact: other runs with the same tokens, and the places of the compacted ones; blocks that none of them has are given
  /// up.
  void rearrange(GrowingArray<Run> runs, GrowingArray<std::int64_t> places) noexcept {
    runs_ = std::move(runs);
    places_ = std::move(places);
    store_.keep_only(runs_);
  }
  /// Bit t: slot t of the run's block b holds a token.
  [[nodiscard]] std::uint32_t alive(const Run& run, std::size_t b) const noexcept {
    const std::size_t slots = std::min(block_tokens, run.tokens - b * block_tokens);
    return ~store_.dead(run.first_block + b) & (~0u >> (block_tokens - slots));
  }

  /// The place that makes index `slot` % 32 of the slot's block that of its token.
  [[nodiscard]] RunPlace place_of(const Run& run, std::size_t slot) const noexcept {
    const std::size_t before = run.is_compacted() ? static_cast<std::size_t>(*(places_.begin() + run.places + slot))
                                                  : run.offset + slot;
    return {run.origin, before - slot % block_tokens};  // may wrap round; adding the index wraps back
  }

  struct Found {
    const Run* run;
    std::size_t slot;
  };
  /// Where token `index` of these lies.
  [[nodiscard]] Found find(std::size_t index) const noexcept {
    PQKV_EXPECTS(index < tokens_);
    const Run* run = runs_.begin();
    while (index >= run->live) index -= (run++)->live;
    return {run, slot_of(*run, index)};
  }

  /// Where each token stands now; returns the end of what was written.
  std::int64_t* positions(std::int64_t* out) const noexcept {
    for (const Run& run : runs_) {
      for (std::size_t b = 0; b < run.blocks(); ++b) {
        for (std::uint32_t left = alive(run, b); left != 0; left &= left - 1) {
          *out++ = positions_of(run)(b * block_tokens + static_cast<std::size_t>(std::countr_zero(left)));
        }
      }
    }
    return out;
  }

  /// Gives memory that holds no token back to where it came from.
  void trim() noexcept { store_.trim(); }

  /// The same tokens over shared pages. False when memory runs out; `out` is then of no use.
  [[nodiscard]] bool fork_into(SealedTokens& out) const noexcept {
    out.tokens_ = tokens_;
    return out.runs_.assign(runs_) && out.places_.assign(places_) && store_.fork_into(out.store_);
  }

  /// Loading and compact: blocks one by one (expects room) or filled pages in turn, then the runs over them. False when memory
  /// runs out.
  [[nodiscard]] NewBlock add_block() noexcept {
    const std::size_t block = store_.take();
    return {{}, store_.key_block(block), store_.value_block(block)};
  }
  [[nodiscard]] bool add_filled(PageRef page, std::size_t used) noexcept { return store_.add_filled(std::move(page), used); }
  /// `places` of each slot make it a compacted run; empty for others.
  [[nodiscard]] bool add_run(const Run& run, std::span<const std::uint32_t> dead,
                             std::span<const std::int64_t> places = {}) noexcept {
    if (!runs_.reserve(runs_.size() + 1) || !places_.reserve(places_.size() + places.size())) return false;
    runs_.push_back(run);
    if (!places.empty()) runs_.back().places = places_.size();
    for (const std::int64_t place : places) places_.push_back(place);
    tokens_ += run.live;
    for (std::size_t b = 0; b < dead.size(); ++b) store_.dead(run.first_block + b) = dead[b];
    return true;
  }

 private:
  [[nodiscard]] bool continues(std::int64_t position, std::size_t slots, std::size_t run_tokens) const noexcept {
    if (runs_.empty() || runs_.back().tokens % block_tokens != 0 || runs_.back().is_compacted()) return false;
    const Run& run = runs_.back();
    return run.shift == 0 && positions_of(run)(run.tokens) == position && run.first_block + run.blocks() == store_.blocks() &&
           run_tokens - (run.offset + run.tokens) >= slots;
  }

  /// The slot of the run's token number `index`.
  [[nodiscard]] std::size_t slot_of(const Run& run, std::size_t index) const noexcept {
    if (!run.has_holes()) return index;
    for (std::size_t b = 0;; ++b) {
      std::uint32_t left = alive(run, b);
      const auto count = static_cast<std::size_t>(std::popcount(left));
      if (index >= count) {
        index -= count;
        continue;
      }
      for (; index > 0; --index) left &= left - 1;
      return b * block_tokens + static_cast<std::size_t>(std::countr_zero(left));
    }
  }

  /// What is left of a run whose first token is number `token`, as one or more runs of edited_.
  void erase_in(const Run& run, std::span<const TokenRange> ranges, std::size_t token) noexcept {
    std::size_t next = 0;
    bool open = false;  // the block before is the last of edited_.back()
    for (std::size_t b = 0; b < run.blocks(); ++b) {
      const std::uint32_t before = alive(run, b);
      const std::size_t end = token + static_cast<std::size_t>(std::popcount(before));
      std::uint32_t left = before;
      while (next < ranges.size() && ranges[next].end() <= token) ++next;
      if (next < ranges.size() && ranges[next].first < end) {
        std::size_t range = next;
        std::size_t index = token;
        for (std::uint32_t bits = before; bits != 0; bits &= bits - 1, ++index) {
          while (range < ranges.size() && ranges[range].end() <= index) ++range;
          if (range < ranges.size() && ranges[range].first <= index) left &= ~(bits & (~bits + 1));
        }
        store_.dead(run.first_block + b) |= before & ~left;
      }
      token = end;
      if (left != 0) {
        if (!open) {
          edited_.push_back({.first_block = run.first_block + b, .origin = run.origin,
                             .offset = run.offset + b * block_tokens, .shift = run.shift,
                             .places = run.places_from(b)});
        }
        Run& piece = edited_.back();
        piece.tokens = (run.first_block + b - piece.first_block) * block_tokens + static_cast<std::size_t>(std::bit_width(left));
        piece.live += static_cast<std::size_t>(std::popcount(left));
      }
      open = left != 0;
    }
  }

  /// Makes token number `token` the first of a run; returns that run's index.
  [[nodiscard]] std::size_t cut(std::size_t token) noexcept {
    for (std::size_t i = 0; i < runs_.size(); ++i) {
      if (token == 0) return i;
      if (token < runs_[i].live) {
        cut_run(i, token);
        return i + 1;
      }
      token -= runs_[i].live;
    }
    return runs_.size();
  }

  /// Run i keeps its first `count` tokens, the others become the run or the two runs behind it.
  void cut_run(std::size_t i, std::size_t count) noexcept {
    const Run run = runs_[i];
    const std::size_t slot = slot_of(run, count);
    const std::size_t b = slot / block_tokens;
    const std::uint32_t low = (1u << slot % block_tokens) - 1;
    const std::uint32_t whole = alive(run, b);
    const std::size_t left = slot_of(run, count - 1) + 1;
    std::size_t behind = b;  // the first block of the run that needs no copy
    std::size_t moved = 0;   // tokens in the copy
    if ((whole & low) != 0) {
      const std::size_t copy = store_.take();
      const std::size_t block = run.first_block + b;
      std::memcpy(store_.key_block(copy), store_.key_block(block), store_.block_bytes().key);
      std::memcpy(store_.value_block(copy), store_.value_block(block), store_.block_bytes().value);
      store_.dead(copy) = ~(whole & ~low);
      moved = static_cast<std::size_t>(std::popcount(whole & ~low));
      runs_.insert(i + 1, {.first_block = copy,
                           .tokens = static_cast<std::size_t>(std::bit_width(whole & ~low)),
                           .origin = run.origin,
                           .offset = run.offset + b * block_tokens,
                           .live = moved,
                           .shift = run.shift,
                           .places = run.places_from(b)});
      ++behind;
    }
    if (run.live > count + moved) {
      runs_.insert(i + (moved != 0 ? 2 : 1), {.first_block = run.first_block + behind,
                                              .tokens = run.tokens - behind * block_tokens,
                                              .origin = run.origin,
                                              .offset = run.offset + behind * block_tokens,
                                              .live = run.live - count - moved,
                                              .shift = run.shift,
                                              .places = run.places_from(behind)});
    }
    runs_[i].tokens = left;
    runs_[i].live = count;
  }

  BlockStore store_;
  GrowingArray<Run> runs_;    // oldest tokens first
  GrowingArray<Run> edited_;  // erase: what runs_ becomes
  GrowingArray<std::int64_t> places_;  // of the slots of compacted runs, before their shift
  std::size_t tokens_ = 0;
};

}  // namespace pqkv::inline PQKV_ABI
