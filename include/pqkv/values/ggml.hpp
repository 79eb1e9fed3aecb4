// GgmlValues<bits>: values in ggml's types q8_0 and q4_0. Layer 3b.
// A block is 32 rows one behind the other, each exactly as ggml stores it (codec/ggml_rows.hpp draws them), so that an engine
// whose cache is of that type hands rows over by copying them. 8.5 and 4.5 bits per element all told. IntegerValues sum
// faster, in integers; this format is for bytes that exist already.
#pragma once

#include "pqkv/codec/ggml_rows.hpp"
#include "pqkv/codec/rows_buffer.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

template <std::size_t bits>
class GgmlValues {
 public:
  static constexpr std::string_view name = GgmlRows<bits>::name;

  /// [query][dim]
  struct WeightedSum {
    RowsBuffer rows;
  };

  /// Errors: invalid_shape unless dim is a multiple of 32, at most 1024.
  [[nodiscard]] static Result<GgmlValues> make(std::size_t dim) {
    const auto rows = GgmlRows<bits>::make(dim);
    if (!rows) return rows.error();
    return GgmlValues(*rows);
  }

  [[nodiscard]] std::size_t dim() const noexcept { return rows_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return rows_.block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return 0; }
  [[nodiscard]] std::string describe() const { return std::string(name); }

  /// Missing rows are zeros.
  void encode(FloatRows rows, std::byte* block) const noexcept { rows_.encode(rows, block); }
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    rows_.decode(block, index, row);
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
    float tile[GgmlRows<bits>::tile_floats];
    for (std::size_t t = 0; t < span.tokens; t += rows_.tile_rows()) {
      const std::size_t count = std::min(rows_.tile_rows(), span.tokens - t);
      span.ask_ahead(t * rows_.row_bytes(), count * rows_.row_bytes());
      rows_.unpack(span.data + t * rows_.row_bytes(), count, tile);
      isa::best().product_f32(tile, dim(), count, dim(), weights + t, stride, sum.rows.count(), sum.rows.data(), dim());
    }
  }
  void finish(WeightedSum& sum, float* outs, std::size_t stride) const noexcept { sum.rows.add_to(outs, stride); }

 private:
  explicit GgmlValues(GgmlRows<bits> rows) noexcept : rows_(rows) {}
  GgmlRows<bits> rows_;
};

using Q8Values = GgmlValues<8>;
using Q4Values = GgmlValues<4>;

static_assert(ValuePolicy<Q8Values> && ValuePolicy<Q4Values>);
static_assert(RowMovable<Q8Values> && RowMovable<Q4Values>);

}  // namespace pqkv::inline PQKV_ABI
