// CompressedKVCache: layers × kv heads of HeadCache, each with its own policies (codebooks are per layer and head). Layer 4.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pqkv/cache/head_cache.hpp"

namespace pqkv::inline PQKV_ABI {

/// What the cache serves: rows of `dim` elements for each kv head of each layer.
struct CacheShape {
  std::size_t layers = 1;
  std::size_t kv_heads = 1;
  std::size_t dim = 0;
};

template <KeyPolicy K, ValuePolicy V>
class CompressedKVCache {
 public:
  using Head = HeadCache<K, V>;

  /// Policies of each head, [layers][kv_heads], or one for all. Errors: invalid_shape.
  [[nodiscard]] static Result<CompressedKVCache> make(const CacheShape& shape, const std::vector<K>& keys,
                                                      const std::vector<V>& values, const CacheOptions& options = {}) {
    const std::size_t heads = shape.layers * shape.kv_heads;
    if (heads == 0 || shape.dim == 0) {
      return Error{Errc::invalid_shape,
                   message("a cache of ", shape.layers, " layers × ", shape.kv_heads, " kv heads × dim ", shape.dim)};
    }
    if ((keys.size() != 1 && keys.size() != heads) || (values.size() != 1 && values.size() != heads)) {
      return Error{Errc::invalid_shape, message(keys.size(), " key policies and ", values.size(),
                                                " value policies for ", heads, " heads; give one each, or one for all")};
    }
    CompressedKVCache cache(shape);
    cache.heads_.reserve(heads);
    for (std::size_t i = 0; i < heads; ++i) {
      const K& key = keys[keys.size() == 1 ? 0 : i];
      const V& value = values[values.size() == 1 ? 0 : i];
      if (key.dim() != shape.dim || value.dim() != shape.dim) {
        return Error{Errc::invalid_shape,
                     message("layer ", i / shape.kv_heads, " head ", i % shape.kv_heads, ": policies of dim ",
                             key.dim(), " (keys) and ", value.dim(), " (values) in a cache of dim ", shape.dim)};
      }
      cache.heads_.emplace_back(key, value, options);
    }
    return cache;
  }

  /// A cache of heads that were made (loaded) one by one, [layers][kv_heads]. Expects as many as the shape has, of its dim.
  [[nodiscard]] static CompressedKVCache of_heads(const CacheShape& shape, std::vector<Head> heads) noexcept {
    PQKV_EXPECTS(heads.size() == shape.layers * shape.kv_heads);
    CompressedKVCache cache(shape);
    cache.heads_ = std::move(heads);
    return cache;
  }

  [[nodiscard]] const CacheShape& shape() const noexcept { return shape_; }
  [[nodiscard]] Head& head(std::size_t layer, std::size_t head) noexcept {
    PQKV_EXPECTS(layer < shape_.layers && head < shape_.kv_heads);
    return heads_[layer * shape_.kv_heads + head];
  }
  [[nodiscard]] const Head& head(std::size_t layer, std::size_t head) const noexcept {
    PQKV_EXPECTS(layer < shape_.layers && head < shape_.kv_heads);
    return heads_[layer * shape_.kv_heads + head];
  }
  /// Tokens of one layer (its heads are in step while append_layer is used and nothing is erased per head).
  [[nodiscard]] std::size_t tokens(std::size_t layer = 0) const noexcept { return head(layer, 0).tokens(); }
  /// Tokens of all heads together.
  [[nodiscard]] std::size_t total_tokens() const noexcept {
    std::size_t sum = 0;
    for (const Head& head : heads_) sum += head.tokens();
    return sum;
  }

  /// Room for `tokens` tokens in every head.
  [[nodiscard]] Status reserve(std::size_t tokens) {
    for (Head& head : heads_) {
      if (Status status = head.reserve(tokens); !status) return status;
    }
    return {};
  }

  /// Appends tokens to one head.
  [[nodiscard]] Status append(std::size_t layer, std::size_t head_index, Rows keys, Rows values) {
    return head(layer, head_index).append(keys, values);
  }

  /// Checks rows of [kv_heads][dim] for all heads of a layer, and reserves the room.
  [[nodiscard]] Status prepare_append_layer(std::size_t layer, Rows keys, Rows values) {
    const std::size_t width = shape_.kv_heads * shape_.dim;
    if (keys.dim != width || values.dim != width) {
      return Error{Errc::invalid_shape, message("rows of ", keys.dim, " (keys) and ", values.dim,
                                                " (values) elements for ", shape_.kv_heads, " kv heads of dim ",
                                                shape_.dim)};
    }
    for (std::size_t h = 0; h < shape_.kv_heads; ++h) {
      if (Status status = head(layer, h).prepare_append(head_rows(keys, h), head_rows(values, h)); !status) {
        return Error{status.error().code, message("layer ", layer, " head ", h, ": ", status.error().message)};
      }
    }
    return {};
  }

  /// Appends tokens to all heads of a layer; a row is a token's [kv_heads][dim]. All heads or none.
  [[nodiscard]] Status append_layer(std::size_t layer, Rows keys, Rows values) {
    if (Status status = prepare_append_layer(layer, keys, values); !status) return status;
    for (std::size_t h = 0; h < shape_.kv_heads; ++h) {
      head(layer, h).append_prepared(head_rows(keys, h), head_rows(values, h));
    }
    return {};
  }

  /// The columns of one head in rows of [kv_heads][dim].
  [[nodiscard]] Rows head_rows(Rows rows, std::size_t head) const noexcept {
    return {static_cast<const std::byte*>(rows.data) + head * shape_.dim * size_of(rows.type), rows.type, rows.count,
            shape_.dim, rows.stride};
  }

  /// A cache with the same tokens in every head (HeadCache::fork). Errors: out_of_memory.
  [[nodiscard]] Result<CompressedKVCache> fork() const {
    CompressedKVCache copy(shape_);
    copy.heads_.reserve(heads_.size());
    for (const Head& head : heads_) {
      auto forked = head.fork();
      if (!forked) return forked.error();
      copy.heads_.push_back(std::move(forked).value());
    }
    return copy;
  }

  /// Keeps the first `tokens` tokens of every head (HeadCache::truncate).
  void truncate(std::size_t tokens) noexcept {
    for (Head& head : heads_) head.truncate(tokens);
  }
  /// Drops the newest `tokens` tokens of every head, however long each is: what speculative decoding takes back.
  void drop_newest(std::size_t tokens) noexcept {
    for (Head& head : heads_) head.truncate(head.tokens() - std::min(tokens, head.tokens()));
  }
  void clear() noexcept {
    for (Head& head : heads_) head.clear();
  }
  /// HeadCache::erase in every head, or in none.
  [[nodiscard]] Status erase(TokenRange range, Gap gap = Gap::keep) {
    return change([&](Head& head) { return head.prepare_erase(std::span(&range, 1), gap); },
                  [&](Head& head) { head.erase_prepared(std::span(&range, 1), gap); });
  }
  /// Other ranges in each head, [layers][kv_heads] lists, in all of them or in none; heads may then differ in length, and
  /// append_layer and attend_layer serve them as before. Gap::close needs as many erased tokens in each, for one step of the
  /// engine has one position. Errors: invalid_shape, invalid_parameter, out_of_memory, cache_full.
  [[nodiscard]] Status erase(std::span<const std::vector<TokenRange>> ranges, Gap gap = Gap::keep) {
    if (ranges.size() != heads_.size()) {
      return Error{Errc::invalid_shape, message("ranges for ", ranges.size(), " of ", heads_.size(), " heads")};
    }
    for (std::size_t i = 1; i < ranges.size() && gap == Gap::close; ++i) {
      if (count_of(ranges[i]) == count_of(ranges[0])) continue;
      return Error{Errc::invalid_parameter, message("closing gaps of ", count_of(ranges[0]), " and ", count_of(ranges[i]),
                                                    " tokens would leave heads at different positions")};
    }
    const auto mine = [&](const Head& head) -> const std::vector<TokenRange>& {
      return ranges[static_cast<std::size_t>(&head - heads_.data())];
    };
    return change([&](Head& head) { return head.prepare_erase(mine(head), gap); },
                  [&](Head& head) { head.erase_prepared(mine(head), gap); });
  }
  /// HeadCache::shift in every head, or in none.
  [[nodiscard]] Status shift(TokenRange range, std::int64_t delta) {
    return change([&](Head& head) { return head.prepare_shift(range); },
                  [&](Head& head) { head.shift_prepared(range, delta); });
  }
  void trim() noexcept {
    for (Head& head : heads_) head.trim();
  }

  /// Every byte allocated for tokens, pages shared with forks included (HeadCache::bytes).
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t sum = 0;
    for (const Head& head : heads_) sum += head.bytes();
    return sum;
  }
  /// The part of bytes() that no fork holds as well.
  [[nodiscard]] std::size_t own_bytes() const noexcept {
    std::size_t sum = 0;
    for (const Head& head : heads_) sum += head.own_bytes();
    return sum;
  }
  /// What one compressed token costs over all layers and heads.
  [[nodiscard]] double bytes_per_token() const noexcept {
    double sum = 0;
    for (const Head& head : heads_) sum += head.bytes_per_token();
    return sum;
  }
  /// "6 layers × 2 kv heads × dim 64, k=pq4:m=16,v=int4:g=32,sinks=4,recent=64,window=f32" (policies of the first head).
  [[nodiscard]] std::string describe() const {
    const Head& first = heads_.front();
    return message(shape_.layers, " layers × ", shape_.kv_heads, " kv heads × dim ", shape_.dim, ", k=",
                   first.keys().describe(), ",v=", first.values().describe(), ",sinks=", first.options().sinks,
                   ",recent=", first.options().recent, ",window=", name_of(first.options().window));
  }

 private:
  explicit CompressedKVCache(const CacheShape& shape) noexcept : shape_(shape) {}

  template <class Prepare, class Change>
  [[nodiscard]] Status change(const Prepare& prepare, const Change& apply) {
    for (std::size_t i = 0; i < heads_.size(); ++i) {
      if (Status status = prepare(heads_[i]); !status) {
        return Error{status.error().code, message("layer ", i / shape_.kv_heads, " head ", i % shape_.kv_heads, ": ",
                                                  status.error().message)};
      }
    }
    for (Head& head : heads_) apply(head);
    return {};
  }

  CacheShape shape_;
  std::vector<Head> heads_;
};

}  // namespace pqkv::inline PQKV_ABI
