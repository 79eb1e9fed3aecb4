// Pq8Keys: one of 256 centroids per subspace, scored through float tables. Layer 3b.
// The key format of LOOKAT (Karmore, 2026): 8·m bits per key; keys are never decoded, a score is m table look-ups
// (asymmetric distance computation). The block is drawn in codec/product_quantizer.hpp. Scores are exact in what was stored
// or, where vectors can look bytes up in tables of 256 (KernelSet::pq8_planes), within 16-bit table entries of it.
#pragma once

#include "pqkv/codec/product_quantizer.hpp"
#include "pqkv/codec/rows_buffer.hpp"

namespace pqkv::inline PQKV_ABI {

class Pq8Keys {
 public:
  static constexpr std::string_view name = "pq8";

  /// Fewer than four queries: [query][subspace][256]. From four on: quads [subspace][256][4 queries], because one load
  /// then serves four queries; the last quad overlaps the one before it when the count is no multiple of four.
  struct QueryTable {
    RowsBuffer tables;
    // Fewer than four where kernels look up in planes: [query][subspace][2][256] bytes, from one query's floats in `tables`.
    Buffer<std::uint8_t> planes;
    float scale[max_group] = {};
    float bias[max_group] = {};
    std::size_t queries = 0;
  };

  /// Errors: invalid_shape when the codebook does not have 256 centroids per code.
  [[nodiscard]] static Result<Pq8Keys> make(std::shared_ptr<const Codebook> codebook) {
    auto quantizer = ProductQuantizer<8>::make(std::move(codebook));
    if (!quantizer) return quantizer.error();
    return Pq8Keys(std::move(quantizer).value());
  }

  [[nodiscard]] std::size_t dim() const noexcept { return quantizer_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return quantizer_.block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return quantizer_.codebook().bytes(); }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept { return quantizer_.codebook().id(); }
  [[nodiscard]] std::size_t run_tokens() const noexcept { return unlimited_tokens; }
  [[nodiscard]] std::string describe() const { return "pq8:" + quantizer_.describe(); }

  void encode(FloatRows rows, RunPlace /*place*/, std::byte* block) const noexcept {
    quantizer_.encode(rows, block);
  }
  void decode(const std::byte* block, std::size_t index, RunPlace /*place*/, float* row) const noexcept {
    quantizer_.decode(block, index, row);
  }

  [[nodiscard]] bool rows_move() const noexcept { return true; }
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept {
    quantizer_.copy_row(from, index, to, to_index);
  }

  void prepare(QueryTable& table, FloatRows queries) const {
    const std::size_t entries = quantizer_.codes() * 256;
    const isa::KernelSet& kernels = isa::best();
    PQKV_EXPECTS(queries.count <= max_group);
    table.queries = queries.count;
    if (kernels.pq8_planes && queries.count < 4) {
      table.tables.shape(1, entries);
      if (!table.planes.grow(queries.count * entries * 2)) __builtin_trap();
      for (std::size_t q = 0; q < queries.count; ++q) {
        quantizer_.tabulate(queries.row(q), table.tables.data());
        kernels.plane_table(table.tables.data(), quantizer_.codes(), table.planes.data() + q * entries * 2,
                            &table.scale[q], &table.bias[q]);
      }
      return;
    }
    if (queries.count < 4) {
      table.tables.shape(queries.count, entries);
      for (std::size_t q = 0; q < queries.count; ++q) quantizer_.tabulate(queries.row(q), table.tables.row(q));
      return;
    }
    table.tables.shape(quads(queries.count), entries * 4);
    for (std::size_t quad = 0; quad < quads(queries.count); ++quad) {
      quantizer_.tabulate4(queries.row(first_query(quad, queries.count)), queries.stride, table.tables.row(quad));
    }
  }
  void turn(QueryTable& /*table*/, std::int64_t /*origin*/) const noexcept {}

  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    const auto* codes = reinterpret_cast<const std::uint8_t*>(span.data);
    const std::size_t count = quantizer_.codes();
    if (isa::best().pq8_planes && table.queries < 4) {
      isa::best().pq8_planes_score(codes, span.blocks(), count, table.planes.data(), table.queries, table.scale,
                                   table.bias, scores, stride, span.ahead);
      return;
    }
    if (table.queries < 4) {
      for (std::size_t q = 0; q < table.queries; ++q) {
        isa::best().pq8_score(codes, span.blocks(), count, table.tables.row(q), scores + q * stride, span.ahead);
      }
      return;
    }
    for (std::size_t quad = 0; quad < quads(table.queries); ++quad) {
      isa::best().pq8_score4(codes, span.blocks(), count, table.tables.row(quad),
                             scores + first_query(quad, table.queries) * stride, stride, span.ahead);
    }
  }

 private:
  explicit Pq8Keys(ProductQuantizer<8> quantizer) noexcept : quantizer_(std::move(quantizer)) {}
  [[nodiscard]] static std::size_t quads(std::size_t queries) noexcept { return (queries + 3) / 4; }
  [[nodiscard]] static std::size_t first_query(std::size_t quad, std::size_t queries) noexcept {
    return quad * 4 + 4 <= queries ? quad * 4 : queries - 4;
  }

  ProductQuantizer<8> quantizer_;
};

static_assert(KeyPolicy<Pq8Keys> && RowMovable<Pq8Keys>);

}  // namespace pqkv::inline PQKV_ABI
