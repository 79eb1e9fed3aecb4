// PrunedKeys<K>: any key format over some of the channels; the others count as 0. Layer 3b.
// Xu et al.: ThinK (2025): a channel matters by what it adds to q · k, ‖Q_c K_cᵀ‖_F = ‖Q_c‖·‖K_c‖ over the last queries and
// all keys of the prompt (‖Q_c‖ over all query heads that share the kv head); 40 to 60 % of the channels of a head may go.
// Exact windows stay whole, as in the paper.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pqkv/base/result.hpp"
#include "pqkv/codec/fingerprint.hpp"
#include "pqkv/codec/rows_buffer.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// The `count` channels with the largest ‖Q_c‖·‖K_c‖, ascending; of equals the first. Expects queries.dim == keys.dim.
PQKV_WHEN_CALLED [[nodiscard]] std::vector<std::size_t> strongest_channels(FloatRows queries, FloatRows keys, std::size_t count) {
  PQKV_EXPECTS(queries.dim == keys.dim && count <= keys.dim);
  const auto squares_of = [](FloatRows rows, std::size_t channel) {
    double sum = 0;
    for (std::size_t i = 0; i < rows.count; ++i) {
      sum += static_cast<double>(rows.row(i)[channel]) * static_cast<double>(rows.row(i)[channel]);
    }
    return sum;
  };
  std::vector<double> scores;
  std::vector<std::size_t> order;
  for (std::size_t c = 0; c < keys.dim; ++c) {
    scores.push_back(squares_of(queries, c) * squares_of(keys, c));
    order.push_back(c);
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

template <KeyPolicy K>
class PrunedKeys {
 public:
  /// Rows of a block are gathered on the stack.
  static constexpr std::size_t max_channels = 1024;

  struct QueryTable {
    typename K::QueryTable inner;
    RowsBuffer queries;  // the kept channels
  };

  /// `inner` codes the kept `channels` (ascending) of rows of `dim`. Errors: invalid_shape.
  [[nodiscard]] static Result<PrunedKeys> make(K inner, std::vector<std::size_t> channels, std::size_t dim) {
    const bool ascending = std::is_sorted(channels.begin(), channels.end()) &&
                           std::adjacent_find(channels.begin(), channels.end()) == channels.end();
    if (!ascending || channels.empty() || channels.back() >= dim || inner.dim() != channels.size() ||
        channels.size() > max_channels) {
      return Error{Errc::invalid_shape,
                   message("a format of dim ", inner.dim(), " for ", channels.size(), " channels of rows of ", dim,
                           "; they must be ascending, below it and at most ", max_channels)};
    }
    return PrunedKeys(std::move(inner), std::make_shared<const std::vector<std::size_t>>(std::move(channels)), dim);
  }

  [[nodiscard]] const std::vector<std::size_t>& channels() const noexcept { return *channels_; }
  [[nodiscard]] std::size_t dim() const noexcept { return dim_; }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return inner_.block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept {
    return inner_.codebook_bytes() + channels_->size() * sizeof(std::size_t);
  }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept {
    Fingerprint fingerprint;
    if constexpr (requires { inner_.codebook_id(); }) fingerprint.add(inner_.codebook_id());
    for (const std::size_t channel : *channels_) fingerprint.add(std::uint64_t{channel});
    return fingerprint.value();
  }
  [[nodiscard]] std::size_t run_tokens() const noexcept { return inner_.run_tokens(); }
  [[nodiscard]] std::string describe() const { return message(inner_.describe(), ":channels=", channels_->size(), "/", dim_); }

  void encode(FloatRows rows, RunPlace place, std::byte* block) const noexcept {
    PQKV_EXPECTS(rows.dim == dim_ && rows.count <= block_tokens);
    float kept[block_tokens * max_channels];
    for (std::size_t t = 0; t < rows.count; ++t) gather(rows.row(t), kept + t * channels_->size());
    inner_.encode({kept, rows.count, channels_->size()}, place, block);
  }
  void decode(const std::byte* block, std::size_t index, RunPlace place, float* row) const noexcept {
    float kept[max_channels];
    inner_.decode(block, index, place, kept);
    std::fill_n(row, dim_, 0.0f);
    for (std::size_t i = 0; i < channels_->size(); ++i) row[(*channels_)[i]] = kept[i];
  }
  [[nodiscard]] bool rows_move() const noexcept
    requires RowMovable<K>
  {
    return inner_.rows_move();
  }
  [[nodiscard]] bool needs_origin() const noexcept { return pqkv::needs_origin(inner_); }
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept
    requires RowMovable<K>
  {
    inner_.copy_row(from, index, to, to_index);
  }

  void prepare(QueryTable& table, FloatRows queries) const {
    table.queries.shape(queries.count, channels_->size());
    for (std::size_t q = 0; q < queries.count; ++q) gather(queries.row(q), table.queries.row(q));
    inner_.prepare(table.inner, {table.queries.data(), queries.count, channels_->size()});
  }
  void turn(QueryTable& table, std::int64_t origin) const noexcept { inner_.turn(table.inner, origin); }
  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    inner_.score(table.inner, span, scores, stride);
  }
  void bound(const QueryTable& table, float* scores) const noexcept
    requires Bounded<K>
  {
    inner_.bound(table.inner, scores);
  }

 private:
  PrunedKeys(K inner, std::shared_ptr<const std::vector<std::size_t>> channels, std::size_t dim) noexcept
      : inner_(std::move(inner)), channels_(std::move(channels)), dim_(dim) {}
  void gather(const float* row, float* kept) const noexcept {
    for (std::size_t i = 0; i < channels_->size(); ++i) kept[i] = row[(*channels_)[i]];
  }

  K inner_;
  std::shared_ptr<const std::vector<std::size_t>> channels_;
  std::size_t dim_;
};

}  // namespace pqkv::inline PQKV_ABI
