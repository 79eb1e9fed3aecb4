// PqValues<bits>: product-quantised values, pq8 (256 centroids per subspace) and pq4 (16). Layer 3b.
// Weights fall into the buckets of the centroids that the codes name; one small product in finish() turns buckets into
// the output row. So a token costs `subspaces` additions whatever the dim (CommVQ, Li et al. 2025, equation 22).
// The block is drawn in codec/product_quantizer.hpp.
#pragma once

#include "pqkv/codec/product_quantizer.hpp"
#include "pqkv/codec/rows_buffer.hpp"

namespace pqkv::inline PQKV_ABI {

template <std::size_t bits>
class PqValues {
 public:
  static constexpr std::string_view name = bits == 8 ? "pq8" : "pq4";

  /// Buckets [query][subspace][centroid].
  struct WeightedSum {
    RowsBuffer buckets;
  };

  /// Errors: invalid_shape when the codebook does not have 2^bits centroids per subspace.
  [[nodiscard]] static Result<PqValues> make(std::shared_ptr<const Codebook> codebook) {
    auto quantizer = ProductQuantizer<bits>::make(std::move(codebook));
    if (!quantizer) return quantizer.error();
    return PqValues(std::move(quantizer).value());
  }

  [[nodiscard]] std::size_t dim() const noexcept { return quantizer_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return quantizer_.block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return quantizer_.codebook().bytes(); }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept { return quantizer_.codebook().id(); }
  [[nodiscard]] std::string describe() const { return message(name, ":m=", quantizer_.subspaces()); }

  void encode(FloatRows rows, std::byte* block) const noexcept { quantizer_.encode(rows, block); }
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    quantizer_.decode(block, index, row);
  }

  void begin(WeightedSum& sum, std::size_t queries) const {
    sum.buckets.shape(queries, quantizer_.subspaces() * quantizer_.centroids);
    sum.buckets.fill(0);
  }
  void rescale(WeightedSum& sum, const float* factors) const noexcept { sum.buckets.scale(factors); }
  void add(WeightedSum& sum, BlockSpan span, const float* weights, std::size_t stride) const noexcept {
    const auto fill = bits == 8 ? isa::best().pq8_fill : isa::best().pq4_fill;
    for (std::size_t q = 0; q < sum.buckets.count(); ++q) {
      fill(reinterpret_cast<const std::uint8_t*>(span.data), span.blocks(), quantizer_.subspaces(),
           weights + q * stride, sum.buckets.row(q));
    }
  }
  void finish(WeightedSum& sum, float* outs, std::size_t stride) const noexcept {
    for (std::size_t q = 0; q < sum.buckets.count(); ++q) {
      for (std::size_t s = 0; s < quantizer_.subspaces(); ++s) {
        isa::best().centroid_sum(sum.buckets.row(q) + s * quantizer_.centroids, quantizer_.width(),
                                 quantizer_.codebook().centroids(s), quantizer_.centroids,
                                 outs + q * stride + s * quantizer_.width());
      }
    }
  }

 private:
  explicit PqValues(ProductQuantizer<bits> quantizer) noexcept : quantizer_(std::move(quantizer)) {}
  ProductQuantizer<bits> quantizer_;
};

using Pq8Values = PqValues<8>;
using Pq4Values = PqValues<4>;

static_assert(ValuePolicy<Pq8Values> && ValuePolicy<Pq4Values>);

}  // namespace pqkv::inline PQKV_ABI
