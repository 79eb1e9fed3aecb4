// GainedKeys<K>: any key format for the shapes of keys, their lengths apart (codec/gain.hpp has the reason). Layer 3b.
//
//   block: | that of K, of keys at unit length | gain of each token [32 bytes] |
//
// 8 bits per token. Scores are K's times the gain: one multiply per token and query.
// Goes inside a space (keys/spaced.hpp), never around one: lengths are those of the coordinates that K codes.
#pragma once

#include <string>
#include <utility>

#include "pqkv/base/result.hpp"
#include "pqkv/codec/gain.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

template <KeyPolicy K>
class GainedKeys {
  static_assert(!requires(const K& keys) { keys.space(); }, "put the space around the gain: SpacedKeys<GainedKeys<K>>");

 public:
  struct QueryTable {
    typename K::QueryTable inner;
    std::size_t queries = 0;
  };

  /// `inner`: for keys at unit length. Errors: invalid_shape beyond dim 1024.
  [[nodiscard]] static Result<GainedKeys> make(K inner) {
    if (inner.dim() > max_gained_dim) {
      return Error{Errc::invalid_shape,
                   message("gains for keys of dim ", inner.dim(), ": at most ", std::size_t{max_gained_dim})};
    }
    return GainedKeys(std::move(inner));
  }

  [[nodiscard]] std::size_t dim() const noexcept { return inner_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return inner_.block_bytes() + block_tokens; }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return inner_.codebook_bytes(); }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept {
    if constexpr (requires { inner_.codebook_id(); }) return inner_.codebook_id();
    return 0;
  }
  [[nodiscard]] std::size_t run_tokens() const noexcept { return inner_.run_tokens(); }
  [[nodiscard]] std::string describe() const { return inner_.describe() + ":gain=1"; }

  /// Lengths below 2⁻¹⁰ become 0, those beyond 64 are shortened to that.
  void encode(FloatRows rows, RunPlace place, std::byte* block) const noexcept {
    encode_with_gains(
        rows, block + inner_.block_bytes(), [&](FloatRows unit) { inner_.encode(unit, place, block); },
        [&](std::size_t t, float* row) { inner_.decode(block, t, place, row); });
  }
  void decode(const std::byte* block, std::size_t index, RunPlace place, float* row) const noexcept {
    inner_.decode(block, index, place, row);
    const float gain = gain_of(block[inner_.block_bytes() + index]);
    for (std::size_t d = 0; d < dim(); ++d) row[d] *= gain;
  }

  [[nodiscard]] bool rows_move() const noexcept
    requires RowMovable<K>
  {
    return inner_.rows_move();
  }
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept
    requires RowMovable<K>
  {
    inner_.copy_row(from, index, to, to_index);
    to[inner_.block_bytes() + to_index] = from[inner_.block_bytes() + index];
  }

  void prepare(QueryTable& table, FloatRows queries) const {
    inner_.prepare(table.inner, queries);
    table.queries = queries.count;
  }
  void turn(QueryTable& table, std::int64_t origin) const noexcept { inner_.turn(table.inner, origin); }

  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    for_each_stretch(span, inner_.block_bytes(),
                     [&](std::size_t first, std::size_t blocks, const std::byte* codes, const float* gains) {
                       const std::size_t tokens = blocks * block_tokens;
                       float* mine = scores + first * block_tokens;
                       inner_.score(table.inner, {codes, tokens, span.offset + first * block_tokens}, mine, stride);
                       for (std::size_t q = 0; q < table.queries; ++q) {
                         for (std::size_t t = 0; t < tokens; ++t) mine[q * stride + t] *= gains[t];
                       }
                     });
  }

 private:
  explicit GainedKeys(K inner) noexcept : inner_(std::move(inner)) {}
  K inner_;
};

}  // namespace pqkv::inline PQKV_ABI
