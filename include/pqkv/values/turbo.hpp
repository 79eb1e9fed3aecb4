// TurboValues<bits>: values turned by a fixed random rotation and rounded to the levels of a normal distribution, without any
// training: TurboQuant (codec/rotated_levels.hpp has the source, the block and the reasons). Layer 3b.
// Sums stay in turned coordinates; finish() turns each back once.
#pragma once

#include "pqkv/codec/rotated_levels.hpp"
#include "pqkv/codec/rows_buffer.hpp"

namespace pqkv::inline PQKV_ABI {

template <std::size_t bits>
class TurboValues {
  using Coder = RotatedLevels<bits, Order::tokens>;

 public:
  static constexpr std::string_view name = Coder::name;

  /// [query][dim] in turned coordinates.
  struct WeightedSum {
    RowsBuffer rows;
  };

  /// The same seed gives the same rotation everywhere. Errors: invalid_shape unless dim is a multiple of 16, at most 1024.
  [[nodiscard]] static Result<TurboValues> make(std::size_t dim, std::uint64_t seed = Coder::default_seed) {
    auto coder = Coder::make(dim, seed);
    if (!coder) return coder.error();
    return TurboValues(std::move(*coder));
  }

  [[nodiscard]] std::size_t dim() const noexcept { return coder_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return coder_.block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return 0; }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept { return coder_.seed(); }
  [[nodiscard]] std::string describe() const { return coder_.describe(); }

  void encode(FloatRows rows, std::byte* block) const noexcept { coder_.encode(rows, block); }
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept { coder_.decode(block, index, row); }

  void begin(WeightedSum& sum, std::size_t queries) const {
    sum.rows.shape(queries, dim());
    sum.rows.fill(0);
  }
  void rescale(WeightedSum& sum, const float* factors) const noexcept { sum.rows.scale(factors); }
  void add(WeightedSum& sum, BlockSpan span, const float* weights, std::size_t stride) const noexcept {
    const std::size_t count = sum.rows.count();
    for (std::size_t b = 0; b < span.blocks(); ++b) {
      span.ask_ahead(b * block_bytes(), block_bytes());
      const std::byte* block = span.data + b * block_bytes();
      float products[max_group * block_tokens];
      coder_.lengths(block, products);
      for (std::size_t q = count; q-- > 0;) {  // the first line holds the lengths until the last
        const float* line = weights + q * stride + b * block_tokens;
        for (std::size_t t = 0; t < block_tokens; ++t) products[q * block_tokens + t] = products[t] * line[t];
      }
      for (std::size_t t = 0; t < block_tokens; t += tokens_at_once) {
        float tile[tokens_at_once * Coder::max_dim];
        coder_.unpack(block, t * dim() / unit_codes, tokens_at_once * dim() / unit_codes, tile);
        isa::best().product_f32(tile, dim(), tokens_at_once, dim(), products + t, block_tokens, count, sum.rows.data(), dim());
      }
    }
  }
  void finish(WeightedSum& sum, float* outs, std::size_t stride) const noexcept {
    for (std::size_t q = 0; q < sum.rows.count(); ++q) {
      float row[Coder::max_dim];
      std::copy_n(sum.rows.row(q), dim(), row);
      coder_.rotation().turn_back(row);
      for (std::size_t d = 0; d < dim(); ++d) outs[q * stride + d] += row[d];
    }
  }

 private:
  /// With dims that are multiples of 16 so many tokens are whole units; they stay in the first cache.
  static constexpr std::size_t tokens_at_once = 8;

  explicit TurboValues(Coder coder) noexcept : coder_(std::move(coder)) {}
  Coder coder_;
};

using Turbo4Values = TurboValues<4>;
using Turbo3Values = TurboValues<3>;
using Turbo2Values = TurboValues<2>;

static_assert(ValuePolicy<Turbo4Values> && ValuePolicy<Turbo3Values> && ValuePolicy<Turbo2Values>);

}  // namespace pqkv::inline PQKV_ABI
