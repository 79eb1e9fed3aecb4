// compact: blocks with few tokens left become full ones, so that memory and attention follow the tokens and not the blocks.
// Layer 4. After scattered eviction nearly every block still holds something; here codes move from block to block, nothing
// is decoded. Tokens keep their indices and positions; blocks that other sequences share are left to them.
//
// Where keys are turned back to their run's origin before coding (RoPE taken out, run=…), a code says nothing beside another
// origin: it moves within its run only, and every run that has a token left keeps a block of its own and a table. Longer runs
// leave fewer of them.
#pragma once

#include "pqkv/cache/compressed_kv_cache.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// Neighbouring runs that are kept as they are, or become one.
struct CompactionPart {
  std::size_t first;  // runs first … end − 1
  std::size_t end;
  std::size_t live;  // tokens in them
  bool rewritten;
};

[[nodiscard]] inline std::size_t blocks_for(std::size_t tokens) noexcept { return (tokens + block_tokens - 1) / block_tokens; }

/// The part that begins with run `first`: runs filled to less than `fill` that were moved alike (and have one origin, if
/// that matters), where they would need fewer blocks.
[[nodiscard]] inline CompactionPart part_at(const GrowingArray<Run>& runs, std::size_t first, double fill,
                                            bool by_origin) noexcept {
  const auto is_sparse = [fill](const Run& run) {
    return static_cast<double>(run.live) < fill * static_cast<double>(run.blocks() * block_tokens);
  };
  CompactionPart part{first, first, 0, false};
  std::size_t blocks = 0;
  while (part.end < runs.size() && is_sparse(runs[part.end]) && runs[part.end].shift == runs[first].shift &&
         (!by_origin || runs[part.end].origin == runs[first].origin)) {
    part.live += runs[part.end].live;
    blocks += runs[part.end++].blocks();
  }
  part.rewritten = part.end != first && blocks_for(part.live) < blocks;
  if (part.end == first) part.end = first + 1;
  return part;
}

/// The runs of a part as one; its codes and places are moved by copy(from, slot, to, to slot).
template <class Copy>
[[nodiscard]] Run rewrite(SealedTokens& sealed, const CompactionPart& part, bool by_origin,
                          GrowingArray<std::int64_t>& places, const Copy& copy) noexcept {
  const BlockBytes bytes = sealed.store().block_bytes();
  const Run made{.first_block = sealed.store().blocks(),
                 .tokens = part.live,
                 .origin = by_origin ? sealed.runs()[part.first].origin : 0,
                 .live = part.live,
                 .shift = sealed.runs()[part.first].shift,
                 .places = places.size()};
  SealedTokens::NewBlock block{};
  std::size_t to = 0;
  for (std::size_t i = part.first; i < part.end; ++i) {
    const Run& run = sealed.runs()[i];
    const SlotPositions position = sealed.positions_of(run);
    for (std::size_t b = 0; b < run.blocks(); ++b) {
      for (std::uint32_t left = sealed.alive(run, b); left != 0; left &= left - 1, ++to) {
        if (to % block_tokens == 0) {
          block = sealed.add_block();
          std::memset(block.keys, 0, bytes.key);
          std::memset(block.values, 0, bytes.value);
        }
        const auto slot = static_cast<std::size_t>(std::countr_zero(left));
        copy(sealed.store().stretch(run.first_block + b), slot, block, to % block_tokens);
        places.push_back(position(b * block_tokens + slot) - made.shift - made.origin);
      }
    }
  }
  return made;
}

}  // namespace detail

/// Whether codes of these formats may move to other slots.
template <KeyPolicy K, ValuePolicy V>
[[nodiscard]] bool can_compact(const K& keys, const V& values) noexcept {
  if constexpr (RowMovable<K> && RowMovable<V>) {
    return keys.rows_move() && values.rows_move();
  } else {
    return false;
  }
}

/// Rewrites neighbouring runs whose slots are filled to less than `fill` (0..1), where that needs fewer blocks; returns how
/// many fewer (trim() hands pages back that hold none any more). A compacted run knows the position of each token, 8
/// bytes each. All or nothing. Errors: invalid_parameter when can_compact() says no; out_of_memory, cache_full: old and new
/// blocks exist side by side for a moment.
template <KeyPolicy K, ValuePolicy V>
[[nodiscard]] Result<std::size_t> compact(HeadCache<K, V>& head, double fill = 0.75) {
  if (!can_compact(head.keys(), head.values())) {
    return Error{Errc::invalid_parameter, message(head.keys().describe(), " / ", head.values().describe(),
                                                  ": codes that depend on others of their block cannot move to another")};
  }
  std::size_t before = 0, after = 0;
  if constexpr (RowMovable<K> && RowMovable<V>) {
    SealedTokens& sealed = head.sequence().sealed;
    const bool by_origin = needs_origin(head.keys());
    std::size_t blocks = 0, slots = 0;
    for (std::size_t i = 0; i < sealed.runs().size();) {
      const detail::CompactionPart part = detail::part_at(sealed.runs(), i, fill, by_origin);
      if (part.rewritten) blocks += detail::blocks_for(part.live);
      for (; i < part.end; ++i) {
        const Run& run = sealed.runs()[i];
        slots += part.rewritten ? run.live : run.is_compacted() ? run.tokens : 0;
      }
    }
    if (blocks == 0) return std::size_t{0};
    GrowingArray<Run> runs;
    GrowingArray<std::int64_t> places;
    if (!runs.reserve(sealed.runs().size()) || !places.reserve(slots) || !sealed.reserve(blocks, 0)) {
      return TokenSequence::no_room(head.options());
    }
    const auto copy = [&](const BlockStretch& from, std::size_t slot, const SealedTokens::NewBlock& to, std::size_t to_slot) {
      head.keys().copy_row(from.keys, slot, to.keys, to_slot);
      head.values().copy_row(from.values, slot, to.values, to_slot);
    };
    for (std::size_t i = 0; i < sealed.runs().size();) {
      const detail::CompactionPart part = detail::part_at(sealed.runs(), i, fill, by_origin);
      if (part.rewritten) {
        for (; i < part.end; ++i) before += sealed.runs()[i].blocks();
        runs.push_back(detail::rewrite(sealed, part, by_origin, places, copy));
        after += runs.back().blocks();
        continue;
      }
      for (; i < part.end; ++i) {
        const Run& run = sealed.runs()[i];
        runs.push_back(run);
        if (!run.is_compacted()) continue;
        const SlotPositions position = sealed.positions_of(run);
        runs.back().places = places.size();
        for (std::size_t s = 0; s < run.tokens; ++s) places.push_back(position(s) - run.shift - run.origin);
      }
    }
    sealed.rearrange(std::move(runs), std::move(places));
  }
  return before - after;
}

/// The same for every head; returns how many blocks fewer there are in all. Errors: as above; heads that came before the one
/// that failed are compacted, which changes no token.
template <KeyPolicy K, ValuePolicy V>
[[nodiscard]] Result<std::size_t> compact(CompressedKVCache<K, V>& cache, double fill = 0.75) {
  std::size_t sum = 0;
  for (std::size_t layer = 0; layer < cache.shape().layers; ++layer) {
    for (std::size_t h = 0; h < cache.shape().kv_heads; ++h) {
      const auto fewer = compact(cache.head(layer, h), fill);
      if (!fewer) return Error{fewer.error().code, message("layer ", layer, " head ", h, ": ", fewer.error().message)};
      sum += *fewer;
    }
  }
  return sum;
}

}  // namespace pqkv::inline PQKV_ABI
