// MixedValues<V>: a few channels in f16 beside any smaller format for the others. Layer 3b.
// Formats whose elements share a range per group of channels lose all of its steps to the widest channel; that one is kept
// exact and the others have the range to themselves (the outlier channels of mixed-precision caches).
//
//   block: | that of V, all channels | fine channels f16 [channel][32 tokens] |
//
// 16 bits per fine channel and token beside V's. In V's part a fine channel repeats a neighbour, so that it widens no range and
// V needs no other dim. Sums of V's and of the fine channels are put together in finish().
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "pqkv/codec/codebook.hpp"
#include "pqkv/codec/rows_buffer.hpp"
#include "pqkv/isa/select.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// The `count` channels whose levels reach farthest, ascending: `levels` has some for each single channel, as trained for
/// formats like nuq2.
PQKV_WHEN_CALLED [[nodiscard]] std::vector<std::uint16_t> widest_channels(const Codebook& levels, std::size_t count) {
  const CodebookShape& shape = levels.shape();
  PQKV_EXPECTS(shape.subspaces == shape.dim && count <= shape.dim);
  std::vector<std::pair<float, std::uint16_t>> reach(shape.dim);
  for (std::size_t c = 0; c < shape.dim; ++c) {
    const auto [least, most] = std::minmax_element(levels.centroids(c), levels.centroids(c) + shape.centroids);
    reach[c] = {*least - *most, static_cast<std::uint16_t>(c)};
  }
  std::sort(reach.begin(), reach.end());
  std::vector<std::uint16_t> channels(count);
  for (std::size_t i = 0; i < count; ++i) channels[i] = reach[i].second;
  std::sort(channels.begin(), channels.end());
  return channels;
}

template <ValuePolicy V>
class MixedValues {
 public:
  static constexpr std::size_t max_dim = 1024;
  static constexpr std::size_t max_fine = 64;

  struct WeightedSum {
    typename V::WeightedSum inner;
    RowsBuffer fine;   // [query][fine channel]
    RowsBuffer whole;  // finish: V's sums
  };

  /// `channels`: those kept in f16, ascending. Errors: invalid_shape unless there are 1..64 of them, fewer than dim.
  [[nodiscard]] static Result<MixedValues> make(V inner, std::vector<std::uint16_t> channels) {
    const std::size_t dim = inner.dim();
    const bool rising = std::is_sorted(channels.begin(), channels.end(), std::less_equal<>());
    if (channels.empty() || channels.size() > max_fine || channels.size() >= dim || dim > max_dim || !rising ||
        channels.back() >= dim) {
      return Error{Errc::invalid_shape, message(channels.size(), " fine channels of ", dim, ": choose 1..", std::size_t{max_fine},
                                                ", fewer than dim (at most ", std::size_t{max_dim}, "), different ones")};
    }
    return MixedValues(std::move(inner), std::move(channels));
  }

  [[nodiscard]] const std::vector<std::uint16_t>& channels() const noexcept { return channels_; }
  [[nodiscard]] std::size_t dim() const noexcept { return inner_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept {
    return inner_.block_bytes() + channels_.size() * block_tokens * sizeof(f16);
  }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept {
    return inner_.codebook_bytes() + channels_.size() * sizeof(std::uint16_t);
  }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept {
    Fingerprint fingerprint;
    if constexpr (requires { inner_.codebook_id(); }) fingerprint.add(inner_.codebook_id());
    for (const std::uint16_t channel : channels_) fingerprint.add(std::uint64_t{channel});
    return fingerprint.value();
  }
  [[nodiscard]] std::string describe() const { return message(inner_.describe(), ":fine=", channels_.size()); }

  /// Elements of fine channels beyond ±65504 saturate.
  void encode(FloatRows rows, std::byte* block) const noexcept {
    PQKV_EXPECTS(rows.dim == dim() && rows.count >= 1 && rows.count <= block_tokens);
    float others[block_tokens * max_dim];
    float fine[max_fine * block_tokens] = {};
    for (std::size_t t = 0; t < rows.count; ++t) {
      std::copy_n(rows.row(t), dim(), others + t * dim());
      for (std::size_t i = 0; i < channels_.size(); ++i) {
        fine[i * block_tokens + t] = std::clamp(rows.row(t)[channels_[i]], -65504.0f, 65504.0f);
        others[t * dim() + channels_[i]] = rows.row(t)[neighbours_[i]];
      }
    }
    inner_.encode({others, rows.count, dim()}, block);
    f16 stored[max_fine * block_tokens];
    isa::best().f32_to_f16(fine, channels_.size() * block_tokens, stored);
    std::memcpy(block + inner_.block_bytes(), stored, channels_.size() * block_tokens * sizeof(f16));
  }
  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    inner_.decode(block, index, row);
    for (std::size_t i = 0; i < channels_.size(); ++i) {
      f16 stored{};
      std::memcpy(&stored, block + inner_.block_bytes() + (i * block_tokens + index) * sizeof(f16), sizeof stored);
      row[channels_[i]] = to_float(stored);
    }
  }

  void begin(WeightedSum& sum, std::size_t queries) const {
    inner_.begin(sum.inner, queries);
    sum.fine.shape(queries, channels_.size());
    sum.fine.fill(0);
    sum.whole.shape(queries, dim());
  }
  void rescale(WeightedSum& sum, const float* factors) const noexcept {
    inner_.rescale(sum.inner, factors);
    sum.fine.scale(factors);
  }
  void add(WeightedSum& sum, BlockSpan span, const float* weights, std::size_t stride) const noexcept {
    const std::size_t count = sum.fine.count(), fine = channels_.size();
    for (std::size_t b = 0; b < span.blocks(); ++b) {
      const std::byte* block = span.data + b * block_bytes();
      const float* mine = weights + b * block_tokens;
      const std::size_t tokens = std::min(block_tokens, span.tokens - b * block_tokens);
      inner_.add(sum.inner, {block, tokens, span.offset + b * block_tokens, nullptr, span.ahead}, mine, stride);
      span.ask_ahead(b * block_bytes() + inner_.block_bytes(), block_bytes() - inner_.block_bytes());
      float rows[max_fine * block_tokens];
      f16 stored[max_fine * block_tokens];
      std::memcpy(stored, block + inner_.block_bytes(), fine * block_tokens * sizeof(f16));
      isa::best().f16_to_f32(stored, fine * block_tokens, rows);
      for (std::size_t q = 0; q < count; ++q) {
        float products[max_fine];
        isa::best().dot_f32(rows, fine, block_tokens, mine + q * stride, 1, products, fine);
        for (std::size_t i = 0; i < fine; ++i) sum.fine.row(q)[i] += products[i];
      }
    }
  }
  void finish(WeightedSum& sum, float* outs, std::size_t stride) const noexcept {
    sum.whole.fill(0);
    inner_.finish(sum.inner, sum.whole.data(), dim());
    for (std::size_t q = 0; q < sum.fine.count(); ++q) {
      for (std::size_t i = 0; i < channels_.size(); ++i) sum.whole.row(q)[channels_[i]] = sum.fine.row(q)[i];
    }
    sum.whole.add_to(outs, stride);
  }

 private:
  MixedValues(V inner, std::vector<std::uint16_t> channels)
      : inner_(std::move(inner)), channels_(std::move(channels)), neighbours_(channels_.size()) {
    for (std::size_t i = 0; i < channels_.size(); ++i) {
      std::size_t distance = inner_.dim() + 8;
      for (std::size_t c = 0; c < inner_.dim(); ++c) {
        const bool same_group = c / 8 == channels_[i] / std::size_t{8};  // no format has groups of fewer than 8 channels
        const std::size_t mine = c > channels_[i] ? c - channels_[i] : channels_[i] - c;
        if (std::binary_search(channels_.begin(), channels_.end(), c) || mine + (same_group ? 0 : 8) >= distance) continue;
        distance = mine + (same_group ? 0 : 8);
        neighbours_[i] = static_cast<std::uint16_t>(c);
      }
    }
  }

  V inner_;
  std::vector<std::uint16_t> channels_;
  std::vector<std::uint16_t> neighbours_;  // of each fine channel the one that it repeats in V's part
};

}  // namespace pqkv::inline PQKV_ABI
