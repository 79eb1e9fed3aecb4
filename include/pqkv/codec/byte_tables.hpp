// ByteTables: the look-up tables of a group of queries as bytes, for formats whose tables live in registers. Layer 2.
// One scale per query serves all subspaces (each less its own minimum, whose sum is the bias), so that sums of entries can
// be taken in u16: at most 256·255 < 2¹⁶. A score is off by at most scale/2 per subspace, scale = the widest subspace's
// range / 255.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pqkv/base/buffer.hpp"
#include "pqkv/codec/rows_buffer.hpp"
#include "pqkv/isa/select.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// u8 tables [query][subspace][entry]; score = scale·Σ entries + bias.
struct ByteTables {
  Buffer<std::uint8_t> tables;
  RowsBuffer plain;  // one query's float table
  float scale[max_group] = {};
  float bias[max_group] = {};
  std::uint32_t most[max_group] = {};  // the sum of every subspace's largest entry
  std::size_t queries = 0;

  /// tabulate(q, table) writes query q's float table [subspace][entry]; `entries` is a multiple of 16.
  template <class Tabulate>
  void prepare(std::size_t query_count, std::size_t subspaces, std::size_t entries, const Tabulate& tabulate) noexcept {
    PQKV_EXPECTS(query_count <= max_group && subspaces <= 256);
    queries = query_count;
    plain.shape(1, subspaces * entries);
    if (!tables.grow(query_count * subspaces * entries)) __builtin_trap();
    for (std::size_t q = 0; q < query_count; ++q) {
      tabulate(q, plain.data());
      most[q] = isa::best().byte_table(plain.data(), subspaces, entries, tables.data() + q * subspaces * entries, &scale[q],
                                       &bias[q]);
    }
  }

  /// Per query the largest score that any codes can have.
  void bounds(float* scores) const noexcept {
    for (std::size_t q = 0; q < queries; ++q) scores[q] = scale[q] * static_cast<float>(most[q]) + bias[q];
  }
};

}  // namespace pqkv::inline PQKV_ABI
