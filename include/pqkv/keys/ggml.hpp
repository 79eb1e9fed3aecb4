// GgmlKeys<bits>: keys in ggml's types q8_0 and q4_0. Layer 3b.
// A block is 32 rows one behind the other, each exactly as ggml stores it (codec/ggml_rows.hpp draws them), so that an engine
// whose cache is of that type hands rows over by copying them. 8.5 and 4.5 bits per element all told. Some rows at a time
// become floats, once for all queries of the group, and are scored like exact ones.
#pragma once

#include "pqkv/codec/ggml_rows.hpp"
#include "pqkv/codec/rows_buffer.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

template <std::size_t bits>
class GgmlKeys {
 public:
  static constexpr std::string_view name = GgmlRows<bits>::name;

  /// The queries themselves, [query][dim].
  struct QueryTable {
    RowsBuffer queries;
  };

  /// Errors: invalid_shape unless dim is a multiple of 32, at most 1024.
  [[nodiscard]] static Result<GgmlKeys> make(std::size_t dim) {
    const auto rows = GgmlRows<bits>::make(dim);
    if (!rows) return rows.error();
    return GgmlKeys(*rows);
  }

  [[nodiscard]] std::size_t dim() const noexcept { return rows_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return rows_.block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return 0; }
  [[nodiscard]] std::size_t run_tokens() const noexcept { return unlimited_tokens; }
  [[nodiscard]] std::string describe() const { return std::string(name); }

  /// Missing rows are zeros.
  void encode(FloatRows rows, RunPlace /*place*/, std::byte* block) const noexcept { rows_.encode(rows, block); }
  void decode(const std::byte* block, std::size_t index, RunPlace /*place*/, float* row) const noexcept {
    rows_.decode(block, index, row);
  }

  [[nodiscard]] bool rows_move() const noexcept { return true; }
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept {
    rows_.copy_row(from, index, to, to_index);
  }

  void prepare(QueryTable& table, FloatRows queries) const { table.queries.assign(queries); }
  void turn(QueryTable& /*table*/, std::int64_t /*origin*/) const noexcept {}
  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    const std::size_t tokens = span.blocks() * block_tokens;
    float tile[GgmlRows<bits>::tile_floats];
    for (std::size_t t = 0; t < tokens; t += rows_.tile_rows()) {
      const std::size_t count = std::min(rows_.tile_rows(), tokens - t);
      span.ask_ahead(t * rows_.row_bytes(), count * rows_.row_bytes());
      rows_.unpack(span.data + t * rows_.row_bytes(), count, tile);
      isa::best().dot_f32(tile, count, dim(), table.queries.data(), table.queries.count(), scores + t, stride);
    }
  }

 private:
  explicit GgmlKeys(GgmlRows<bits> rows) noexcept : rows_(rows) {}
  GgmlRows<bits> rows_;
};

using Q8Keys = GgmlKeys<8>;
using Q4Keys = GgmlKeys<4>;

static_assert(KeyPolicy<Q8Keys> && KeyPolicy<Q4Keys>);
static_assert(RowMovable<Q8Keys> && RowMovable<Q4Keys>);

}  // namespace pqkv::inline PQKV_ABI
