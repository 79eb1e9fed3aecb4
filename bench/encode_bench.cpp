// Encoding: one block of 32 rows at a time, as the cache does once 32 tokens have aged out of its window.
// Cold: the rows come from memory.
#include "subjects.hpp"
#include "support/counters.hpp"
#include "support/rotation.hpp"

namespace pqkv::bench {
namespace {

/// `encode(rows, block)` writes a block of `block_bytes`.
template <class Encode>
void encode_blocks(benchmark::State& state, Placement placement, std::size_t dim, std::size_t block_bytes,
                   const Encode& encode) {
  auto& source = Kept<RotatingBytes>::get(fmt::format("encode {} {}", dim, name_of(placement)), [&] {
    return rotating_blocks(placement, dim, block_tokens * dim * sizeof(float), [dim](FloatRows rows, std::byte* block) {
      std::memcpy(block, rows.data, block_tokens * dim * sizeof(float));
    });
  });
  const std::size_t tokens = source.piece_bytes() / (dim * sizeof(float));
  std::vector<std::byte> block(block_bytes);
  const double nanoseconds = nanoseconds_per_iteration(state, [&] {
    const auto* rows = reinterpret_cast<const float*>(source.next());
    for (std::size_t t = 0; t < tokens; t += block_tokens) {
      encode(FloatRows(rows + t * dim, block_tokens, dim), block.data());
    }
    benchmark::DoNotOptimize(block.data());
  });
  count(state, nanoseconds, tokens, "token", static_cast<double>(block_bytes) / block_tokens, "codes");
}

}  // namespace

void register_encode() {
  for (const std::size_t dim : {64, 128}) {
    for (const Placement placement : placements) {
      for (const char* text : {"exact:f16", "pq8:m=dim/8", "pq6:m=dim/8", "pq4:m=dim/8:stages=2", "pq8:m=dim/16:stages=2",
                               "pq4:m=dim/4", "pq4:m=dim/4:gain=1"}) {
        const std::string name = fmt::format("encode/k={}/dim:{}/{}", text, dim, name_of(placement));
        benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
          const AnyKeys format = keys(text, dim);
          encode_blocks(state, placement, dim, format.block_bytes(),
                        [&](FloatRows rows, std::byte* block) { format.encode(rows, 0, block); });
        });
      }
      for (const char* text : {"exact:f16", "int8:g=32", "int4:g=32", "int2:g=32", "pq8:m=dim/8", "pq4:m=dim/4"}) {
        const std::string name = fmt::format("encode/v={}/dim:{}/{}", text, dim, name_of(placement));
        benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) {
          const AnyValues format = values(text, dim);
          encode_blocks(state, placement, dim, format.block_bytes(),
                        [&](FloatRows rows, std::byte* block) { format.encode(rows, block); });
        });
      }
    }
  }
}

}  // namespace pqkv::bench
