// CodeSpace: the coordinates in which a codebook's centroids live, where they are not the rows' own. Layer 2.
//
// A row k at position s, in a run with origin o, becomes  x = A·(R(−o)·k − R(s−o)·μ):
//   R(−o)   turns the whole run back to where it began (RoPE): a short run is close to keys before rotation;
//   μ       the mean before rotation, which carries much of the keys' energy; R(s−o)·μ is known and never stored;
//   A       any invertible matrix: the queries' metric, a rotation that balances the subspaces.
// A query becomes  A⁻ᵀ·R(−o)·q, and a score is that times x, plus (R(−o)·q)·R(s−o)·μ: exact in what was stored.
// Values have neither R nor positions: x = A·(v − μ), and a weighted sum is A⁻¹·Σ + μ·(sum of the weights).
// Where lengths are kept apart (codec/gain.hpp), A makes the root mean square of them 1, and a codebook is of x/‖x‖.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "pqkv/base/buffer.hpp"
#include "pqkv/base/result.hpp"
#include "pqkv/base/rows.hpp"
#include "pqkv/codec/fingerprint.hpp"
#include "pqkv/codec/rope.hpp"
#include "pqkv/isa/select.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// What a CodeSpace is made of; empty parts are not there.
struct CodeSpaceParts {
  std::size_t dim = 0;
  Rope rope;                       ///< none: origins do not matter
  std::size_t run_tokens = unlimited_tokens;
  std::vector<float> mean;         ///< [dim], before rotation
  std::vector<float> forward;      ///< A, [dim][dim] row-major
  std::vector<float> inverse;      ///< A⁻¹
  std::vector<float> term_rows;    ///< [run_tokens][rank]: R(j)·μ ≈ Σ_r term_rows[j][r]·term_basis[r]
  std::vector<float> term_basis;   ///< [rank][dim]
  bool unit_length = false;        ///< the codebook is of rows of length 1, their lengths apart: for formats with a gain
};

class CodeSpace {
 public:
  /// Errors: invalid_shape where sizes do not fit, or a mean that turns with positions lacks its term.
  [[nodiscard]] static Result<std::shared_ptr<const CodeSpace>> make(CodeSpaceParts parts) {
    const std::size_t dim = parts.dim;
    const auto is = [](const std::vector<float>& part, std::size_t size) { return part.empty() || part.size() == size; };
    if (dim == 0 || dim > max_dim || parts.run_tokens == 0 || !is(parts.mean, dim) || !is(parts.forward, dim * dim) ||
        parts.forward.size() != parts.inverse.size() || 2 * parts.rope.pairs() > dim || parts.term_basis.size() % dim != 0) {
      return Error{Errc::invalid_shape, message("the parts of a code space of dim ", dim, " (at most ", std::size_t{max_dim},
                                                ") with runs of ", parts.run_tokens, " tokens do not fit together")};
    }
    if (parts.rope.pairs() == 0) parts.run_tokens = unlimited_tokens;
    const std::size_t rank = parts.term_basis.size() / dim;
    const bool turning_mean = !parts.mean.empty() && parts.rope.pairs() != 0;
    if (turning_mean &&
        (parts.run_tokens == unlimited_tokens || rank == 0 || parts.term_rows.size() != parts.run_tokens * rank)) {
      return Error{Errc::invalid_shape, message("a mean under RoPE needs runs of limited length and its positional term, ",
                                                parts.run_tokens, " × ", rank, " numbers, not ", parts.term_rows.size())};
    }
    return std::shared_ptr<const CodeSpace>(new CodeSpace(std::move(parts)));
  }

  /// Rows of a block are transformed on the stack.
  static constexpr std::size_t max_dim = 1024;

  [[nodiscard]] const CodeSpaceParts& parts() const noexcept { return parts_; }
  [[nodiscard]] std::size_t dim() const noexcept { return parts_.dim; }
  [[nodiscard]] bool turns() const noexcept { return parts_.rope.pairs() != 0; }
  /// A mean that turns with positions.
  [[nodiscard]] bool has_term() const noexcept { return turns() && !parts_.mean.empty(); }
  /// A mean that is the same everywhere: q·μ is added to the scores of all tokens, because exact tokens have it too.
  [[nodiscard]] bool has_constant() const noexcept { return !turns() && !parts_.mean.empty(); }
  [[nodiscard]] std::size_t rank() const noexcept { return parts_.term_basis.size() / parts_.dim; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return (parts_.mean.size() + parts_.forward.size() + parts_.inverse.size() + parts_.term_rows.size() +
            parts_.term_basis.size() + query_map_.size() + term_columns_.size() + term_least_.size() + term_most_.size()) *
           sizeof(float);
  }

  /// Equal for equal parts; with the codebook's id it says what codes mean.
  [[nodiscard]] std::uint64_t id() const noexcept {
    Fingerprint fingerprint;
    fingerprint.add((parts_.rope.pairing() == RopePairing::half_split ? 1u : 0u) | (parts_.unit_length ? 2u : 0u));
    for (const double frequency : parts_.rope.frequencies()) fingerprint.add(std::bit_cast<std::uint64_t>(frequency));
    fingerprint.add(parts_.run_tokens);
    for (const auto* part : {&parts_.mean, &parts_.forward, &parts_.inverse, &parts_.term_rows, &parts_.term_basis}) {
      fingerprint.add(part->size());
      fingerprint.add(*part);
    }
    return fingerprint.value();
  }

  /// out[t·dim ..] = x of row t, which lies `t` tokens behind the block's place.
  void rows_in(FloatRows rows, RunPlace place, float* out) const noexcept {
    PQKV_EXPECTS(rows.dim == dim() && rows.count <= block_tokens);
    float plain[block_tokens * max_dim];
    float mean[max_dim];
    float cosines[max_dim / 2], sines[max_dim / 2];
    if (turns()) parts_.rope.angles(-static_cast<double>(place.origin), cosines, sines);
    for (std::size_t t = 0; t < rows.count; ++t) {
      float* row = plain + t * dim();
      std::memcpy(row, rows.row(t), dim() * sizeof(float));
      if (turns()) parts_.rope.turn(cosines, sines, row);
      if (parts_.mean.empty()) continue;
      mean_at(place.offset + t, mean);
      for (std::size_t d = 0; d < dim(); ++d) row[d] -= mean[d];
    }
    if (parts_.forward.empty()) {
      std::memcpy(out, plain, rows.count * dim() * sizeof(float));
    } else {
      isa::best().dot_f32(parts_.forward.data(), dim(), dim(), plain, rows.count, out, dim());
    }
  }

  /// The row that x stands for.
  void row_out(const float* x, RunPlace place, std::size_t index, float* row) const noexcept {
    if (parts_.inverse.empty()) {
      std::memcpy(row, x, dim() * sizeof(float));
    } else {
      isa::best().dot_f32(parts_.inverse.data(), dim(), dim(), x, 1, row, dim());
    }
    if (!parts_.mean.empty()) {
      float mean[max_dim];
      mean_at(place.offset + index, mean);
      for (std::size_t d = 0; d < dim(); ++d) row[d] += mean[d];
    }
    if (turns()) parts_.rope.turn(static_cast<double>(place.origin), row);
  }

  /// Floats per query of what queries_in writes.
  [[nodiscard]] std::size_t query_width() const noexcept { return dim() + (has_term() ? rank() : 0); }
  /// For queries [count][dim] that were turned back by the origin, out = [count][query_width()]: A⁻ᵀ·turned, and behind it
  /// their products with the positional term's basis.
  void queries_in(const float* turned, std::size_t count, float* out) const noexcept {
    if (query_map_.size() == 0) {
      std::memcpy(out, turned, count * dim() * sizeof(float));
      return;
    }
    std::memset(out, 0, count * query_width() * sizeof(float));
    isa::best().product_f32(query_map_.data(), map_stride(), dim(), query_width(), turned, dim(), count, out, query_width());
  }

  /// scores[q·stride + t] += the positional term of the token at `offset` + t in its run, t < blocks·32, for queries as
  /// queries_in wrote them.
  void add_term(const float* queries, std::size_t count, std::size_t offset, std::size_t blocks, float* scores,
                std::size_t stride) const noexcept {
    PQKV_EXPECTS(offset + blocks * block_tokens <= term_stride());
    isa::best().product_f32(term_columns_.data() + offset, term_stride(), rank(), blocks * block_tokens, queries + dim(),
                            query_width(), count, scores, stride);
  }
  /// The same for tokens that stand anywhere in the run: token t of `tokens` at places[t].
  void add_term_at(const float* queries, std::size_t count, const std::int64_t* places, std::size_t tokens, float* scores,
                   std::size_t stride) const noexcept {
    constexpr std::size_t slice = 32;  // ranks at a time
    float columns[slice * block_tokens];
    for (std::size_t first = 0; first < tokens; first += block_tokens) {
      const std::size_t here = std::min(block_tokens, tokens - first);
      for (std::size_t r = 0; r < rank(); r += slice) {
        const std::size_t ranks = std::min(slice, rank() - r);
        if (here < block_tokens) std::memset(columns, 0, ranks * block_tokens * sizeof(float));
        for (std::size_t t = 0; t < here; ++t) {
          const auto place = static_cast<std::size_t>(places[first + t]);
          PQKV_EXPECTS(place < parts_.run_tokens);
          const float* row = parts_.term_rows.data() + place * rank() + r;
          for (std::size_t i = 0; i < ranks; ++i) columns[i * block_tokens + t] = row[i];
        }
        isa::best().product_f32(columns, block_tokens, ranks, block_tokens, queries + dim() + r, query_width(), count,
                                scores + first, stride);
      }
    }
  }
  /// No less than the positional term of any token of a run, for one query as queries_in wrote it.
  [[nodiscard]] float term_bound(const float* query) const noexcept {
    float sum = 0;
    for (std::size_t r = 0; r < rank(); ++r) {
      sum += std::max(query[dim() + r] * term_most_[r], query[dim() + r] * term_least_[r]);
    }
    return sum;
  }

 private:
  explicit CodeSpace(CodeSpaceParts parts) : parts_(std::move(parts)) {
    if (!parts_.inverse.empty() || has_term()) {
      if (!query_map_.grow(dim() * map_stride())) __builtin_trap();
      for (std::size_t d = 0; d < dim(); ++d) {
        float* row = query_map_.data() + d * map_stride();
        if (parts_.inverse.empty()) row[d] = 1.0f;
        if (!parts_.inverse.empty()) std::copy_n(parts_.inverse.data() + d * dim(), dim(), row);
        for (std::size_t r = 0; r + dim() < query_width(); ++r) row[dim() + r] = parts_.term_basis[r * dim() + d];
      }
    }
    if (!has_term()) return;
    if (!term_columns_.grow(rank() * term_stride())) __builtin_trap();
    for (std::size_t t = 0; t < parts_.run_tokens; ++t) {
      for (std::size_t r = 0; r < rank(); ++r) term_columns_[r * term_stride() + t] = parts_.term_rows[t * rank() + r];
    }
    for (std::size_t r = 0; r < rank(); ++r) {
      const float* column = term_columns_.data() + r * term_stride();
      const auto [least, most] = std::minmax_element(column, column + parts_.run_tokens);
      term_least_.push_back(*least);
      term_most_.push_back(*most);
    }
  }

  /// Rows of the map begin where cache lines do: vectors across two lines cost two loads.
  [[nodiscard]] std::size_t map_stride() const noexcept { return (query_width() + 15) / 16 * 16; }
  /// Floats from one rank of the term to the next: room for a last block that begins anywhere in the run, and no power of
  /// two, which would crowd all ranks into a few sets of the first-level cache.
  [[nodiscard]] std::size_t term_stride() const noexcept { return (parts_.run_tokens + 15) / 16 * 16 + block_tokens + 16; }

  /// R(offset)·μ, from the very rows that scores use, so that decoding and scoring agree.
  void mean_at(std::size_t offset, float* mean) const noexcept {
    if (!turns()) {
      std::memcpy(mean, parts_.mean.data(), dim() * sizeof(float));
      return;
    }
    PQKV_EXPECTS(offset < parts_.run_tokens);
    std::memset(mean, 0, dim() * sizeof(float));
    isa::best().product_f32(parts_.term_basis.data(), dim(), rank(), dim(), parts_.term_rows.data() + offset * rank(), 0, 1, mean,
                            0);
  }

  CodeSpaceParts parts_;
  Buffer<float> query_map_;                    // [dim][map_stride()]: A⁻¹ and the term's basis side by side
  Buffer<float> term_columns_;                 // [rank][term_stride()]: parts_.term_rows as scores take them in
  std::vector<float> term_least_, term_most_;  // [rank], over all tokens of a run
};

}  // namespace pqkv::inline PQKV_ABI
