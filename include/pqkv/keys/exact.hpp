// ExactKeys: keys as they are, in f32, f16 or bf16. Layer 3b. The reference that every other format is compared with.
// A block is 32 rows, row-major: | t0: dim elements | t1 | … | t31 |, so that a scan reads memory in order.
#pragma once

#include <cstring>

#include "pqkv/codec/exact_rows.hpp"
#include "pqkv/codec/rows_buffer.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

class ExactKeys {
 public:
  static constexpr std::string_view name = "exact";

  /// The queries themselves, [query][dim].
  struct QueryTable {
    RowsBuffer queries;
  };

  explicit ExactKeys(std::size_t dim, ScalarType type = ScalarType::f32) noexcept : rows_{dim, type} {}

  [[nodiscard]] std::size_t dim() const noexcept { return rows_.dim; }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return block_tokens * rows_.row_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return 0; }
  [[nodiscard]] std::size_t run_tokens() const noexcept { return unlimited_tokens; }
  [[nodiscard]] std::string describe() const { return "exact:" + std::string(name_of(rows_.type)); }

  void encode(FloatRows rows, RunPlace /*place*/, std::byte* block) const noexcept {
    PQKV_EXPECTS(rows.dim == dim() && rows.count >= 1 && rows.count <= block_tokens);
    for (std::size_t t = 0; t < rows.count; ++t) rows_.store(rows.row(t), dim(), block + t * rows_.row_bytes());
    std::memset(block + rows.count * rows_.row_bytes(), 0, (block_tokens - rows.count) * rows_.row_bytes());
  }
  void decode(const std::byte* block, std::size_t index, RunPlace /*place*/, float* row) const noexcept {
    rows_.load(block + index * rows_.row_bytes(), dim(), row);
  }

  [[nodiscard]] bool rows_move() const noexcept { return true; }
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept {
    rows_.copy_row(from, index, to, to_index);
  }

  void prepare(QueryTable& table, FloatRows queries) const {
    table.queries.shape(queries.count, dim());
    for (std::size_t q = 0; q < queries.count; ++q) {
      std::memcpy(table.queries.row(q), queries.row(q), dim() * sizeof(float));
    }
  }
  void turn(QueryTable& /*table*/, std::int64_t /*origin*/) const noexcept {}
  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    rows_.dot(span.data, span.blocks() * block_tokens, table.queries.data(), table.queries.count(), scores, stride);
  }

 private:
  ExactRows rows_;
};

static_assert(KeyPolicy<ExactKeys> && RowMovable<ExactKeys>);

}  // namespace pqkv::inline PQKV_ABI
