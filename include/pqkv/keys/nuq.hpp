// NuqKeys<bits>: every channel of keys rounded to trained levels of its own (codec/channel_levels.hpp: KVQuant's non-uniform
// quantisation, the block and its reason). Layer 3b. KVQuant's outliers are SparseKeys (keys/sparse.hpp) around it, and that
// it quantises keys before RoPE is a space in front (keys/spaced.hpp) with short runs.
#pragma once

#include "pqkv/codec/channel_levels.hpp"
#include "pqkv/codec/rows_buffer.hpp"

namespace pqkv::inline PQKV_ABI {

template <std::size_t bits>
class NuqKeys {
 public:
  static constexpr std::string_view name = ChannelLevels<bits>::name;

  /// The queries themselves, [query][dim].
  struct QueryTable {
    RowsBuffer queries;
  };

  /// Errors: invalid_shape unless the codebook has 2^bits centroids for each channel.
  [[nodiscard]] static Result<NuqKeys> make(std::shared_ptr<const Codebook> codebook) {
    auto channels = ChannelLevels<bits>::make(std::move(codebook));
    if (!channels) return channels.error();
    return NuqKeys(std::move(*channels));
  }

  [[nodiscard]] std::size_t dim() const noexcept { return channels_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return channels_.block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return channels_.codebook().bytes(); }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept { return channels_.codebook().id(); }
  [[nodiscard]] std::size_t run_tokens() const noexcept { return unlimited_tokens; }
  [[nodiscard]] std::string describe() const { return std::string(name); }

  void encode(FloatRows rows, RunPlace /*place*/, std::byte* block) const noexcept { channels_.encode(rows, block); }
  void decode(const std::byte* block, std::size_t index, RunPlace /*place*/, float* row) const noexcept {
    channels_.decode(block, index, row);
  }

  void prepare(QueryTable& table, FloatRows queries) const { table.queries.assign(queries); }
  void turn(QueryTable& /*table*/, std::int64_t /*origin*/) const noexcept {}

  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    const std::size_t count = table.queries.count();
    for (std::size_t b = 0; b < span.blocks(); ++b) {
      span.ask_ahead(b * block_bytes(), block_bytes());
      float sums[max_group * block_tokens] = {};
      add_channel_dots(table.queries.data(), count, dim(), sums, [&](std::size_t first, std::size_t channels, float* tile) {
        channels_.unpack(span.data + b * block_bytes(), first, channels, tile);
      });
      for (std::size_t q = 0; q < count; ++q) {
        std::copy_n(sums + q * block_tokens, block_tokens, scores + q * stride + b * block_tokens);
      }
    }
  }

 private:
  explicit NuqKeys(ChannelLevels<bits> channels) noexcept : channels_(std::move(channels)) {}
  ChannelLevels<bits> channels_;
};

using Nuq4Keys = NuqKeys<4>;
using Nuq3Keys = NuqKeys<3>;
using Nuq2Keys = NuqKeys<2>;

static_assert(KeyPolicy<Nuq4Keys> && KeyPolicy<Nuq3Keys> && KeyPolicy<Nuq2Keys>);

}  // namespace pqkv::inline PQKV_ABI
