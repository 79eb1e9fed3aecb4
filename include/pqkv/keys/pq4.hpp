// Pq4Keys: one of 16 centroids per subspace, scored through 8-bit tables that live in registers. Layer 3b.
// 4·m bits per key. The idea is that of André, Kermarrec, Le Scouarnec (Cache Locality is not Enough, 2015), for keys that
// of NoMAD-Attention (2024): 16 table entries are one register, and one shuffle looks 32 tokens up. Scores are computed
// for all keys, not for a top-k. The block is drawn in codec/product_quantizer.hpp.
#pragma once

#include <algorithm>
#include <cmath>

#include "pqkv/codec/product_quantizer.hpp"
#include "pqkv/codec/rows_buffer.hpp"

namespace pqkv::inline PQKV_ABI {

class Pq4Keys {
 public:
  static constexpr std::string_view name = "pq4";

  /// u8 tables [query][subspace][16]; score = scale·Σ entries + bias. One scale per query serves all subspaces (each less
  /// its own minimum, whose sum is the bias), so that sums of entries can be taken in u16: at most 256·255 < 2¹⁶.
  /// A score is off by at most scale/2 per subspace, scale = the widest subspace's range / 255.
  struct QueryTable {
    Buffer<std::uint8_t> tables;
    RowsBuffer plain;  // one query's float table
    float scale[max_group] = {};
    float bias[max_group] = {};
    std::size_t queries = 0;
  };

  /// Errors: invalid_shape when the codebook does not have 16 centroids per subspace.
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
  [[nodiscard]] std::string describe() const { return message("pq4:m=", quantizer_.subspaces()); }

  void encode(FloatRows rows, RunPlace /*place*/, std::byte* block) const noexcept {
    quantizer_.encode(rows, block);
  }
  void decode(const std::byte* block, std::size_t index, RunPlace /*place*/, float* row) const noexcept {
    quantizer_.decode(block, index, row);
  }

  void prepare(QueryTable& table, FloatRows queries) const {
    PQKV_EXPECTS(queries.count <= max_group);
    const std::size_t subspaces = quantizer_.subspaces();
    table.queries = queries.count;
    table.plain.shape(1, subspaces * 16);
    if (!table.tables.grow(queries.count * subspaces * 16)) __builtin_trap();
    for (std::size_t q = 0; q < queries.count; ++q) {
      const float* entries = table.plain.data();
      quantizer_.tabulate(queries.row(q), table.plain.data());
      float widest = 0;
      float bias = 0;
      for (std::size_t s = 0; s < subspaces; ++s) {
        const auto [least, most] = std::minmax_element(entries + s * 16, entries + s * 16 + 16);
        widest = std::max(widest, *most - *least);
        bias += *least;
      }
      const float inverse = widest > 0 ? 255.0f / widest : 0.0f;
      std::uint8_t* out = table.tables.data() + q * subspaces * 16;
      for (std::size_t s = 0; s < subspaces; ++s) {
        const float least = *std::min_element(entries + s * 16, entries + s * 16 + 16);
        for (std::size_t c = 0; c < 16; ++c) {
          const float level = (entries[s * 16 + c] - least) * inverse + 0.5f;
          out[s * 16 + c] = static_cast<std::uint8_t>(std::min(level, 255.0f));
        }
      }
      table.scale[q] = widest / 255.0f;
      table.bias[q] = bias;
    }
  }
  void turn(QueryTable& /*table*/, std::int64_t /*origin*/) const noexcept {}

  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    isa::best().pq4_score(reinterpret_cast<const std::uint8_t*>(span.data), span.blocks(), quantizer_.subspaces(),
                          table.tables.data(), table.queries, table.scale, table.bias, scores, stride);
  }

 private:
  explicit Pq4Keys(ProductQuantizer<4> quantizer) noexcept : quantizer_(std::move(quantizer)) {}
  ProductQuantizer<4> quantizer_;
};

static_assert(KeyPolicy<Pq4Keys>);

}  // namespace pqkv::inline PQKV_ABI
