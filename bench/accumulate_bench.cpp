// Accumulating: the weighted sum of a head's values for the queries of a group, tile by tile as attend does it, from
// begin to finish.
#include "subjects.hpp"
#include "support/counters.hpp"
#include "support/registration.hpp"
#include "support/rotation.hpp"

namespace pqkv::bench {
namespace {

void accumulate_values(benchmark::State& state, const std::string& text, std::size_t dim, std::size_t group,
                       Placement placement) {
  const AnyValues format = values(text, dim);
  auto& blocks = Kept<RotatingBytes>::get(fmt::format("accumulate {} {} {}", text, dim, name_of(placement)), [&] {
    return rotating_blocks(placement, dim, format.block_bytes(),
                           [&](FloatRows rows, std::byte* block) { format.encode(rows, block); });
  });
  const std::size_t tokens = blocks.piece_bytes() / format.block_bytes() * block_tokens;
  const std::size_t tile = tile_tokens(group);
  std::vector<float> weights = random_floats(group * tile, 2);
  for (float& weight : weights) weight = std::abs(weight);
  std::vector<float> outs(group * dim);
  AnyValues::WeightedSum sum;
  const double nanoseconds = nanoseconds_per_iteration(state, [&] {
    const std::byte* first = blocks.next();
    format.begin(sum, group);
    for (std::size_t t = 0; t < tokens; t += tile) {
      BlockSpan span = {first + t / block_tokens * format.block_bytes(), std::min(tile, tokens - t)};
      span.ahead = static_cast<std::ptrdiff_t>(tile / block_tokens * format.block_bytes());  // as attend asks
      format.add(sum, span, weights.data(), tile);
    }
    format.finish(sum, outs.data(), dim);
    benchmark::DoNotOptimize(outs.data());
  });
  count(state, nanoseconds, tokens, "token", static_cast<double>(format.block_bytes()) / block_tokens, "codes");
}

}  // namespace

void register_accumulate() {
  register_groups(
      "accumulate",
      {"exact:f32", "exact:f16", "exact:bf16", "int8:g=32", "int4:g=32", "int2:g=32", "int2:g=32:heavy=4", "pq8:m=dim/8",
       "pq4:m=dim/4", "pq4:m=dim/4:gain=1"},
      accumulate_values);
}

}  // namespace pqkv::bench
