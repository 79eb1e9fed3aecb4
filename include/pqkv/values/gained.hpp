// GainedValues<V>: any value format for the shapes of values, their lengths apart (codec/gain.hpp has the reason). Layer 3b.
//
//   block: | that of V, of values at unit length | gain of each token [32 bytes] |
//
// 8 bits per token. Weights are multiplied by the gains before V adds them up. Goes inside a space
// (values/spaced.hpp), never around one: lengths are those of the coordinates that V codes.
#pragma once

#include <string>
#include <utility>

#include "pqkv/base/result.hpp"
#include "pqkv/codec/gain.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

template <ValuePolicy V>
class GainedValues {
 public:
  struct WeightedSum {
    typename V::WeightedSum inner;
    std::size_t queries = 0;
  };

  /// `inner`: for values at unit length. Errors: invalid_shape beyond dim 1024.
  [[nodiscard]] static Result<GainedValues> make(V inner) {
    if (inner.dim() > max_gained_dim) {
      return Error{Errc::invalid_shape,
                   message("gains for values of dim ", inner.dim(), ": at most ", std::size_t{max_gained_dim})};
    }
    return GainedValues(std::move(inner));
  }

  [[nodiscard]] std::size_t dim() const noexcept { return inner_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return inner_.block_bytes() + block_tokens; }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return inner_.codebook_bytes(); }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept {
    if constexpr (requires { inner_.codebook_id(); }) return inner_.codebook_id();
    return 0;
  }
  [[nodiscard]] std::string describe() const { return inner_.describe() + ":gain=1"; }

  /// Lengths below 2⁻¹⁰ become 0, those beyond 64 are shortened to that.
  void encode(FloatRows rows, std::byte* block) const noexcept {
    encode_with_gains(
        rows, block + inner_.block_bytes(), [&](FloatRows unit) { inner_.encode(unit, block); },
        [&](std::size_t t, float* row) { inner_.decode(block, t, row); });
  }
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    inner_.decode(block, index, row);
    const float gain = gain_of(block[inner_.block_bytes() + index]);
    for (std::size_t d = 0; d < dim(); ++d) row[d] *= gain;
  }

  [[nodiscard]] bool rows_move() const noexcept
    requires RowMovable<V>
  {
    return inner_.rows_move();
  }
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept
    requires RowMovable<V>
  {
    inner_.copy_row(from, index, to, to_index);
    to[inner_.block_bytes() + to_index] = from[inner_.block_bytes() + index];
  }

  void begin(WeightedSum& sum, std::size_t queries) const {
    inner_.begin(sum.inner, queries);
    sum.queries = queries;
  }
  void rescale(WeightedSum& sum, const float* factors) const noexcept { inner_.rescale(sum.inner, factors); }
  void add(WeightedSum& sum, BlockSpan span, const float* weights, std::size_t stride) const noexcept {
    for_each_stretch(span, inner_.block_bytes(),
                     [&](std::size_t first, std::size_t blocks, const std::byte* codes, const float* gains) {
                       const std::size_t before = first * block_tokens;
                       const std::size_t tokens = std::min(blocks * block_tokens, span.tokens - before);
                       float weighed[max_group * max_stretch];
                       for (std::size_t q = 0; q < sum.queries; ++q) {
                         const float* mine = weights + q * stride + before;
                         float* to = weighed + q * max_stretch;
                         for (std::size_t t = 0; t < blocks * block_tokens; ++t) to[t] = mine[t] * gains[t];
                       }
                       inner_.add(sum.inner, {codes, tokens, span.offset + before}, weighed, max_stretch);
                     });
  }
  void finish(WeightedSum& sum, float* outs, std::size_t stride) const noexcept { inner_.finish(sum.inner, outs, stride); }

 private:
  explicit GainedValues(V inner) noexcept : inner_(std::move(inner)) {}
  V inner_;
};

}  // namespace pqkv::inline PQKV_ABI
