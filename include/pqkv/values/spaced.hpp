// SpacedValues<V>: any value format, its codes in another space: values less their mean, a metric or rotation in front
// (codec/code_space.hpp). Layer 3b. Blocks are those of V; one small product per query brings the sum back in finish().
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "pqkv/codec/code_space.hpp"
#include "pqkv/codec/rows_buffer.hpp"

namespace pqkv::inline PQKV_ABI {

template <ValuePolicy V>
class SpacedValues {
 public:
  struct WeightedSum {
    typename V::WeightedSum inner;
    RowsBuffer weights;   // [query][1]: their sums, for the mean
    RowsBuffer spaced;    // finish: the sum in the space of the codes
  };

  /// Errors: invalid_shape when dims differ or the space turns with positions.
  [[nodiscard]] static Result<SpacedValues> make(V inner, std::shared_ptr<const CodeSpace> space) {
    PQKV_EXPECTS(space != nullptr);
    if (inner.dim() != space->dim() || space->turns()) {
      return Error{Errc::invalid_shape, message("values of dim ", inner.dim(), " in a space of dim ", space->dim(),
                                                space->turns() ? " that turns with positions" : "")};
    }
    return SpacedValues(std::move(inner), std::move(space));
  }

  [[nodiscard]] std::size_t dim() const noexcept { return inner_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return inner_.block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return inner_.codebook_bytes() + space_->bytes(); }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept {
    Fingerprint fingerprint;
    if constexpr (requires { inner_.codebook_id(); }) fingerprint.add(inner_.codebook_id());
    fingerprint.add(space_->id());
    return fingerprint.value();
  }
  [[nodiscard]] std::string describe() const {
    return inner_.describe() + (space_->parts().mean.empty() ? "" : ":centre=1") +
           (space_->parts().forward.empty() ? "" : ":fitted");
  }

  void encode(FloatRows rows, std::byte* block) const noexcept {
    float spaced[block_tokens * CodeSpace::max_dim];
    space_->rows_in(rows, {}, spaced);
    inner_.encode({spaced, rows.count, dim()}, block);
  }
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    float spaced[CodeSpace::max_dim];
    inner_.decode(block, index, spaced);
    space_->row_out(spaced, {}, 0, row);
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
  }

  void begin(WeightedSum& sum, std::size_t queries) const {
    inner_.begin(sum.inner, queries);
    sum.weights.shape(queries, 1);
    sum.weights.fill(0);
    sum.spaced.shape(queries, dim());
  }
  void rescale(WeightedSum& sum, const float* factors) const noexcept {
    inner_.rescale(sum.inner, factors);
    sum.weights.scale(factors);
  }
  void add(WeightedSum& sum, BlockSpan span, const float* weights, std::size_t stride) const noexcept {
    inner_.add(sum.inner, span, weights, stride);
    for (std::size_t q = 0; q < sum.weights.count(); ++q) {
      float total = 0;
      for (std::size_t t = 0; t < span.tokens; ++t) total += weights[q * stride + t];
      *sum.weights.row(q) += total;
    }
  }
  void finish(WeightedSum& sum, float* outs, std::size_t stride) const noexcept {
    sum.spaced.fill(0);
    inner_.finish(sum.inner, sum.spaced.data(), dim());
    const CodeSpaceParts& parts = space_->parts();
    for (std::size_t q = 0; q < sum.weights.count(); ++q) {
      float row[CodeSpace::max_dim];
      const float* back = sum.spaced.row(q);
      if (!parts.inverse.empty()) {
        isa::best().dot_f32(parts.inverse.data(), dim(), dim(), sum.spaced.row(q), 1, row, dim());
        back = row;
      }
      for (std::size_t d = 0; d < dim(); ++d) {
        outs[q * stride + d] += back[d] + (parts.mean.empty() ? 0.0f : *sum.weights.row(q) * parts.mean[d]);
      }
    }
  }

 private:
  SpacedValues(V inner, std::shared_ptr<const CodeSpace> space) noexcept
      : inner_(std::move(inner)), space_(std::move(space)) {}

  V inner_;
  std::shared_ptr<const CodeSpace> space_;
};

}  // namespace pqkv::inline PQKV_ABI
