// What benchmarks read, in turns: spans of blocks of one format, and whole heads. As many as fill the working set of
// their placement; a warm one is a single span or head.
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "support/data.hpp"
#include "support/placement.hpp"

namespace pqkv::bench {

/// The longest span or head.
inline constexpr std::size_t long_context = 65536;

/// Tokens of one span or head: whole blocks, in the working set.
[[nodiscard]] inline std::size_t context(Placement placement, double bytes_per_token) {
  const auto fitting = static_cast<std::size_t>(static_cast<double>(working_set(placement)) / bytes_per_token);
  return std::clamp(fitting / block_tokens * block_tokens, block_tokens, long_context);
}

/// Equal pieces of memory that are handed out in turns.
class RotatingBytes {
 public:
  /// Pieces of `piece_bytes`, filled with copies of `pattern`.
  RotatingBytes(Placement placement, std::size_t piece_bytes, const std::vector<std::byte>& pattern)
      : piece_bytes_(piece_bytes),
        pieces_(placement == Placement::warm ? 1 : working_set(placement) / piece_bytes + 1) {
    const std::size_t size = pieces_ * piece_bytes_;
    if (!bytes_.grow(size)) fail({Errc::out_of_memory, message("no memory for ", size, " bytes")});
    for (std::size_t at = 0; at < size; at += pattern.size()) {
      std::memcpy(bytes_.data() + at, pattern.data(), std::min(pattern.size(), size - at));
    }
  }

  [[nodiscard]] std::size_t piece_bytes() const noexcept { return piece_bytes_; }
  [[nodiscard]] const std::byte* next() noexcept {
    turn_ = turn_ + 1 < pieces_ ? turn_ + 1 : 0;
    return bytes_.data() + turn_ * piece_bytes_;
  }

 private:
  std::size_t piece_bytes_;
  std::size_t pieces_;
  std::size_t turn_ = 0;
  Buffer<std::byte> bytes_;
};

/// Spans of encoded blocks. `encode(rows, block)` fills one block; a few different ones are repeated.
template <class Encode>
[[nodiscard]] RotatingBytes rotating_blocks(Placement placement, std::size_t dim, std::size_t block_bytes,
                                            const Encode& encode) {
  constexpr std::size_t different = 64;
  const std::vector<float> rows = random_floats(different * block_tokens * dim, 1);
  std::vector<std::byte> pattern(different * block_bytes);
  for (std::size_t block = 0; block < different; ++block) {
    encode(FloatRows(rows.data() + block * block_tokens * dim, block_tokens, dim),
           pattern.data() + block * block_bytes);
  }
  const std::size_t tokens = context(placement, static_cast<double>(block_bytes) / block_tokens);
  return {placement, tokens / block_tokens * block_bytes, pattern};
}

/// Heads of one spec, filled through append.
class RotatingHeads {
 public:
  using Head = HeadCache<AnyKeys, AnyValues>;

  /// At least `least` heads of a cold rotation.
  RotatingHeads(Placement placement, std::string_view spec_text, std::size_t dim, std::size_t least = 2) {
    const CacheSpec spec = must(parse_cache_spec(spec_text));
    const AnyKeys key_format = keys(spec.keys, dim);
    const AnyValues value_format = values(spec.values, dim);
    const double bytes_per_token = Head(key_format, value_format).bytes_per_token();
    const std::size_t tokens = context(placement, bytes_per_token);
    const double head_bytes = static_cast<double>(tokens) * bytes_per_token;
    const auto filling = static_cast<std::size_t>(static_cast<double>(working_set(placement)) / head_bytes) + 1;
    const std::size_t count = placement == Placement::warm ? 1 : std::max(filling, least);

    constexpr std::size_t chunk = 8192;
    const std::vector<float> rows = random_floats(2 * std::min(chunk, tokens) * dim, 1);
    for (std::size_t i = 0; i < count; ++i) {
      Head& head = heads_.emplace_back(key_format, value_format, spec.options);
      must(head.reserve(tokens));
      while (head.tokens() < tokens) {
        const std::size_t more = std::min(chunk, tokens - head.tokens());
        must(head.append(Rows(rows.data(), more, dim), Rows(rows.data() + rows.size() / 2, more, dim)));
      }
    }
  }

  [[nodiscard]] const Head& next() noexcept {
    turn_ = turn_ + 1 < heads_.size() ? turn_ + 1 : 0;
    return heads_[turn_];
  }

 private:
  std::vector<Head> heads_;
  std::size_t turn_ = 0;
};

/// The T that `make` returns, kept until another key is asked for: Google Benchmark calls a benchmark several times,
/// and groups of different sizes read the same memory. There is one per type, so keys name their subject.
template <class T>
class Kept {
 public:
  template <class Make>
  [[nodiscard]] static T& get(const std::string& key, const Make& make) {
    if (key_ != key) {
      held_.reset();  // before the next one is made: both may not fit
      held_.emplace(make());
      key_ = key;
    }
    return *held_;
  }

 private:
  static inline std::string key_;
  static inline std::optional<T> held_;
};

}  // namespace pqkv::bench
