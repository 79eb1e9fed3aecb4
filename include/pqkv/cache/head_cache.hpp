// HeadCache: the compressed keys and values of one kv head of one layer. Layer 4.
//
//   token 0 ─────────────────────────────────────────────────────────────► newest
//   | kept, exact | runs of sealed blocks, compressed | recent, exact |         (cache/token_sequence.hpp)
//
// Append is staged: rows enter the recent window, and each time it holds `recent` + 32 tokens its oldest 32 are encoded
// as one full block. So encoding never sees part of a block, and one-token appends end in the same bytes as one big one.
// The window therefore holds between `recent` and `recent` + 31 tokens once the sequence is long enough.
#pragma once

#include <cmath>
#include <utility>

#include "pqkv/cache/row_checks.hpp"
#include "pqkv/cache/token_sequence.hpp"

namespace pqkv::inline PQKV_ABI {

template <KeyPolicy K, ValuePolicy V>
class HeadCache {
 public:
  /// Expects keys.dim() == values.dim().
  HeadCache(K keys, V values, const CacheOptions& options = {})
      : keys_(std::move(keys)),
        values_(std::move(values)),
        options_(options),
        sequence_(keys_.dim(), {keys_.block_bytes(), values_.block_bytes()}, options) {
    PQKV_EXPECTS(keys_.dim() == values_.dim());
    PQKV_EXPECTS(keys_.run_tokens() >= 1);
  }

  [[nodiscard]] std::size_t dim() const noexcept { return keys_.dim(); }
  [[nodiscard]] std::size_t tokens() const noexcept { return sequence_.tokens(); }
  [[nodiscard]] const K& keys() const noexcept { return keys_; }
  [[nodiscard]] const V& values() const noexcept { return values_; }
  [[nodiscard]] const CacheOptions& options() const noexcept { return options_; }

  // ---- growing -------------------------------------------------------------------------------------------------

  /// Room for `tokens` tokens in all, so that no append up to there allocates. (fork, erase, shift and a truncate that
  /// cuts a sealed block cost blocks or runs: reserve again after them.) Errors: out_of_memory, cache_full.
  [[nodiscard]] Status reserve(std::size_t tokens) {
    if (tokens > options_.max_tokens) {
      return Error{Errc::cache_full,
                   message("cannot reserve ", tokens, " tokens: the cache is limited to ", options_.max_tokens)};
    }
    // What stays exact, and what must therefore be sealed by then. Every break in the window's positions may end a block
    // and a run early.
    const bool only_kept = sequence_.sealed.tokens() + recent().tokens() == 0;
    const std::size_t exact = (only_kept ? std::max(options_.sinks, kept().tokens()) : kept().tokens()) + options_.recent;
    const std::size_t sealed = sequence_.sealed.tokens();
    const std::size_t breaks = count_breaks();
    const std::size_t more = (tokens > exact + sealed ? (tokens - exact - sealed) / seal_tokens() : 0) + breaks;
    const std::size_t new_runs = keys_.run_tokens() != unlimited_tokens ? more : std::min(more, 1 + breaks);
    const bool floats = (options_.window == ScalarType::f32 && breaks == 0) || scratch_.grow(block_tokens * dim());
    if (!floats || !sequence_.kept.reserve() || !sequence_.recent.reserve()) {
      return Error{Errc::out_of_memory, message("no memory for the exact rows of ", tokens, " tokens of ", dim(), " elements")};
    }
    if (!sequence_.sealed.reserve(more, new_runs)) {
      const bool full = sequence_.sealed.store().has_source();
      return Error{full ? Errc::cache_full : Errc::out_of_memory,
                   message(full ? "the page source has no room for " : "no memory for ", tokens, " tokens of ", dim(),
                           " elements in ", keys_.describe(), " / ", values_.describe())};
    }
    return {};
  }

  /// Checks that the rows could be appended: shapes, finite elements, the token limit; and reserves the room.
  [[nodiscard]] Status prepare_append(Rows keys, Rows values) {
    if (Status status = check_rows(keys, values, dim()); !status) return status;
    if (tokens() > options_.max_tokens || keys.count > options_.max_tokens - tokens()) {
      return Error{Errc::cache_full, message("the cache holds ", tokens(), " of at most ", options_.max_tokens,
                                             " tokens; ", keys.count, " more do not fit")};
    }
    return reserve(tokens() + keys.count);
  }

  /// Appends after a prepare_append of the same rows: cannot fail, allocates nothing. `saliency` of each token: the attention that
  /// it has got already (extend knows); empty: none.
  void append_prepared(Rows keys, Rows values, std::span<const float> saliency = {}) noexcept {
    std::size_t done = 0;
    while (done < keys.count) {
      const bool to_kept = sequence_.sealed.tokens() + recent().tokens() == 0 && kept().tokens() < options_.sinks;
      ExactWindow& window = to_kept ? sequence_.kept : sequence_.recent;
      const std::size_t room = to_kept ? options_.sinks - kept().tokens() : window.room();
      const std::size_t count = std::min(room, keys.count - done);
      window.push(keys.slice(done, count), values.slice(done, count), sequence_.next_position,
                  saliency.empty() ? saliency : saliency.subspan(done, count));
      sequence_.next_position += static_cast<std::int64_t>(count);
      done += count;
      while (recent().tokens() >= options_.recent + seal_tokens()) seal();
    }
  }

  /// Appends tokens [count × dim] of any scalar type at the next positions. All or nothing. Errors: invalid_shape,
  /// invalid_data, cache_full, out_of_memory.
  [[nodiscard]] Status append(Rows keys, Rows values) {
    if (Status status = prepare_append(keys, values); !status) return status;
    append_prepared(keys, values);
    return {};
  }

  /// One decision of Dynamic Memory Compression (Nawrot et al., 2024): the token either gets a slot of its own, which
  /// starts with `weight`, or is merged into the newest one, whose rows become the mean of all that were merged, weighted.
  /// A slot stays open as long as it is exact. Keys of merged tokens must be turned alike: by the slot's position.
  /// Errors: those of append; invalid_parameter for a weight that is not positive, or when the newest slot is sealed
  /// (CacheOptions::recent ≥ 1 keeps it open).
  [[nodiscard]] Status append_or_merge(Rows key, Rows value, float weight, bool merge) {
    if (key.count != 1 || !(weight > 0) || !std::isfinite(weight)) {
      return Error{Errc::invalid_parameter, message(key.count, " tokens of weight ", weight, "; one, of a positive weight")};
    }
    if (!merge || tokens() == 0) {
      if (Status status = append(key, value); !status) return status;
      if (ExactWindow* window = open_window()) window->weigh(window->tokens() - 1, weight);
      return {};
    }
    ExactWindow* window = open_window();
    if (window == nullptr) {
      return Error{Errc::invalid_parameter, "the newest slot is sealed; CacheOptions::recent ≥ 1 keeps it open"};
    }
    if (Status status = check_rows(key, value, dim()); !status) return status;
    if (!scratch_.grow(std::max(4 * dim(), options_.window == ScalarType::f32 ? 0 : block_tokens * dim()))) {
      return Error{Errc::out_of_memory, message("no memory for rows of ", dim(), " elements")};
    }
    const std::size_t newest = window->tokens() - 1;
    to_floats(key, 0, scratch_.data());
    to_floats(value, 0, scratch_.data() + dim());
    if (const std::int64_t shift = window->shift_of(newest); shift != 0) {
      options_.rope->turn(-static_cast<double>(shift), scratch_.data());
    }
    window->merge(newest, scratch_.data(), scratch_.data() + dim(), weight, scratch_.data() + 2 * dim());
    return {};
  }

  // ---- saliency (value formats that are SaliencyAware; attend/collect.hpp) -------------------------------------

  [[nodiscard]] bool wants_saliency() const noexcept { return pqkv::wants_saliency(values_); }
  /// Token `index` of the recent window got that much attention.
  void add_saliency(std::size_t index, float weight) noexcept { sequence_.recent.add_saliency(index, weight); }
  /// How many of the recent window's oldest tokens will be the next block, once it holds `recent` more.
  [[nodiscard]] std::size_t seal_tokens() const noexcept { return std::min(block_tokens, keys_.run_tokens()); }

  // ---- positions -----------------------------------------------------------------------------------------------

  /// The position of the token that is appended next; one behind the newest unless an edit or a caller said otherwise.
  [[nodiscard]] std::int64_t next_position() const noexcept { return sequence_.next_position; }
  void set_next_position(std::int64_t position) noexcept { sequence_.next_position = position; }

  // ---- sharing and shrinking -----------------------------------------------------------------------------------

  /// A sequence with the same tokens. Sealed blocks are shared, not copied, and never change; exact rows are copied. The
  /// two then live on their own, on different threads if wanted; many threads may fork one sequence that nobody is
  /// changing. Errors: out_of_memory.
  [[nodiscard]] Result<HeadCache> fork() const {
    HeadCache copy(keys_, values_, options_);
    if (!sequence_.fork_into(copy.sequence_)) {
      return Error{Errc::out_of_memory, message("no memory to fork ", tokens(), " tokens")};
    }
    return copy;
  }

  /// Keeps the first `tokens` tokens. Exact inside the recent window, where nothing was encoded yet; beyond it the
  /// tokens that stay are the compressed ones, and the window starts empty. What is appended next takes the position of
  /// the first token that was dropped. Expects tokens ≤ tokens().
  void truncate(std::size_t tokens) noexcept { sequence_.truncate(tokens); }
  void keep_first(std::size_t tokens) noexcept { truncate(tokens); }
  void clear() noexcept {
    truncate(0);
    sequence_.next_position = 0;
  }

  /// Drops any tokens: sorted, disjoint ranges of token indices. No code is touched, so blocks are given up when their
  /// last token goes (compact.hpp gathers what is left in others). All or nothing. Errors: invalid_parameter (also for
  /// Gap::close without CacheOptions::rope), out_of_memory, cache_full.
  [[nodiscard]] Status erase(std::span<const TokenRange> ranges, Gap gap = Gap::keep) {
    if (Status status = prepare_erase(ranges, gap); !status) return status;
    erase_prepared(ranges, gap);
    return {};
  }
  [[nodiscard]] Status erase(TokenRange range, Gap gap = Gap::keep) { return erase(std::span(&range, 1), gap); }
  /// Drops all but the newest `tokens` tokens. Expects tokens ≤ tokens(). Errors: as erase.
  [[nodiscard]] Status keep_last(std::size_t tokens, Gap gap = Gap::keep) {
    PQKV_EXPECTS(tokens <= this->tokens());
    return erase({0, this->tokens() - tokens}, gap);
  }
  [[nodiscard]] Status prepare_erase(std::span<const TokenRange> ranges, Gap gap) {
    return sequence_.prepare_erase(ranges, gap, options_);
  }
  void erase_prepared(std::span<const TokenRange> ranges, Gap gap) noexcept { sequence_.erase(ranges, gap); }

  /// Moves tokens by `delta` positions; where they reach the newest one, what is appended next follows. Rows and codes
  /// stay as they are: attention turns the query instead, once per stretch of tokens that were moved alike, and by the
  /// sum of all moves. Errors: invalid_parameter (no CacheOptions::rope, no such tokens), out_of_memory, cache_full.
  [[nodiscard]] Status shift(TokenRange range, std::int64_t delta) {
    if (Status status = prepare_shift(range); !status) return status;
    shift_prepared(range, delta);
    return {};
  }
  [[nodiscard]] Status prepare_shift(TokenRange range) { return sequence_.prepare_shift(range, options_); }
  void shift_prepared(TokenRange range, std::int64_t delta) noexcept { sequence_.shift(range, delta); }

  /// Rows that are kept exact for ever, with positions of their own, take the place of a range of tokens (the memory
  /// tokens of Lossless Compressed Memory Attention, Wang et al., 2024). They stand behind the kept tokens in the order
  /// of indices; attention does not depend on that order. All or nothing. Errors: those of append and erase.
  [[nodiscard]] Status replace(TokenRange range, Rows keys, Rows values, std::span<const std::int64_t> positions) {
    if (Status status = check_rows(keys, values, dim()); !status) return status;
    if (positions.size() != keys.count) {
      return Error{Errc::invalid_shape, message(positions.size(), " positions for ", keys.count, " rows")};
    }
    if (Status status = prepare_erase(std::span(&range, 1), Gap::keep); !status) return status;
    if (keys.count > range.count && keys.count - range.count > options_.max_tokens - tokens()) {
      return Error{Errc::cache_full, message(keys.count, " rows for ", range.count, " tokens do not fit: the cache holds ",
                                             tokens(), " of at most ", options_.max_tokens)};
    }
    if (!sequence_.kept.widen(kept().tokens() + keys.count)) {
      return Error{Errc::out_of_memory, message("no memory for ", keys.count, " exact rows")};
    }
    sequence_.replace(range, keys, values, positions);
    return {};
  }

  // ---- memory --------------------------------------------------------------------------------------------------

  /// Every byte that this sequence keeps alive for tokens: pages, windows, their scratch and the runs. Codebooks are
  /// shared and not counted. Pages that forks share count in full in each of them: add own_bytes() of the others.
  [[nodiscard]] std::size_t bytes() const noexcept { return sequence_.sealed.bytes() + exact_bytes(); }
  /// The part of bytes() that no other sequence holds: what would be freed with this one.
  [[nodiscard]] std::size_t own_bytes() const noexcept { return sequence_.sealed.bytes(false) + exact_bytes(); }
  /// What one compressed token costs, codes and scales.
  [[nodiscard]] double bytes_per_token() const noexcept {
    return static_cast<double>(keys_.block_bytes() + values_.block_bytes()) / static_cast<double>(block_tokens);
  }
  /// Gives reserved pages that hold no token back to where they came from.
  void trim() noexcept { sequence_.sealed.trim(); }

  // ---- for readers (attend/, save, tests) ----------------------------------------------------------------------
  /// The first tokens, and rows that replace() put in.
  [[nodiscard]] const ExactWindow& sinks() const noexcept { return kept(); }
  [[nodiscard]] const ExactWindow& recent() const noexcept { return sequence_.recent; }
  [[nodiscard]] const GrowingArray<Run>& runs() const noexcept { return sequence_.sealed.runs(); }
  [[nodiscard]] const BlockStore& store() const noexcept { return sequence_.sealed.store(); }
  [[nodiscard]] std::size_t sealed_tokens() const noexcept { return sequence_.sealed.tokens(); }
  [[nodiscard]] const TokenSequence& sequence() const noexcept { return sequence_; }
  /// Loading fills a new sequence through this.
  [[nodiscard]] TokenSequence& sequence() noexcept { return sequence_; }
  /// Where token `index` stands now. Expects index < tokens().
  [[nodiscard]] std::int64_t position(std::size_t index) const noexcept { return sequence_.position(index); }
  /// What the cache believes that token `index` is, at its present position: dim() floats each.
  void decode(std::size_t index, float* key, float* value) const noexcept {
    PQKV_EXPECTS(index < tokens());
    const std::size_t behind_kept = index - kept().tokens();
    if (index < kept().tokens() || behind_kept >= sealed_tokens()) {
      const ExactWindow& window = index < kept().tokens() ? kept() : recent();
      const std::size_t at = index < kept().tokens() ? index : behind_kept - sealed_tokens();
      window.key(at, options_.rope.get(), key);
      window.value(at, value);
      return;
    }
    const auto [run, slot] = sequence_.sealed.find(behind_kept);
    const BlockStretch stretch = store().stretch(run->first_block + slot / block_tokens);
    keys_.decode(stretch.keys, slot % block_tokens, sequence_.sealed.place_of(*run, slot), key);
    values_.decode(stretch.values, slot % block_tokens, value);
    if (run->shift != 0) options_.rope->turn(static_cast<double>(run->shift), key);
  }
  /// Where the next `count` sealed tokens will belong.
  [[nodiscard]] RunPlace next_place(std::size_t count) const noexcept {
    const std::int64_t position = recent().tokens() != 0 ? recent().position(0) : sequence_.next_position;
    return sequence_.sealed.place(position, count, keys_.run_tokens());
  }

 private:
  [[nodiscard]] const ExactWindow& kept() const noexcept { return sequence_.kept; }

  /// The window whose last token is the newest of all; nullptr when that one is sealed.
  [[nodiscard]] ExactWindow* open_window() noexcept {
    if (recent().tokens() != 0) return &sequence_.recent;
    return sequence_.sealed.tokens() == 0 ? &sequence_.kept : nullptr;
  }

  [[nodiscard]] std::size_t exact_bytes() const noexcept {
    return kept().bytes() + recent().bytes() + scratch_.size() * sizeof(float);
  }

  /// Places in the recent window, its end included, where positions do not go on by one; moved tokens count as one more.
  [[nodiscard]] std::size_t count_breaks() const noexcept {
    const ExactWindow& window = recent();
    if (window.tokens() == 0) return 0;
    std::size_t breaks = window.position(window.tokens() - 1) + 1 != sequence_.next_position ? 1 : 0;
    if (window.consecutive()) return breaks;
    for (std::size_t i = 1; i < window.tokens(); ++i) breaks += window.position(i - 1) + 1 != window.position(i) ? 1 : 0;
    return breaks + 1;
  }

  /// Encodes the oldest rows of the recent window as one block of the last run, or of a new one: as many as stand within
  /// one block's positions. A row's slot is its position, so slots between them may stay empty.
  void seal() noexcept {
    const ExactWindow& window = recent();
    const std::int64_t first = window.position(0);
    std::size_t rows = seal_tokens();
    std::size_t slots = rows;
    std::uint32_t filled = ~0u;
    if (!window.consecutive()) {
      rows = 1;
      slots = 1;
      filled = 1;
      for (; rows < window.tokens(); ++rows) {
        const std::int64_t slot = window.position(rows) - first;
        if (slot < static_cast<std::int64_t>(slots) || slot >= static_cast<std::int64_t>(seal_tokens())) break;
        slots = static_cast<std::size_t>(slot) + 1;
        filled |= 1u << slot;
      }
    }
    const std::uint32_t dead = ~filled & (~0u >> (block_tokens - slots));
    const SealedTokens::NewBlock block = sequence_.sealed.open_block(first, slots, dead, keys_.run_tokens());
    const Rope* rope = options_.rope.get();
    keys_.encode(window.in_slots(slots, filled, true, rope, scratch_.data()), block.place, block.keys);
    float saliency[block_tokens];
    window.saliency_in_slots(slots, filled, saliency);
    encode_values(values_, window.in_slots(slots, filled, false, rope, scratch_.data()), saliency, block.values);
    sequence_.recent.drop_oldest(rows);
  }

  K keys_;
  V values_;
  CacheOptions options_;
  TokenSequence sequence_;
  Buffer<float> scratch_;  // rows on their way into a block
};

}  // namespace pqkv::inline PQKV_ABI
