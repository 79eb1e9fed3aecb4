// Pq4Keys: one of 16 centroids per subspace, scored through 8-bit tables that live in registers. Layer 3b.
// 4·m bits per key. The idea is that of André, Kermarrec, Le Scouarnec (Cache Locality is not Enough, 2015), for keys that
// of NoMAD-Attention (2024): 16 table entries are one register, and one shuffle looks 32 tokens up. Scores are computed
// for all keys, not for a top-k. The block is drawn in codec/product_quantizer.hpp.
#pragma once

#include "pqkv/codec/byte_tables.hpp"
#include "pqkv/codec/product_quantizer.hpp"

namespace pqkv::inline PQKV_ABI {

class Pq4Keys {
 public:
  static constexpr std::string_view name = "pq4";

  using QueryTable = ByteTables;

  /// Errors: invalid_shape when the codebook does not have 16 centroids per code.
  [[nodiscard]] static Result<Pq4Keys> make(std::shared_ptr<const Codebook> codebook) {
    auto quantizer = ProductQuantizer<4>::make(std::move(codebook));
    if (!quantizer) return quantizer.error();
    return Pq4Keys(std::move(quantizer).value());
  }

  [[nodiscard]] std::size_t dim() const noexcept { return quantizer_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return quantizer_.block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return quantizer_.codebook().bytes(); }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept { return quantizer_.codebook().id(); }
  [[nodiscard]] std::size_t run_tokens() const noexcept { return unlimited_tokens; }
  [[nodiscard]] std::string describe() const { return "pq4:" + quantizer_.describe(); }

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
    table.prepare(queries.count, quantizer_.codes(), 16,
                  [&](std::size_t q, float* plain) { quantizer_.tabulate(queries.row(q), plain); });
  }
  void turn(QueryTable& /*table*/, std::int64_t /*origin*/) const noexcept {}

  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    isa::best().pq4_score(reinterpret_cast<const std::uint8_t*>(span.data), span.blocks(), quantizer_.codes(),
                          table.tables.data(), table.queries, table.scale, table.bias, scores, stride,
                          span.ahead);
  }
  void bound(const QueryTable& table, float* scores) const noexcept { table.bounds(scores); }

 private:
  explicit Pq4Keys(ProductQuantizer<4> quantizer) noexcept : quantizer_(std::move(quantizer)) {}
  ProductQuantizer<4> quantizer_;
};

static_assert(KeyPolicy<Pq4Keys> && Bounded<Pq4Keys> && RowMovable<Pq4Keys>);

}  // namespace pqkv::inline PQKV_ABI
