// Rows for training: what attention saw while the model read a text.
#pragma once

#include <pqkv/train/importance.hpp>
#include <pqkv/train/init.hpp>

#include <algorithm>
#include <numeric>
#include <optional>
#include <vector>

#include "common/workers.hpp"
#include "tiny_llm/engine.hpp"

namespace tiny_llm {

/// Per (layer, kv head): rows of all tokens that were read, one behind the other. Queries are [token][group][dim].
struct HeadRows {
  std::vector<float> queries, keys, values;
  std::vector<float> importance;  ///< of each token (pqkv::attention_importance); only where it was asked for
};
struct CollectedRows {
  std::size_t kv_heads = 0;
  std::vector<HeadRows> heads;  ///< [layers][kv_heads]
  std::vector<std::int64_t> positions;  ///< of each token in its chunk
  [[nodiscard]] const HeadRows& head(std::size_t layer, std::size_t head) const { return heads[layer * kv_heads + head]; }
};

inline constexpr std::size_t all_chunks = ~std::size_t{0};

/// Cuts tokens into whole chunks of `context`; at most `limit`.
[[nodiscard]] inline std::vector<std::span<const std::uint32_t>> chunks_of(std::span<const std::uint32_t> tokens,
                                                                           std::size_t context, std::size_t limit) {
  std::vector<std::span<const std::uint32_t>> chunks;
  for (std::size_t at = 0; at + context <= tokens.size() && chunks.size() < limit; at += context) {
    chunks.push_back(tokens.subspan(at, context));
  }
  return chunks;
}

/// Tokens to train on; a codebook of 256 centroids gains little from more.
inline constexpr std::size_t calibration_tokens = 65536;

namespace detail {

/// Which tokens of a chunk are kept: all, or as many at random, in order.
[[nodiscard]] inline std::vector<std::size_t> kept_tokens(std::size_t tokens, std::size_t kept, std::uint64_t seed) {
  std::vector<std::size_t> picks(tokens);
  std::iota(picks.begin(), picks.end(), std::size_t{0});
  if (kept >= tokens) return picks;
  pqkv::Random random(seed);
  picks = pqkv::random_indices(tokens, kept, random);
  std::sort(picks.begin(), picks.end());
  return picks;
}

/// The rows of one chunk, kept ones only.
[[nodiscard]] inline pqkv::Result<CollectedRows> collect_chunk(const Model& model, std::span<const std::uint32_t> chunk,
                                                               const std::vector<std::size_t>& kept, bool importance) {
  auto sequence = make_sequence(model, {*pqkv::parse_cache_spec("k=exact:f32,v=exact:f32")}, {});
  if (!sequence) return sequence.error();
  CollectedRows rows{model.kv_heads, std::vector<HeadRows>(model.layers_count * model.kv_heads), {kept.begin(), kept.end()}};
  std::vector<std::int64_t> positions(chunk.size());
  std::iota(positions.begin(), positions.end(), std::int64_t{0});
  pqkv::Status failure;
  const auto keep = [&](std::size_t layer, const Matrix& queries, const Matrix& keys, const Matrix& values) {
    for (std::size_t h = 0; h < model.kv_heads; ++h) {
      HeadRows& head = rows.heads[layer * model.kv_heads + h];
      // The columns of this head in all rows, one row behind the other.
      const auto cut = [h](const Matrix& all, std::size_t columns) {
        return Matrix(all.middleCols(static_cast<Eigen::Index>(h * columns), static_cast<Eigen::Index>(columns)));
      };
      const auto append = [&kept](std::vector<float>& out, const Matrix& mine) {
        for (const std::size_t t : kept) {
          const float* first = &mine(static_cast<Eigen::Index>(t), 0);
          out.insert(out.end(), first, first + mine.cols());
        }
      };
      const Matrix my_queries = cut(queries, model.group() * model.dim), my_keys = cut(keys, model.dim);
      append(head.queries, my_queries);
      append(head.keys, my_keys);
      append(head.values, cut(values, model.dim));
      if (!importance) continue;
      const auto weights = pqkv::attention_importance({my_queries.data(), chunk.size() * model.group(), model.dim}, model.group(),
                                                      {my_keys.data(), chunk.size(), model.dim}, positions);
      if (!weights) {
        failure = weights.error();
        return;
      }
      for (const std::size_t t : kept) head.importance.push_back((*weights)[t]);
    }
  };
  if (auto logits = forward(model, *sequence, chunk, false, {}, keep); !logits) return logits.error();
  if (!failure) return failure.error();
  return rows;
}

}  // namespace detail

/// Reads the chunks with an exact cache and keeps what attention saw: of all tokens, or of about `limit` of them, drawn
/// from every chunk, the last chunks whole (so that training can judge attention on them).
[[nodiscard]] inline pqkv::Result<CollectedRows> collect_rows(const Model& model,
                                                              const std::vector<std::span<const std::uint32_t>>& chunks,
                                                              const common::Workers& workers, bool importance = false,
                                                              std::size_t limit = calibration_tokens) {
  constexpr std::size_t whole_chunks = 3;
  const std::size_t share = std::max<std::size_t>(1, limit / std::max<std::size_t>(1, chunks.size()));
  std::vector<std::optional<pqkv::Result<CollectedRows>>> parts(chunks.size());
  workers.run(chunks.size(), [&](std::size_t c, std::size_t) {
    const bool whole = c + whole_chunks >= chunks.size();
    const auto kept = detail::kept_tokens(chunks[c].size(), whole ? chunks[c].size() : share, c);
    parts[c].emplace(detail::collect_chunk(model, chunks[c], kept, importance));
  });
  CollectedRows all{model.kv_heads, std::vector<HeadRows>(model.layers_count * model.kv_heads), {}};
  for (auto& part : parts) {
    if (!*part) return part->error();
    CollectedRows& rows = **part;
    for (std::size_t i = 0; i < all.heads.size(); ++i) {
      for (const auto side : {&HeadRows::queries, &HeadRows::keys, &HeadRows::values, &HeadRows::importance}) {
        std::vector<float>& out = all.heads[i].*side;
        out.insert(out.end(), (rows.heads[i].*side).begin(), (rows.heads[i].*side).end());
      }
    }
    all.positions.insert(all.positions.end(), rows.positions.begin(), rows.positions.end());
    part.reset();
  }
  return all;
}

}  // namespace tiny_llm
