// SpacedKeys<K>: any key format, its codes in another space: runs turned back to their origin (RoPE), keys less their
// mean, a metric or rotation in front (codec/code_space.hpp). Layer 3b.
// Blocks are those of K. Per run the queries are turned and K's table is built anew; per token nothing is added but, where
// a mean turns with positions, a product of `rank` numbers.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "pqkv/codec/code_space.hpp"
#include "pqkv/codec/rows_buffer.hpp"

namespace pqkv::inline PQKV_ABI {

template <KeyPolicy K>
class SpacedKeys {
 public:
  struct QueryTable {
    typename K::QueryTable inner;
    RowsBuffer queries;  // as they came
    RowsBuffer turned;   // turned back by the run's origin
    RowsBuffer spaced;   // in the space of the codes, and behind it [rank]: products with the positional term's basis
    float constant[max_group] = {};  // without RoPE: products with the mean
    SteppedAngles angles;
  };

  /// Errors: invalid_shape when dims differ.
  [[nodiscard]] static Result<SpacedKeys> make(K inner, std::shared_ptr<const CodeSpace> space) {
    PQKV_EXPECTS(space != nullptr);
    if (inner.dim() != space->dim()) {
      return Error{Errc::invalid_shape, message("a format of dim ", inner.dim(), " in a space of dim ", space->dim())};
    }
    return SpacedKeys(std::move(inner), std::move(space));
  }

  [[nodiscard]] const K& inner() const noexcept { return inner_; }
  [[nodiscard]] const CodeSpace& space() const noexcept { return *space_; }
  [[nodiscard]] std::size_t dim() const noexcept { return inner_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return inner_.block_bytes(); }
  [[nodiscard]] std::size_t codebook_bytes() const noexcept { return inner_.codebook_bytes() + space_->bytes(); }
  [[nodiscard]] std::uint64_t codebook_id() const noexcept {
    Fingerprint fingerprint;
    if constexpr (requires { inner_.codebook_id(); }) fingerprint.add(inner_.codebook_id());
    fingerprint.add(space_->id());
    return fingerprint.value();
  }
  [[nodiscard]] std::size_t run_tokens() const noexcept { return std::min(inner_.run_tokens(), space_->parts().run_tokens); }
  [[nodiscard]] std::string describe() const {
    std::string text = inner_.describe();
    if (space_->turns()) text += run_tokens() == unlimited_tokens ? ":run=all" : message(":run=", run_tokens());
    if (!space_->parts().mean.empty()) text += ":centre=1";
    if (!space_->parts().forward.empty()) text += ":fitted";
    return text;
  }

  void encode(FloatRows rows, RunPlace place, std::byte* block) const noexcept {
    float spaced[block_tokens * CodeSpace::max_dim];
    space_->rows_in(rows, place, spaced);
    inner_.encode({spaced, rows.count, dim()}, place, block);
  }
  void decode(const std::byte* block, std::size_t index, RunPlace place, float* row) const noexcept {
    float spaced[CodeSpace::max_dim];
    inner_.decode(block, index, place, spaced);
    space_->row_out(spaced, place, index, row);
  }

  [[nodiscard]] bool rows_move() const noexcept
    requires RowMovable<K>
  {
    return inner_.rows_move();
  }
  /// Where the space turns with positions a code is that of a key turned back to its run's origin.
  [[nodiscard]] bool needs_origin() const noexcept { return space_->turns(); }
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept
    requires RowMovable<K>
  {
    inner_.copy_row(from, index, to, to_index);
  }

  void prepare(QueryTable& table, FloatRows queries) const {
    table.queries.shape(queries.count, dim());
    table.turned.shape(queries.count, dim());
    table.spaced.shape(queries.count, space_->query_width());
    table.angles.start(space_->parts().rope, -static_cast<std::int64_t>(std::min<std::size_t>(run_tokens(), 1 << 20)));
    for (std::size_t q = 0; q < queries.count; ++q) {
      std::memcpy(table.queries.row(q), queries.row(q), dim() * sizeof(float));
    }
    inner_.prepare(table.inner, queries);  // for its memory; turn() fills it
  }

  void turn(QueryTable& table, std::int64_t origin) const noexcept {
    const std::size_t count = table.queries.count();
    std::memcpy(table.turned.data(), table.queries.data(), count * dim() * sizeof(float));
    if (space_->turns()) {
      table.angles.move_to(-origin);
      for (std::size_t q = 0; q < count; ++q) {
        space_->parts().rope.turn(table.angles.cosines(), table.angles.sines(), table.turned.row(q));
      }
    }
    space_->queries_in(table.turned.data(), count, table.spaced.data());
    inner_.prepare(table.inner, {table.spaced.data(), count, dim(), space_->query_width()});
    inner_.turn(table.inner, origin);
    if (space_->has_constant()) {
      isa::best().dot_f32(space_->parts().mean.data(), 1, dim(), table.turned.data(), count, table.constant, 1);
    }
  }

  void score(const QueryTable& table, BlockSpan span, float* scores, std::size_t stride) const noexcept {
    inner_.score(table.inner, span, scores, stride);
    if (space_->has_constant()) {
      for (std::size_t q = 0; q < table.queries.count(); ++q) {
        for (std::size_t t = 0; t < span.tokens; ++t) scores[q * stride + t] += table.constant[q];
      }
    }
    if (!space_->has_term()) return;
    if (span.places != nullptr) {
      space_->add_term_at(table.spaced.data(), table.queries.count(), span.places, span.tokens, scores, stride);
    } else {
      space_->add_term(table.spaced.data(), table.queries.count(), span.offset, span.blocks(), scores, stride);
    }
  }

  /// The bound of the codes, and of what the mean adds.
  void bound(const QueryTable& table, float* scores) const noexcept
    requires Bounded<K>
  {
    inner_.bound(table.inner, scores);
    for (std::size_t q = 0; q < table.queries.count(); ++q) {
      if (space_->has_constant()) scores[q] += table.constant[q];
      if (space_->has_term()) scores[q] += space_->term_bound(table.spaced.row(q));
    }
  }

 private:
  SpacedKeys(K inner, std::shared_ptr<const CodeSpace> space) noexcept : inner_(std::move(inner)), space_(std::move(space)) {}

  K inner_;
  std::shared_ptr<const CodeSpace> space_;
};

}  // namespace pqkv::inline PQKV_ABI
