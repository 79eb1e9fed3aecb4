// PqValues<bits>: product-quantised values, pq8 (256 centroids per subspace) and pq4 (16). Layer 3b.
// pq8: weights fall into the buckets of the centroids that the codes name; one small product in finish() turns buckets
// into the output row. So a token costs an addition per code whatever the dim (CommVQ, Li et al. 2025, equation 22).
// pq4: 16 centroids of a channel fit into registers, where looking them up for many tokens at once is cheaper than a
// bucket; the sum is the row itself. The block is drawn in codec/product_quantizer.hpp.
#pragma once

#include "pqkv/codec/product_quantizer.hpp"
#include "pqkv/codec/rows_buffer.hpp"

namespace pqkv::inline PQKV_ABI {

template <std::size_t bits>
class PqValues {
 public:
  static constexpr std::string_view name = bits == 8 ? "pq8" : "pq4";

  /// pq4: pieces [query][code][width]. pq8: buckets [query][code][centroid] for groups of fewer than four queries, else quads of
  /// queries [quad][code][centroid][4], because one addition then serves four; queries that fill no quad follow singly.
  struct WeightedSum {
    RowsBuffer rows;
    RowsBuffer quads;
    RowsBuffer singles;
    std::size_t queries = 0;
  };

  /// Errors: invalid_shape when the codebook does not have 2^bits centroids per code.
  [[nodiscard]] static Result<PqValues> make(std::shared_ptr<const Codebook> codebook) {
    auto quantizer = ProductQuantizer<bits>::make(std::move(codebook));
    if (!quantizer) return quantizer.error();
    return PqValues(std::move(quantizer).value());
  }

  [[nodiscard]] std::size_t dim() const noexcept { return quantizer_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return quantizer_.block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return quantizer_.codebook().bytes(); }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept { return quantizer_.codebook().id(); }
  [[nodiscard]] std::string describe() const { return message(name, ":", quantizer_.describe()); }

  void encode(FloatRows rows, std::byte* block) const noexcept { quantizer_.encode(rows, block); }
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    quantizer_.decode(block, index, row);
  }

  [[nodiscard]] bool rows_move() const noexcept { return true; }
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept {
    quantizer_.copy_row(from, index, to, to_index);
  }

  void begin(WeightedSum& sum, std::size_t queries) const {
    sum.queries = queries;
    if constexpr (bits == 4) {
      sum.rows.shape(queries, quantizer_.codes() * quantizer_.width());
      sum.rows.fill(0);
    } else {
      const std::size_t buckets = quantizer_.codes() * quantizer_.centroids;
      sum.quads.shape(queries / 4, buckets * 4);
      sum.singles.shape(queries % 4, buckets);
      sum.quads.fill(0);
      sum.singles.fill(0);
    }
  }
  void rescale(WeightedSum& sum, const float* factors) const noexcept {
    if constexpr (bits == 4) {
      sum.rows.scale(factors);
    } else {
      for (std::size_t quad = 0; quad < sum.quads.count(); ++quad) {
        float* buckets = sum.quads.row(quad);
        for (std::size_t i = 0; i < sum.quads.width(); ++i) buckets[i] *= factors[quad * 4 + i % 4];
      }
      sum.singles.scale(factors + sum.quads.count() * 4);
    }
  }
  void add(WeightedSum& sum, BlockSpan span, const float* weights, std::size_t stride) const noexcept {
    const isa::KernelSet& kernels = isa::best();
    const auto* codes = reinterpret_cast<const std::uint8_t*>(span.data);
    const std::size_t count = quantizer_.codes();
    if constexpr (bits == 4) {
      kernels.pq4_accumulate(codes, span.blocks(), count, quantizer_.width(), quantizer_.codebook().centroids(0), weights,
                             sum.queries, stride, sum.rows.data(), span.ahead);
    } else {
      for (std::size_t quad = 0; quad < sum.quads.count(); ++quad) {
        kernels.pq8_fill4(codes, span.blocks(), count, weights + quad * 4 * stride, stride, sum.quads.row(quad),
                          span.ahead);
      }
      for (std::size_t i = 0; i < sum.singles.count(); ++i) {
        kernels.pq8_fill(codes, span.blocks(), count, weights + (sum.quads.count() * 4 + i) * stride, sum.singles.row(i),
                         span.ahead);
      }
    }
  }
  void finish(WeightedSum& sum, float* outs, std::size_t stride) const noexcept {
    if constexpr (bits == 4) {
      for (std::size_t q = 0; q < sum.queries; ++q) {
        for (std::size_t s = 0; s < quantizer_.codes(); ++s) {
          const float* piece = sum.rows.row(q) + s * quantizer_.width();
          float* out = outs + q * stride + quantizer_.first(s);
          for (std::size_t d = 0; d < quantizer_.width(); ++d) out[d] += piece[d];
        }
      }
    } else {
      for (std::size_t quad = 0; quad < sum.quads.count(); ++quad) {
        for (std::size_t s = 0; s < quantizer_.codes(); ++s) {
          const float* interleaved = sum.quads.row(quad) + s * quantizer_.centroids * 4;
          for (std::size_t lane = 0; lane < 4; ++lane) {
            float buckets[ProductQuantizer<bits>::centroids];
            for (std::size_t c = 0; c < quantizer_.centroids; ++c) buckets[c] = interleaved[c * 4 + lane];
            add_buckets(s, buckets, outs + (quad * 4 + lane) * stride);
          }
        }
      }
      for (std::size_t i = 0; i < sum.singles.count(); ++i) {
        for (std::size_t s = 0; s < quantizer_.codes(); ++s) {
          add_buckets(s, sum.singles.row(i) + s * quantizer_.centroids, outs + (sum.quads.count() * 4 + i) * stride);
        }
      }
    }
  }

 private:
  explicit PqValues(ProductQuantizer<bits> quantizer) noexcept : quantizer_(std::move(quantizer)) {}
  void add_buckets(std::size_t code, const float* buckets, float* out) const noexcept {
    isa::best().centroid_sum(buckets, quantizer_.width(), quantizer_.codebook().centroids(code), quantizer_.centroids,
                             out + quantizer_.first(code));
  }
  ProductQuantizer<bits> quantizer_;
};

using Pq8Values = PqValues<8>;
using Pq4Values = PqValues<4>;

static_assert(ValuePolicy<Pq8Values> && ValuePolicy<Pq4Values> && RowMovable<Pq8Values> && RowMovable<Pq4Values>);

}  // namespace pqkv::inline PQKV_ABI
