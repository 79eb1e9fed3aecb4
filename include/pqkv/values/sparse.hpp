// SparseValues<V>: any value format, with the few elements that it renders worst kept apart (codec/sparse_entries.hpp has the
// source). Layer 3b.
//
//   block: | that of V | the entries |
//
// Sums are V's, and beside them each entry adds weight·difference to one channel.
#pragma once

#include <string>
#include <utility>

#include "pqkv/codec/rows_buffer.hpp"
#include "pqkv/codec/sparse_entries.hpp"

namespace pqkv::inline PQKV_ABI {

template <ValuePolicy V>
class SparseValues {
 public:
  struct WeightedSum {
    typename V::WeightedSum inner;
    RowsBuffer rows;  // [query][dim]: the entries' part
  };

  /// `percent` of the elements are kept apart. Errors: invalid_parameter unless percent is in 1..5; invalid_shape.
  [[nodiscard]] static Result<SparseValues> make(V inner, std::size_t percent = 1) {
    const auto entries = SparseEntries::make(inner.dim(), percent);
    if (!entries) return entries.error();
    return SparseValues(std::move(inner), *entries);
  }

  [[nodiscard]] std::size_t dim() const noexcept { return inner_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return inner_.block_bytes() + entries_.bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return inner_.codebook_bytes(); }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept {
    if constexpr (requires { inner_.codebook_id(); }) return inner_.codebook_id();
    return 0;
  }
  [[nodiscard]] std::string describe() const { return message(inner_.describe(), ":outliers=", entries_.percent()); }

  void encode(FloatRows rows, std::byte* block) const noexcept {
    inner_.encode(rows, block);
    entries_.encode(rows, [&](std::size_t t, float* row) { inner_.decode(block, t, row); }, block + inner_.block_bytes());
  }
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    inner_.decode(block, index, row);
    entries_.complete(block + inner_.block_bytes(), index, row);
  }

  void begin(WeightedSum& sum, std::size_t queries) const {
    inner_.begin(sum.inner, queries);
    sum.rows.shape(queries, dim());
    sum.rows.fill(0);
  }
  void rescale(WeightedSum& sum, const float* factors) const noexcept {
    inner_.rescale(sum.inner, factors);
    sum.rows.scale(factors);
  }
  void add(WeightedSum& sum, BlockSpan span, const float* weights, std::size_t stride) const noexcept {
    const std::size_t count = sum.rows.count();
    for (std::size_t b = 0; b < span.blocks(); ++b) {
      const std::byte* block = span.data + b * block_bytes();
      const float* mine = weights + b * block_tokens;
      const std::size_t tokens = std::min(block_tokens, span.tokens - b * block_tokens);
      inner_.add(sum.inner, {block, tokens, span.offset + b * block_tokens, nullptr, span.ahead}, mine, stride);
      span.ask_ahead(b * block_bytes() + inner_.block_bytes(), block_bytes() - inner_.block_bytes());
      entries_.for_each(block + inner_.block_bytes(), [&](std::size_t channel, std::size_t token, float difference) {
        for (std::size_t q = 0; q < count; ++q) sum.rows.row(q)[channel] += mine[q * stride + token] * difference;
      });
    }
  }
  void finish(WeightedSum& sum, float* outs, std::size_t stride) const noexcept {
    inner_.finish(sum.inner, outs, stride);
    sum.rows.add_to(outs, stride);
  }

 private:
  SparseValues(V inner, SparseEntries entries) noexcept : inner_(std::move(inner)), entries_(entries) {}
  V inner_;
  SparseEntries entries_;
};

}  // namespace pqkv::inline PQKV_ABI
