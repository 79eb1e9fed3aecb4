// NuqValues<bits>: every channel of values rounded to trained levels of its own (codec/channel_levels.hpp: KVQuant's
// non-uniform quantisation, the block and its reason). Layer 3b. (KVQuant normalises values per token; levels per channel cost
// no bits, and its outliers, SparseValues around this format, take what few tokens do not fit.)
#pragma once

#include "pqkv/codec/channel_levels.hpp"
#include "pqkv/codec/rows_buffer.hpp"

namespace pqkv::inline PQKV_ABI {

template <std::size_t bits>
class NuqValues {
 public:
  static constexpr std::string_view name = ChannelLevels<bits>::name;

  /// [query][dim]
  struct WeightedSum {
    RowsBuffer rows;
  };

  /// Errors: invalid_shape unless the codebook has 2^bits centroids for each channel.
  [[nodiscard]] static Result<NuqValues> make(std::shared_ptr<const Codebook> codebook) {
    auto channels = ChannelLevels<bits>::make(std::move(codebook));
    if (!channels) return channels.error();
    return NuqValues(std::move(*channels));
  }

  [[nodiscard]] std::size_t dim() const noexcept { return channels_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return channels_.block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return channels_.codebook().bytes(); }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept { return channels_.codebook().id(); }
  [[nodiscard]] std::string describe() const { return std::string(name); }

  void encode(FloatRows rows, std::byte* block) const noexcept { channels_.encode(rows, block); }
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept { channels_.decode(block, index, row); }

  void begin(WeightedSum& sum, std::size_t queries) const {
    sum.rows.shape(queries, dim());
    sum.rows.fill(0);
  }
  void rescale(WeightedSum& sum, const float* factors) const noexcept { sum.rows.scale(factors); }
  void add(WeightedSum& sum, BlockSpan span, const float* weights, std::size_t stride) const noexcept {
    const std::size_t count = sum.rows.count();
    for (std::size_t b = 0; b < span.blocks(); ++b) {
      span.ask_ahead(b * block_bytes(), block_bytes());
      float mine[max_group * block_tokens];
      for (std::size_t q = 0; q < count; ++q) {
        std::copy_n(weights + q * stride + b * block_tokens, block_tokens, mine + q * block_tokens);
      }
      for (std::size_t first = 0; first < dim(); first += channels_at_once) {
        const std::size_t channels = std::min(channels_at_once, dim() - first);
        float tile[channels_at_once * block_tokens];
        float products[max_group * channels_at_once];
        channels_.unpack(span.data + b * block_bytes(), first, channels, tile);
        isa::best().dot_f32(tile, channels, block_tokens, mine, count, products, channels_at_once);
        for (std::size_t q = 0; q < count; ++q) {
          for (std::size_t c = 0; c < channels; ++c) sum.rows.row(q)[first + c] += products[q * channels_at_once + c];
        }
      }
    }
  }
  void finish(WeightedSum& sum, float* outs, std::size_t stride) const noexcept { sum.rows.add_to(outs, stride); }

 private:
  explicit NuqValues(ChannelLevels<bits> channels) noexcept : channels_(std::move(channels)) {}
  ChannelLevels<bits> channels_;
};

using Nuq4Values = NuqValues<4>;
using Nuq3Values = NuqValues<3>;
using Nuq2Values = NuqValues<2>;

static_assert(ValuePolicy<Nuq4Values> && ValuePolicy<Nuq3Values> && ValuePolicy<Nuq2Values>);

}  // namespace pqkv::inline PQKV_ABI
