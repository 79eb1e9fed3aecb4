// HeavyValues<V>: any value format, with a few tokens of each block kept finer: those whose errors attention would feel most.
// Layer 3b. (More bits for salient tokens: He et al., ZipCache, 2024; there by the attention of the prompt, once.)
//
// An error weighs as much as attention gives its token. A block alone does not know that, and the lengths of its keys or values
// do not tell (measured in examples/kv_report/README.md); the weights that its tokens got while they waited in the recent window
// do. So this format is SaliencyAware: the `heavy` tokens with the largest product of saliency and error have what V lacks of
// them coded once more, with 2 bits per element, turned by a rotation of its own (codec/rotated_levels.hpp). Keys gain nothing
// that way (measured in examples/tiny_llm/README.md).
//
//   block: | that of V | lengths f16 [heavy] | codes of 2 bits [heavy][dim] | slots u8 [heavy]: 32 for none | up to words |
//
// heavy·(2·dim + 24) bits per block more, at 4 tokens of dim 64 0.3 bits per element. Sums are V's and, beside them, one in
// turned coordinates. Codes do not move to other blocks, which may have no room for them.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "pqkv/codec/rotated_levels.hpp"
#include "pqkv/codec/rows_buffer.hpp"

namespace pqkv::inline PQKV_ABI {

template <ValuePolicy V>
class HeavyValues {
  using Coder = RotatedLevels<2, Order::tokens>;

 public:
  static constexpr std::size_t max_heavy = 16;

  struct WeightedSum {
    typename V::WeightedSum inner;
    RowsBuffer rows;  // [query][dim]: what V lacks, in turned coordinates
  };

  /// Errors: invalid_parameter unless heavy is in 1..16; invalid_shape unless dim is a multiple of 16, at most 1024.
  [[nodiscard]] static Result<HeavyValues> make(V inner, std::size_t heavy = 4) {
    if (heavy < 1 || heavy > max_heavy) {
      return Error{Errc::invalid_parameter, message("heavy=", heavy, " of 32 tokens: choose 0..", std::size_t{max_heavy})};
    }
    auto fine = Coder::make(inner.dim(), seed, heavy);
    if (!fine) return Error{fine.error().code, message("heavy tokens: ", fine.error().message)};
    return HeavyValues(std::move(inner), std::move(*fine), heavy);
  }

  [[nodiscard]] std::size_t heavy() const noexcept { return heavy_; }
  [[nodiscard]] std::size_t dim() const noexcept { return inner_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept {
    constexpr std::size_t word = 4;  // V's blocks stay aligned
    return (slots_offset() + heavy_ + word - 1) / word * word;
  }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return inner_.codebook_bytes(); }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept {
    if constexpr (requires { inner_.codebook_id(); }) return inner_.codebook_id();
    return 0;
  }
  [[nodiscard]] std::string describe() const { return message(inner_.describe(), ":heavy=", heavy_); }
  [[nodiscard]] bool wants_saliency() const noexcept { return true; }

  void encode(FloatRows rows, std::byte* block) const noexcept {
    float equal[block_tokens];
    std::fill_n(equal, block_tokens, 1.0f);
    encode(rows, equal, block);
  }
  /// Of tokens that weigh the same the first; none of saliency 0.
  void encode(FloatRows rows, const float* saliency, std::byte* block) const noexcept {
    inner_.encode(rows, block);
    struct Token {
      double weight;
      std::uint8_t slot;
    };
    Token tokens[block_tokens];
    std::size_t count = 0;
    float lacks[block_tokens * Coder::max_dim];  // [slot][dim]
    for (std::size_t t = 0; t < rows.count; ++t) {
      if (!(saliency[t] > 0)) continue;
      float* row = lacks + t * dim();
      inner_.decode(block, t, row);
      double square = 0;
      for (std::size_t d = 0; d < dim(); ++d) {
        row[d] = rows.row(t)[d] - row[d];
        square += static_cast<double>(row[d]) * static_cast<double>(row[d]);
      }
      tokens[count++] = {static_cast<double>(saliency[t]) * std::sqrt(square), static_cast<std::uint8_t>(t)};
    }
    std::sort(tokens, tokens + count, [](const Token& a, const Token& b) {
      return a.weight > b.weight || (a.weight == b.weight && a.slot < b.slot);
    });
    count = std::min(count, heavy_);

    std::byte* fine = block + inner_.block_bytes();
    std::memset(fine, 0, block_bytes() - inner_.block_bytes());
    std::memset(block + slots_offset(), no_slot, heavy_);
    if (count == 0) return;
    float chosen[max_heavy * Coder::max_dim];
    for (std::size_t i = 0; i < count; ++i) {
      std::copy_n(lacks + tokens[i].slot * dim(), dim(), chosen + i * dim());
      std::memcpy(block + slots_offset() + i, &tokens[i].slot, 1);
    }
    fine_.encode({chosen, count, dim()}, fine);
  }
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    inner_.decode(block, index, row);
    for (std::size_t i = 0; i < heavy_; ++i) {
      if (std::to_integer<std::size_t>(block[slots_offset() + i]) != index) continue;
      float more[Coder::max_dim];
      fine_.decode(block + inner_.block_bytes(), i, more);
      for (std::size_t d = 0; d < dim(); ++d) row[d] += more[d];
    }
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
    const std::size_t count = sum.rows.count(), bytes = block_bytes(), fine_offset = inner_.block_bytes();
    const std::size_t at_once = std::clamp(tile_floats / dim(), heavy_, most_rows);
    float tile[max_heavy * Coder::max_dim + unit_codes];  // levels of the heavy tokens of some blocks, [row][dim]
    f16 stored[most_rows];                                // their lengths
    float products[max_group * most_rows];                // and weights
    std::size_t rows = 0;
    const auto add_rows = [&] {
      float lengths[most_rows];
      isa::best().f16_to_f32(stored, rows, lengths);
      for (std::size_t q = 0; q < count; ++q) {
        for (std::size_t i = 0; i < rows; ++i) products[q * most_rows + i] *= lengths[i];
      }
      isa::best().product_f32(tile, dim(), rows, dim(), products, most_rows, count, sum.rows.data(), dim());
      rows = 0;
    };
    for (std::size_t b = 0; b < span.blocks(); ++b) {
      const std::byte* block = span.data + b * bytes;
      const float* mine = weights + b * block_tokens;
      const std::size_t tokens = std::min(block_tokens, span.tokens - b * block_tokens);
      inner_.add(sum.inner, {block, tokens, span.offset + b * block_tokens, nullptr, span.ahead}, mine, stride);
      span.ask_ahead(b * bytes + fine_offset, bytes - fine_offset);

      const std::byte* fine = block + fine_offset;
      fine_.unpack(fine, 0, fine_.units(), tile + rows * dim());
      fine_.stored_lengths(fine, stored + rows);
      for (std::size_t i = 0; i < heavy_; ++i, ++rows) {
        const auto at = std::to_integer<std::size_t>(fine[fine_.block_bytes() + i]);
        for (std::size_t q = 0; q < count; ++q) products[q * most_rows + rows] = at < block_tokens ? mine[q * stride + at] : 0.0f;
      }
      if (rows + heavy_ > at_once) add_rows();
    }
    if (rows != 0) add_rows();
  }
  void finish(WeightedSum& sum, float* outs, std::size_t stride) const noexcept {
    inner_.finish(sum.inner, outs, stride);
    for (std::size_t q = 0; q < sum.rows.count(); ++q) {
      float row[Coder::max_dim];
      std::copy_n(sum.rows.row(q), dim(), row);
      fine_.rotation().turn_back(row);
      for (std::size_t d = 0; d < dim(); ++d) outs[q * stride + d] += row[d];
    }
  }

 private:
  /// Not that of turbo2: what its levels lack is closer to normal under another rotation.
  static constexpr std::uint64_t seed = 2;
  static constexpr std::uint8_t no_slot = block_tokens;
  /// Rows of several blocks that are added together, so many floats of them, which stay in the first cache.
  static constexpr std::size_t tile_floats = 4096;
  static constexpr std::size_t most_rows = 32;

  HeavyValues(V inner, Coder fine, std::size_t heavy) noexcept
      : inner_(std::move(inner)), fine_(std::move(fine)), heavy_(heavy) {}

  [[nodiscard]] std::size_t slots_offset() const noexcept { return inner_.block_bytes() + fine_.block_bytes(); }
  V inner_;
  Coder fine_;
  std::size_t heavy_;
};

}  // namespace pqkv::inline PQKV_ABI
