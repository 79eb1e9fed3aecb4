// HeadCache: the compressed keys and values of one kv head of one layer. Layer 4.
//
//   token 0 ─────────────────────────────────────────────────────────────► newest
//   | sinks, exact | runs of sealed blocks, compressed | recent, exact |
//
// Append is staged: rows enter the recent window, and each time it holds `recent` + 32 tokens its oldest 32 are encoded
// as one full block. So encoding never sees part of a block, and one-token appends end in the same bytes as one big one.
// The window therefore holds between `recent` and `recent` + 31 tokens once the sequence is long enough.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "pqkv/base/result.hpp"
#include "pqkv/cache/block_store.hpp"
#include "pqkv/cache/window.hpp"
#include "pqkv/codec/rows_buffer.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// What a cache keeps exact, and how much it may hold.
struct CacheOptions {
  std::size_t sinks = 0;                      ///< first tokens, kept exact for ever
  std::size_t recent = 0;                     ///< newest tokens, kept exact; 0 is allowed
  ScalarType window = ScalarType::f32;        ///< how exact tokens are stored
  std::size_t max_tokens = unlimited_tokens;  ///< append beyond it is Errc::cache_full
};

/// Consecutive tokens that share a position origin; starts on a block of its own. Only its last block may be partly
/// valid (after truncate).
struct Run {
  std::size_t first_block;
  std::size_t tokens;
  std::int64_t origin;
};

template <KeyPolicy K, ValuePolicy V>
class HeadCache {
 public:
  /// Expects keys.dim() == values.dim().
  HeadCache(K keys, V values, const CacheOptions& options = {})
      : keys_(std::move(keys)),
        values_(std::move(values)),
        options_(options),
        store_(keys_.block_bytes(), values_.block_bytes()),
        sinks_(keys_.dim(), options.window, options.sinks),
        recent_(keys_.dim(), options.window, options.recent + block_tokens) {
    PQKV_EXPECTS(keys_.dim() == values_.dim());
    PQKV_EXPECTS(keys_.run_tokens() >= 1);
  }

  [[nodiscard]] std::size_t dim() const noexcept { return keys_.dim(); }
  [[nodiscard]] std::size_t tokens() const noexcept { return sinks_.tokens() + sealed_ + recent_.tokens(); }
  [[nodiscard]] const K& keys() const noexcept { return keys_; }
  [[nodiscard]] const V& values() const noexcept { return values_; }
  [[nodiscard]] const CacheOptions& options() const noexcept { return options_; }

  /// Room for `tokens` tokens in all, so that no append up to there allocates. (A truncate that cuts a sealed block costs
  /// a block and a run: reserve again after it.) Errors: out_of_memory, cache_full.
  [[nodiscard]] Status reserve(std::size_t tokens) {
    if (tokens > options_.max_tokens) {
      return Error{Errc::cache_full,
                   message("cannot reserve ", tokens, " tokens: the cache is limited to ", options_.max_tokens)};
    }
    const std::size_t waiting = options_.sinks + options_.recent;
    const std::size_t to_seal = tokens > waiting ? tokens - waiting : 0;
    // A truncated run ends in a partly valid block, so tokens already sealed may fill more blocks than they need.
    const std::size_t more = to_seal > sealed_ ? (to_seal - sealed_) / seal_tokens() : 0;
    runs_.reserve(runs_.size() + (keys_.run_tokens() != unlimited_tokens ? more : last_run_is_open() ? 0 : 1));
    const bool floats = options_.window == ScalarType::f32 || scratch_.grow(2 * block_tokens * dim());
    if (!floats || !sinks_.reserve() || !recent_.reserve() || !store_.reserve(store_.blocks() + more)) {
      return Error{Errc::out_of_memory, message("no memory for ", tokens, " tokens of ", dim(), " elements in ",
                                                keys_.describe(), " / ", values_.describe())};
    }
    return {};
  }

  /// Checks that the rows could be appended: shapes, finite elements, the token limit; and reserves the room.
  [[nodiscard]] Status prepare_append(Rows keys, Rows values) {
    if (keys.count != values.count) {
      return Error{Errc::invalid_shape, message(keys.count, " keys but ", values.count, " values")};
    }
    if (keys.dim != dim() || values.dim != dim()) {
      return Error{Errc::invalid_shape, message("rows of ", keys.dim, " (keys) and ", values.dim,
                                                " (values) elements for a cache of dim ", dim())};
    }
    if (Status status = check_finite(keys, "key"); !status) return status;
    if (Status status = check_finite(values, "value"); !status) return status;
    if (keys.count > options_.max_tokens - tokens()) {
      return Error{Errc::cache_full, message("the cache holds ", tokens(), " of at most ", options_.max_tokens,
                                             " tokens; ", keys.count, " more do not fit")};
    }
    return reserve(tokens() + keys.count);
  }

  /// Appends after a prepare_append of the same rows: cannot fail, allocates nothing.
  void append_prepared(Rows keys, Rows values) noexcept {
    std::size_t done = 0;
    while (done < keys.count) {
      const bool to_sinks = sealed_ + recent_.tokens() == 0 && sinks_.room() > 0;
      ExactWindow& window = to_sinks ? sinks_ : recent_;
      const std::size_t count = std::min(window.room(), keys.count - done);
      window.push(keys.slice(done, count), values.slice(done, count));
      done += count;
      while (recent_.tokens() >= options_.recent + seal_tokens()) seal();
    }
  }

  /// Appends tokens [count × dim] of any scalar type. All or nothing. Errors: invalid_shape, invalid_data, cache_full,
  /// out_of_memory.
  [[nodiscard]] Status append(Rows keys, Rows values) {
    if (Status status = prepare_append(keys, values); !status) return status;
    append_prepared(keys, values);
    return {};
  }

  /// Keeps the first `tokens` tokens. Exact inside the recent window, where nothing was encoded yet; beyond it the
  /// tokens that stay are the compressed ones, and the window starts empty. Expects tokens ≤ tokens().
  void truncate(std::size_t tokens) noexcept {
    PQKV_EXPECTS(tokens <= this->tokens());
    const std::size_t kept_sinks = std::min(tokens, sinks_.tokens());
    const std::size_t kept_sealed = std::min(tokens - kept_sinks, sealed_);
    recent_.truncate(tokens - kept_sinks - kept_sealed);
    sinks_.truncate(kept_sinks);
    while (sealed_ > kept_sealed) {
      Run& run = runs_.back();
      const std::size_t drop = std::min(run.tokens, sealed_ - kept_sealed);
      run.tokens -= drop;
      sealed_ -= drop;
      store_.truncate(run.first_block + (run.tokens + block_tokens - 1) / block_tokens);
      if (run.tokens == 0) runs_.pop_back();
    }
  }

  void clear() noexcept { truncate(0); }

  /// Every byte allocated for tokens: pages, windows, their scratch and the runs. Codebooks are shared and not counted.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return store_.bytes() + sinks_.bytes() + recent_.bytes() + scratch_.size() * sizeof(float) +
           runs_.capacity() * sizeof(Run);
  }
  /// What one compressed token costs, codes and scales.
  [[nodiscard]] double bytes_per_token() const noexcept {
    return static_cast<double>(keys_.block_bytes() + values_.block_bytes()) / static_cast<double>(block_tokens);
  }

  // ---- for readers (attend/, save, tests) ----------------------------------------------------------------------
  [[nodiscard]] const ExactWindow& sinks() const noexcept { return sinks_; }
  [[nodiscard]] const ExactWindow& recent() const noexcept { return recent_; }
  [[nodiscard]] const std::vector<Run>& runs() const noexcept { return runs_; }
  [[nodiscard]] const BlockStore& store() const noexcept { return store_; }
  [[nodiscard]] std::size_t sealed_tokens() const noexcept { return sealed_; }
  /// Where the next `count` sealed tokens will belong.
  [[nodiscard]] RunPlace next_place(std::size_t count) const noexcept {
    if (continues_run(count)) return {runs_.back().origin, runs_.back().tokens};
    return {static_cast<std::int64_t>(sinks_.tokens() + sealed_), 0};
  }

 private:
  [[nodiscard]] std::size_t seal_tokens() const noexcept { return std::min(block_tokens, keys_.run_tokens()); }

  /// Whether the last run ends in a full block, so that another can follow in it.
  [[nodiscard]] bool last_run_is_open() const noexcept {
    return !runs_.empty() && runs_.back().tokens % block_tokens == 0;
  }

  [[nodiscard]] bool continues_run(std::size_t count) const noexcept {
    return last_run_is_open() && keys_.run_tokens() - runs_.back().tokens >= count;
  }

  [[nodiscard]] Status check_finite(Rows rows, const char* what) const {
    // x − x is 0 for finite x only; by bits, because callers may compile with -ffast-math.
    for (std::size_t i = 0; i < rows.count; ++i) {
      const std::byte* row = rows.row(i);
      for (std::size_t d = 0; d < rows.dim; ++d) {
        bool finite = true;
        if (rows.type == ScalarType::f32) {
          std::uint32_t bits = 0;
          std::memcpy(&bits, row + d * 4, 4);
          finite = (bits & 0x7f800000u) != 0x7f800000u;
        } else {
          const std::uint16_t exponent = rows.type == ScalarType::f16 ? 0x7c00u : 0x7f80u;
          std::uint16_t bits = 0;
          std::memcpy(&bits, row + d * 2, 2);
          finite = (bits & exponent) != exponent;
        }
        if (!finite) {
          return Error{Errc::invalid_data,
                       message("element ", d, " of ", what, " row ", i, " is not finite; nothing was appended")};
        }
      }
    }
    return {};
  }

  /// Encodes the oldest rows of the recent window as one block of the last run, or of a new one.
  void seal() noexcept {
    const std::size_t count = seal_tokens();
    if (!continues_run(count)) runs_.push_back({store_.blocks(), 0, next_place(count).origin});
    const std::size_t block = store_.take();
    keys_.encode(as_floats(recent_.keys(), count, 0), {runs_.back().origin, runs_.back().tokens}, store_.key_block(block));
    values_.encode(as_floats(recent_.values(), count, block_tokens * dim()), store_.value_block(block));
    runs_.back().tokens += count;
    sealed_ += count;
    recent_.drop_oldest(count);
  }

  [[nodiscard]] FloatRows as_floats(const std::byte* rows, std::size_t count, std::size_t offset) noexcept {
    if (options_.window == ScalarType::f32) return {reinterpret_cast<const float*>(rows), count, dim()};
    recent_.rows().load(rows, count * dim(), scratch_.data() + offset);
    return {scratch_.data() + offset, count, dim()};
  }

  K keys_;
  V values_;
  CacheOptions options_;
  BlockStore store_;
  ExactWindow sinks_;
  ExactWindow recent_;
  std::vector<Run> runs_;
  std::size_t sealed_ = 0;
  Buffer<float> scratch_;
};

}  // namespace pqkv::inline PQKV_ABI
