// Pq44Keys: two stages of 16 centroids per subspace; a key is the sum of one of each. Layer 3b.
// 8·m bits per key and 256 sums per subspace to choose from, but tables of 2·16 entries that live in registers: codes like
// pq8, scans like pq4 (additive quantisation: Babenko, Lempitsky, Additive Quantization for Extreme Vector Compression,
// 2014). Both stages are chosen together, by searching all 256 sums; a stage after the other would settle for less.
//
//   block: that of pq4 with 2·m subspaces; subspace 2·s + i holds stage i of subspace s
//   codebook: 32 centroids per subspace, the first stage's 16 and then the second's
#pragma once

#include <vector>

#include "pqkv/codec/byte_tables.hpp"
#include "pqkv/codec/product_quantizer.hpp"

namespace pqkv::inline PQKV_ABI {

class Pq44Keys {
 public:
  static constexpr std::string_view name = "pq44";
  static constexpr std::size_t stage = 16;

  using QueryTable = ByteTables;

  /// Errors: invalid_shape when the codebook does not have 32 centroids per subspace, or more than 128 subspaces.
  [[nodiscard]] static Result<Pq44Keys> make(std::shared_ptr<const Codebook> codebook) {
    PQKV_EXPECTS(codebook != nullptr);
    const CodebookShape& shape = codebook->shape();
    if (shape.centroids != 2 * stage || shape.subspaces > 128) {
      return Error{Errc::invalid_shape, message("a codebook with ", shape.subspaces, " subspaces of ", shape.centroids,
                                                " centroids cannot serve pq44, which needs at most 128 of 2 x 16")};
    }
    std::vector<float> sums(shape.dim * stage * stage);
    for (std::size_t d = 0; d < shape.dim; ++d) {
      const float* stages = codebook->centroids(0) + d * 2 * stage;
      for (std::size_t i = 0; i < stage * stage; ++i) sums[d * stage * stage + i] = stages[i / stage] + stages[stage + i % stage];
    }
    auto joint = Codebook::make({shape.dim, shape.subspaces, stage * stage}, std::move(sums));
    if (!joint) return joint.error();
    return Pq44Keys(std::move(codebook), std::move(*joint));
  }

  [[nodiscard]] std::size_t dim() const noexcept { return codebook_->shape().dim; }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return subspaces() * block_tokens; }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return codebook_->bytes() + joint_->bytes(); }
  [[nodiscard]] std::size_t run_tokens() const noexcept { return unlimited_tokens; }
  [[nodiscard]] std::string describe() const { return message("pq44:m=", subspaces()); }

  void encode(FloatRows rows, RunPlace /*place*/, std::byte* block) const noexcept {
    PQKV_EXPECTS(rows.dim == dim() && rows.count >= 1 && rows.count <= block_tokens);
    auto* bytes = reinterpret_cast<std::uint8_t*>(block);
    for (std::size_t s = 0; s < subspaces(); ++s) {
      std::uint8_t codes[block_tokens] = {};
      isa::best().nearest_centroid(rows.data + s * width(), rows.count, rows.stride, width(), joint_->centroids(s),
                                   joint_->half_norms(s), stage * stage, codes);
      for (std::size_t t = 0; t < 16; ++t) {
        bytes[s * 32 + t] = static_cast<std::uint8_t>(codes[t] >> 4 | (codes[t + 16] & 0xf0));
        bytes[s * 32 + 16 + t] = static_cast<std::uint8_t>((codes[t] & 15) | (codes[t + 16] & 15) << 4);
      }
    }
  }
  void decode(const std::byte* block, std::size_t index, RunPlace /*place*/, float* row) const noexcept {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(block);
    for (std::size_t s = 0; s < subspaces(); ++s) {
      const std::size_t first = isa::scalar::pq4_code(bytes, 2 * s, index);
      const std::size_t second = isa::scalar::pq4_code(bytes, 2 * s + 1, index);
      for (std::size_t d = 0; d < width(); ++d) {
        row[s * width() + d] = joint_->centroids(s)[d * stage * stage + first * stage + second];
      }
    }
  }

  [[nodiscard]] bool rows_move() const noexcept { return true; }
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept {
    const auto* source = reinterpret_cast<const std::uint8_t*>(from);
    auto* target = reinterpret_cast<std::uint8_t*>(to);
    for (std::size_t s = 0; s < 2 * subspaces(); ++s) copy_nibble(source + s * 16, index, target + s * 16, to_index);
  }

  void prepare(QueryTable& table, FloatRows queries) const {
    table.prepare(queries.count, 2 * subspaces(), stage, [&](std::size_t q, float* plain) {
      for (std::size_t s = 0; s < subspaces(); ++s) {
        isa::best().centroid_dots(queries.row(q) + s * width(), width(), codebook_->centroids(s), 2 * stage,
                                  plain + s * 2 * stage);
      }
    });
  }
  void turn(QueryTable& /*table*/, std::int64_t /*origin*/) const noexcept {}

  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    isa::best().pq4_score(reinterpret_cast<const std::uint8_t*>(span.data), span.blocks(), 2 * subspaces(),
                          table.tables.data(), table.queries, table.scale, table.bias, scores, stride);
  }
  void bound(const QueryTable& table, float* scores) const noexcept { table.bounds(2 * subspaces(), stage, scores); }

 private:
  Pq44Keys(std::shared_ptr<const Codebook> codebook, std::shared_ptr<const Codebook> joint) noexcept
      : codebook_(std::move(codebook)), joint_(std::move(joint)) {}
  [[nodiscard]] std::size_t subspaces() const noexcept { return codebook_->shape().subspaces; }
  [[nodiscard]] std::size_t width() const noexcept { return codebook_->shape().width(); }

  std::shared_ptr<const Codebook> codebook_;
  std::shared_ptr<const Codebook> joint_;  // the 256 sums, for the search
};

static_assert(KeyPolicy<Pq44Keys> && Bounded<Pq44Keys> && RowMovable<Pq44Keys>);

}  // namespace pqkv::inline PQKV_ABI
