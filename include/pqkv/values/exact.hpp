// ExactValues: values as they are, in f32, f16 or bf16. Layer 3b.
// A block is 32 rows, row-major: | t0: dim elements | t1 | … | t31 |, so that a scan reads memory in order.
#pragma once

#include <cstring>

#include "pqkv/codec/exact_rows.hpp"
#include "pqkv/codec/rows_buffer.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

class ExactValues {
 public:
  static constexpr std::string_view name = "exact";

  /// [query][dim]
  struct WeightedSum {
    RowsBuffer rows;
  };

  explicit ExactValues(std::size_t dim, ScalarType type = ScalarType::f32) noexcept : rows_{dim, type} {}

  [[nodiscard]] std::size_t dim() const noexcept { return rows_.dim; }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return block_tokens * rows_.row_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return 0; }
  [[nodiscard]] std::string describe() const { return "exact:" + std::string(name_of(rows_.type)); }

  void encode(FloatRows rows, std::byte* block) const noexcept {
    PQKV_EXPECTS(rows.dim == dim() && rows.count >= 1 && rows.count <= block_tokens);
    for (std::size_t t = 0; t < rows.count; ++t) rows_.store(rows.row(t), dim(), block + t * rows_.row_bytes());
    std::memset(block + rows.count * rows_.row_bytes(), 0, (block_tokens - rows.count) * rows_.row_bytes());
  }
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    rows_.load(block + index * rows_.row_bytes(), dim(), row);
  }

  [[nodiscard]] bool rows_move() const noexcept { return true; }
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept {
    rows_.copy_row(from, index, to, to_index);
  }

  void begin(WeightedSum& sum, std::size_t queries) const {
    sum.rows.shape(queries, dim());
    sum.rows.fill(0);
  }
  void rescale(WeightedSum& sum, const float* factors) const noexcept { sum.rows.scale(factors); }
  void add(WeightedSum& sum, BlockSpan span, const float* weights, std::size_t stride) const noexcept {
    rows_.accumulate(span.data, span.tokens, weights, sum.rows.count(), stride, sum.rows.data());
  }
  void finish(WeightedSum& sum, float* outs, std::size_t stride) const noexcept { sum.rows.add_to(outs, stride); }

 private:
  ExactRows rows_;
};

static_assert(ValuePolicy<ExactValues> && RowMovable<ExactValues>);

}  // namespace pqkv::inline PQKV_ABI
