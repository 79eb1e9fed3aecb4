// SparseKeys<K>: any key format, with the few elements that it renders worst kept apart (codec/sparse_entries.hpp has the
// source). Layer 3b.
//
//   block: | that of K | the entries |
//
// Scores are K's, and each entry adds query·difference to one token's: 20 multiply-adds per query and block at dim 64 and 1 %.
// Goes inside a space (keys/spaced.hpp), never around one: differences are in the coordinates that K codes.
#pragma once

#include <string>
#include <utility>

#include "pqkv/codec/rows_buffer.hpp"
#include "pqkv/codec/sparse_entries.hpp"

namespace pqkv::inline PQKV_ABI {

template <KeyPolicy K>
class SparseKeys {
  static_assert(!requires(const K& keys) { keys.space(); }, "put the space around the outliers: SpacedKeys<SparseKeys<K>>");

 public:
  struct QueryTable {
    typename K::QueryTable inner;
    RowsBuffer queries;
  };

  /// `percent` of the elements are kept apart. Errors: invalid_parameter unless percent is in 1..5; invalid_shape.
  [[nodiscard]] static Result<SparseKeys> make(K inner, std::size_t percent = 1) {
    const auto entries = SparseEntries::make(inner.dim(), percent);
    if (!entries) return entries.error();
    return SparseKeys(std::move(inner), *entries);
  }

  [[nodiscard]] std::size_t dim() const noexcept { return inner_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return inner_.block_bytes() + entries_.bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return inner_.codebook_bytes(); }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept {
    if constexpr (requires { inner_.codebook_id(); }) return inner_.codebook_id();
    return 0;
  }
  [[nodiscard]] std::size_t run_tokens() const noexcept { return inner_.run_tokens(); }
  [[nodiscard]] std::string describe() const { return message(inner_.describe(), ":outliers=", entries_.percent()); }

  void encode(FloatRows rows, RunPlace place, std::byte* block) const noexcept {
    inner_.encode(rows, place, block);
    entries_.encode(rows, [&](std::size_t t, float* row) { inner_.decode(block, t, place, row); }, block + inner_.block_bytes());
  }
  void decode(const std::byte* block, std::size_t index, RunPlace place, float* row) const noexcept {
    inner_.decode(block, index, place, row);
    entries_.complete(block + inner_.block_bytes(), index, row);
  }

  void prepare(QueryTable& table, FloatRows queries) const {
    inner_.prepare(table.inner, queries);
    table.queries.assign(queries);
  }
  void turn(QueryTable& table, std::int64_t origin) const noexcept { inner_.turn(table.inner, origin); }

  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    const std::size_t count = table.queries.count();
    for (std::size_t b = 0; b < span.blocks(); ++b) {
      const std::byte* block = span.data + b * block_bytes();
      float* mine = scores + b * block_tokens;
      inner_.score(table.inner, {block, block_tokens, span.offset + b * block_tokens, nullptr, span.ahead}, mine, stride);
      span.ask_ahead(b * block_bytes() + inner_.block_bytes(), block_bytes() - inner_.block_bytes());
      entries_.for_each(block + inner_.block_bytes(), [&](std::size_t channel, std::size_t token, float difference) {
        for (std::size_t q = 0; q < count; ++q) mine[q * stride + token] += table.queries.row(q)[channel] * difference;
      });
    }
  }

 private:
  SparseKeys(K inner, SparseEntries entries) noexcept : inner_(std::move(inner)), entries_(entries) {}
  K inner_;
  SparseEntries entries_;
};

}  // namespace pqkv::inline PQKV_ABI
