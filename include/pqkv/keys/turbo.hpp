// TurboKeys<bits>: keys turned by a fixed random rotation and rounded to the levels of a normal distribution, without any
// training: TurboQuant (codec/rotated_levels.hpp has the source, the block and the reasons). Layer 3b.
// Queries are turned likewise, once per step; per block levels become floats once for all queries of the group.
#pragma once

#include "pqkv/codec/rotated_levels.hpp"
#include "pqkv/codec/rows_buffer.hpp"

namespace pqkv::inline PQKV_ABI {

template <std::size_t bits>
class TurboKeys {
  using Coder = RotatedLevels<bits, Order::channels>;

 public:
  static constexpr std::string_view name = Coder::name;

  /// The turned queries, [query][dim].
  struct QueryTable {
    RowsBuffer queries;
  };

  /// The same seed gives the same rotation everywhere. Errors: invalid_shape unless dim is a multiple of 16, at most 1024.
  [[nodiscard]] static Result<TurboKeys> make(std::size_t dim, std::uint64_t seed = Coder::default_seed) {
    auto coder = Coder::make(dim, seed);
    if (!coder) return coder.error();
    return TurboKeys(std::move(*coder));
  }

  [[nodiscard]] std::size_t dim() const noexcept { return coder_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return coder_.block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return 0; }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept { return coder_.seed(); }
  [[nodiscard]] std::size_t run_tokens() const noexcept { return unlimited_tokens; }
  [[nodiscard]] std::string describe() const { return coder_.describe(); }

  void encode(FloatRows rows, RunPlace /*place*/, std::byte* block) const noexcept { coder_.encode(rows, block); }
  void decode(const std::byte* block, std::size_t index, RunPlace /*place*/, float* row) const noexcept {
    coder_.decode(block, index, row);
  }

  void prepare(QueryTable& table, FloatRows queries) const {
    table.queries.assign(queries);
    for (std::size_t q = 0; q < queries.count; ++q) coder_.rotation().turn(table.queries.row(q));
  }
  void turn(QueryTable& /*table*/, std::int64_t /*origin*/) const noexcept {}

  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    const std::size_t count = table.queries.count();
    for (std::size_t b = 0; b < span.blocks(); ++b) {
      span.ask_ahead(b * block_bytes(), block_bytes());
      const std::byte* block = span.data + b * block_bytes();
      float sums[max_group * block_tokens] = {};
      add_channel_dots(table.queries.data(), count, dim(), sums, [&](std::size_t first, std::size_t channels, float* tile) {
        coder_.unpack(block, first, channels, tile);
      });
      float lengths[block_tokens];
      coder_.lengths(block, lengths);
      for (std::size_t q = 0; q < count; ++q) {
        for (std::size_t t = 0; t < block_tokens; ++t) {
          scores[q * stride + b * block_tokens + t] = sums[q * block_tokens + t] * lengths[t];
        }
      }
    }
  }

 private:
  explicit TurboKeys(Coder coder) noexcept : coder_(std::move(coder)) {}
  Coder coder_;
};

using Turbo4Keys = TurboKeys<4>;
using Turbo3Keys = TurboKeys<3>;
using Turbo2Keys = TurboKeys<2>;

static_assert(KeyPolicy<Turbo4Keys> && KeyPolicy<Turbo3Keys> && KeyPolicy<Turbo2Keys>);

}  // namespace pqkv::inline PQKV_ABI
