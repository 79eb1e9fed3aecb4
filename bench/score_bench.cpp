// Scoring: the keys of a head against the queries of a group, tile by tile as attend does it.
#include "subjects.hpp"
#include "support/counters.hpp"
#include "support/registration.hpp"
#include "support/rotation.hpp"

namespace pqkv::bench {
namespace {

void score_keys(benchmark::State& state, const std::string& text, std::size_t dim, std::size_t group,
                Placement placement) {
  const AnyKeys format = keys(text, dim);
  auto& blocks = Kept<RotatingBytes>::get(fmt::format("score {} {} {}", text, dim, name_of(placement)), [&] {
    return rotating_blocks(placement, dim, format.block_bytes(),
                           [&](FloatRows rows, std::byte* block) { format.encode(rows, 0, block); });
  });
  const std::size_t tokens = blocks.piece_bytes() / format.block_bytes() * block_tokens;
  const std::size_t tile = tile_tokens(group);
  const std::vector<float> queries = random_floats(group * dim, 2);
  std::vector<float> scores(group * tile);
  AnyKeys::QueryTable table;
  format.prepare(table, FloatRows(queries.data(), group, dim));
  format.turn(table, 0);
  const double nanoseconds = nanoseconds_per_iteration(state, [&] {
    const std::byte* first = blocks.next();
    for (std::size_t t = 0; t < tokens; t += tile) {
      BlockSpan span = {first + t / block_tokens * format.block_bytes(), std::min(tile, tokens - t)};
      span.ahead = static_cast<std::ptrdiff_t>(tile / block_tokens * format.block_bytes());  // as attend asks
      format.score(table, span, scores.data(), tile);
    }
    benchmark::DoNotOptimize(scores.data());
  });
  count(state, nanoseconds, tokens, "token", static_cast<double>(format.block_bytes()) / block_tokens, "codes");
}

}  // namespace

void register_score() {
  register_groups(
      "score",
      {"exact:f32", "exact:f16", "exact:bf16", "pq8:m=dim/8", "pq6:m=dim/8", "pq4:m=dim/8:stages=2", "pq4:m=dim/4",
       "pq4:m=dim/4:gain=1"},
      score_keys);
}

}  // namespace pqkv::bench
