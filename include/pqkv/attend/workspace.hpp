// Workspace: the scratch memory of one worker, so that attention allocates nothing after the first step. Layer 5.
#pragma once

#include <vector>

#include "pqkv/attend/partial.hpp"
#include "pqkv/attend/tile.hpp"
#include "pqkv/cache/head_cache.hpp"

namespace pqkv::inline PQKV_ABI {

/// Not shared between threads at one time; serves any head of caches with these policies.
template <KeyPolicy K, ValuePolicy V>
struct Workspace {
  typename K::QueryTable table;
  typename V::WeightedSum sum;
  Partial partial;
  RowsBuffer queries;  // scaled, [query][dim]
  RowsBuffer turned;   // the queries, turned back by as far as some tokens were moved
  RowsBuffer angles;   // cosines and sines of that
  RowsBuffer scores;   // [query][tile]
  LateBlocks late;
  RowsBuffer chunk;    // extend: keys and values of the chunk, in float
  Buffer<std::byte> waiting;  // code_waiting: a key block and a value block
  RowsBuffer aged;     // code_waiting: rows on their way into them
  RowsBuffer seen;     // extend: the saliency of the chunk's tokens
  RowsBuffer outs;     // extend: outputs of a batch of queries
  std::vector<Partial> shares;  // attend_layer, the first worker's: [head][share] of heads that workers share
  float skipped_mass = 0;       // attend_batch: the largest over this worker's heads

  /// Makes the buffers for groups of `group` queries on this head, so that attend on it allocates nothing.
  void reserve(const HeadCache<K, V>& head, std::size_t group) {
    PQKV_EXPECTS(group >= 1 && group <= max_group);
    queries.shape(group, head.dim());
    queries.fill(0);
    scores.shape(group, tile_tokens(group));
    late.reset(group, tile_tokens(group) / block_tokens);
    outs.shape(group, head.dim());
    turned.shape(group, head.dim());
    angles.shape(2, head.options().rope != nullptr ? head.options().rope->pairs() : 0);
    partial.reset(group, head.dim());
    head.keys().prepare(table, {queries.data(), group, head.dim()});
    head.values().begin(sum, group);
  }
};

}  // namespace pqkv::inline PQKV_ABI
