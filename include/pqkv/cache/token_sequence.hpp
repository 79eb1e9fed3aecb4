// TokenSequence: the tokens of one head in their three zones, whatever their formats, and every edit that touches no code.
// Layer 4.
//
//   index 0 ───────────────────────────────────────────────────────────────────────────► newest
//   | kept: sinks, and rows that replace() put in; exact | sealed, compressed | recent, exact |
//
// Each edit comes in two parts: prepare… checks and allocates, and fails without having changed anything; the other part
// cannot fail. So many heads change together or not at all.
#pragma once

#include <memory>

#include "pqkv/cache/sealed_tokens.hpp"
#include "pqkv/cache/window.hpp"

namespace pqkv::inline PQKV_ABI {

/// What a cache keeps exact, how much it may hold, and where.
struct CacheOptions {
  std::size_t sinks = 0;                      ///< first tokens, kept exact for ever
  std::size_t recent = 0;                     ///< newest tokens, kept exact; 0 is allowed
  ScalarType window = ScalarType::f32;        ///< how exact tokens are stored
  std::size_t max_tokens = unlimited_tokens;  ///< append beyond it is Errc::cache_full
  /// How the model turns rows by their positions; needed to move tokens. A default Rope: the model does not.
  std::shared_ptr<const Rope> rope = nullptr;
  std::shared_ptr<PageSource> pages = nullptr;  ///< where blocks lie; null: the heap
};

struct TokenSequence {
  TokenSequence(std::size_t dim, BlockBytes bytes, const CacheOptions& options) noexcept
      : sealed(bytes, options.pages),
        kept(dim, options.window, options.sinks),
        recent(dim, options.window, options.recent + block_tokens) {}

  SealedTokens sealed;
  ExactWindow kept;
  ExactWindow recent;
  std::int64_t next_position = 0;  ///< of the token that is appended next

  [[nodiscard]] std::size_t tokens() const noexcept { return kept.tokens() + sealed.tokens() + recent.tokens(); }

  /// Where token `index` stands now.
  [[nodiscard]] std::int64_t position(std::size_t index) const noexcept {
    PQKV_EXPECTS(index < tokens());
    if (index < kept.tokens()) return kept.position(index);
    index -= kept.tokens();
    if (index >= sealed.tokens()) return recent.position(index - sealed.tokens());
    const auto [run, slot] = sealed.find(index);
    return sealed.positions_of(*run)(slot);
  }

  /// Where each token stands now, in the order of indices: tokens() numbers.
  void positions(std::int64_t* out) const noexcept {
    for (std::size_t i = 0; i < kept.tokens(); ++i) *out++ = kept.position(i);
    out = sealed.positions(out);
    for (std::size_t i = 0; i < recent.tokens(); ++i) *out++ = recent.position(i);
  }

  void truncate(std::size_t count) noexcept {
    PQKV_EXPECTS(count <= tokens());
    if (count == tokens()) return;
    next_position = position(count);
    const std::size_t kept_left = std::min(count, kept.tokens());
    const std::size_t sealed_left = std::min(count - kept_left, sealed.tokens());
    recent.truncate(count - kept_left - sealed_left);
    sealed.truncate(sealed_left);
    kept.truncate(kept_left);
  }

  [[nodiscard]] Status prepare_erase(std::span<const TokenRange> ranges, Gap gap, const CacheOptions& options) {
    if (Status status = check(ranges, tokens()); !status) return status;
    if (gap == Gap::close) {
      if (Status status = check_movable(options); !status) return status;
    }
    return sealed.reserve_edit(ranges.size(), gap == Gap::close ? 2 * ranges.size() : 0) ? Status() : no_room(options);
  }
  void erase(std::span<const TokenRange> ranges, Gap gap) noexcept {
    const std::size_t before = tokens();
    recent.erase(ranges, kept.tokens() + sealed.tokens());
    sealed.erase(ranges, kept.tokens());
    kept.erase(ranges, 0);
    if (gap == Gap::keep) return;
    std::size_t erased = 0;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      erased += ranges[i].count;
      const std::size_t end = i + 1 < ranges.size() ? ranges[i + 1].first : before;
      move({ranges[i].end() - erased, end - ranges[i].end()}, -static_cast<std::int64_t>(erased));
    }
    next_position -= static_cast<std::int64_t>(erased);
  }

  [[nodiscard]] Status prepare_shift(TokenRange range, const CacheOptions& options) {
    if (Status status = check(std::span(&range, 1), tokens()); !status) return status;
    if (Status status = check_movable(options); !status) return status;
    return sealed.reserve_edit(0, 2) ? Status() : no_room(options);
  }
  /// Where the range reaches the newest token, the next position moves with it.
  void shift(TokenRange range, std::int64_t delta) noexcept {
    move(range, delta);
    if (range.count != 0 && range.end() == tokens()) next_position += delta;
  }

  /// Expects prepare_erase() of the range, and room in `kept`.
  void replace(TokenRange range, Rows keys, Rows values, std::span<const std::int64_t> positions) noexcept {
    erase(std::span(&range, 1), Gap::keep);
    for (std::size_t i = 0; i < keys.count; ++i) kept.push(keys.slice(i, 1), values.slice(i, 1), positions[i]);
  }

  [[nodiscard]] bool fork_into(TokenSequence& out) const noexcept {
    out.next_position = next_position;
    return out.kept.assign(kept) && out.recent.assign(recent) && sealed.fork_into(out.sealed);
  }

  /// Why there was no memory for blocks.
  [[nodiscard]] static Error no_room(const CacheOptions& options) {
    if (options.pages != nullptr) return {Errc::cache_full, "the page source has no page left; nothing was changed"};
    return {Errc::out_of_memory, "no memory for another block; nothing was changed"};
  }

 private:
  [[nodiscard]] static Status check_movable(const CacheOptions& options) {
    if (options.rope != nullptr) return {};
    return Error{Errc::invalid_parameter,
                 "tokens cannot be moved: CacheOptions::rope does not say how the model turns rows by their positions "
                 "(a default Rope: it does not)"};
  }

  void move(TokenRange range, std::int64_t delta) noexcept {
    if (range.count == 0 || delta == 0) return;
    std::size_t base = 0;
    const auto part = [&](std::size_t count) {
      const std::size_t first = std::clamp(range.first, base, base + count) - base;
      const std::size_t end = std::clamp(range.end(), base, base + count) - base;
      base += count;
      return TokenRange{first, end - first};
    };
    const TokenRange in_kept = part(kept.tokens());
    const TokenRange in_sealed = part(sealed.tokens());
    const TokenRange in_recent = part(recent.tokens());
    if (in_kept.count != 0) kept.shift(in_kept.first, in_kept.count, delta);
    if (in_sealed.count != 0) sealed.shift(in_sealed.first, in_sealed.count, delta);
    if (in_recent.count != 0) recent.shift(in_recent.first, in_recent.count, delta);
  }
};

}  // namespace pqkv::inline PQKV_ABI
