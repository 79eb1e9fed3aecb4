// Scoring all keys of a head, tables included, against FAISS over the same codes. Every head has codes and a codebook of
// its own, and cold heads rotate through a set that no cache holds.
#include <algorithm>

#include "peers/peers.hpp"
#include "support/rotation.hpp"
#include "targets.hpp"

namespace pqkv::bench {
namespace {

/// Codes of one head as FAISS lays them out and as this library does, and the centroids of both.
struct Codes {
  CodebookShape shape;
  std::vector<float> centroids;       // [subspace][width][centroid]
  std::vector<float> faiss_centroids;  // [subspace][centroid][width]
  std::vector<std::uint8_t> rows;     // [token][subspace]
  std::vector<std::byte> blocks;

  /// A format with a codebook of its own in memory.
  [[nodiscard]] AnyKeys format() const {
    auto codebook = must(Codebook::make(shape, centroids));
    if (shape.centroids == 256) return must(Pq8Keys::make(std::move(codebook)));
    return must(Pq4Keys::make(std::move(codebook)));
  }
};

[[nodiscard]] Codes random_codes(const CodebookShape& shape, std::size_t tokens, std::uint64_t seed) {
  const std::size_t count = shape.centroids, width = shape.width(), subspaces = shape.subspaces;
  Codes codes{shape, random_floats(shape.dim * count, seed), std::vector<float>(shape.dim * count), {}, {}};
  for (std::size_t s = 0; s < subspaces; ++s) {
    for (std::size_t i = 0; i < width * count; ++i) {
      codes.faiss_centroids[(s * count + i % count) * width + i / count] = codes.centroids[s * width * count + i];
    }
  }
  const std::size_t bits = count == 256 ? 8 : 4, row_bytes = subspaces * bits / 8, block_bytes = row_bytes * block_tokens;
  Random random(seed);
  codes.rows.resize(tokens * row_bytes);
  for (std::uint8_t& byte : codes.rows) byte = static_cast<std::uint8_t>(random.next());
  codes.blocks.resize(tokens * row_bytes);
  for (std::size_t t = 0; t < tokens; ++t) {
    auto* block = reinterpret_cast<std::uint8_t*>(codes.blocks.data() + t / block_tokens * block_bytes);
    const std::size_t token = t % block_tokens;
    for (std::size_t s = 0; s < subspaces; ++s) {
      if (bits == 8) {
        block[token / 8 * 8 * subspaces + s * 8 + token % 8] = codes.rows[t * row_bytes + s];
      } else {
        const unsigned code = codes.rows[t * row_bytes + s / 2] >> (s % 2 * 4) & 15u;
        std::uint8_t& pair = block[s * 16 + token % 16];
        pair = static_cast<std::uint8_t>(pair | (code << (token < 16 ? 0 : 4)));
      }
    }
  }
  return codes;
}

struct Head {
  AnyKeys format;
  std::vector<std::byte> blocks;
};

struct Contenders {
  std::size_t bits;
  std::size_t subspaces;
  std::size_t dim;
  std::size_t tokens;
  bool cold;
};

void compare(const Contenders& which, MemoryReader& memory) {
  const std::size_t bits = which.bits, subspaces = which.subspaces, dim = which.dim, tokens = which.tokens;
  const bool cold = which.cold;
  const double key_bytes = static_cast<double>(subspaces * bits) / 8;
  const std::size_t count =
      cold ? working_set(Placement::cold) / static_cast<std::size_t>(key_bytes * static_cast<double>(tokens)) + 1 : 1;
  const Codes codes = random_codes({dim, subspaces, std::size_t{1} << bits}, tokens, 1);
  std::vector<Head> heads;
  std::vector<std::unique_ptr<FaissIndex>> indexes;
  for (std::size_t i = 0; i < count; ++i) {
    heads.push_back({codes.format(), codes.blocks});
    if (!has_faiss()) continue;
    indexes.push_back(
        faiss_index({dim, subspaces, bits, tokens, codes.faiss_centroids.data(), codes.rows.data()}, bits == 4));
  }
  const std::vector<float> queries = random_floats(4 * dim, 9);
  const std::size_t repeat = cold ? 1 : 1 + 262144 / tokens;
  Contest contest;
  AnyKeys::QueryTable table;
  std::vector<float> scores(4 * 512);
  std::size_t turn = 0;
  const auto score = [&](std::size_t group) {
    const Head& head = heads[turn = turn + 1 < heads.size() ? turn + 1 : 0];
    head.format.prepare(table, FloatRows(queries.data(), group, dim));
    const std::size_t tile = tile_tokens(group);
    for (std::size_t t = 0; t < tokens; t += tile) {
      BlockSpan span = {head.blocks.data() + t / 32 * head.format.block_bytes(), std::min(tile, tokens - t)};
      span.ahead = static_cast<std::ptrdiff_t>(tile / 32 * head.format.block_bytes());  // as attend asks
      head.format.score(table, span, scores.data(), tile);
    }
  };
  std::size_t other_turn = 0;
  const auto search = [&](std::size_t group) {
    indexes[other_turn = other_turn + 1 < indexes.size() ? other_turn + 1 : 0]->search(queries.data(), group);
  };
  const auto items = static_cast<double>(tokens);
  const std::size_t one = contest.add(items, [&] { score(1); }, repeat);
  const std::size_t four = contest.add(items, [&] { score(4); }, repeat);
  std::size_t peer_one = 0, peer_four = 0;
  if (has_faiss()) {
    peer_one = contest.add(items, [&] { search(1); }, repeat);
    peer_four = contest.add(items, [&] { search(4); }, repeat);
  }
  const std::size_t reader = bits == 4 && cold ? memory.enter(contest) : 0;
  contest.hold(41);
  const std::string name = fmt::format("score pq{} m={} dim {} {} keys {}", bits, subspaces, dim, tokens, cold ? "cold" : "warm");
  print_figure(name + ", 1 query", contest.time(one), "ns/key");
  print_figure(name + ", 4 queries", contest.time(four), "ns/key");
  if (cold) print_speed(name + ", 1 query", key_bytes, contest.time(one));
  const std::string_view peer = bits == 4 ? "FAISS FastScan" : "FAISS IndexPQ";
  if (has_faiss()) {
    print_figure(fmt::format("{}, {}, 1 query", name, peer), contest.time(peer_one), "ns/key");
    print_figure(fmt::format("{}, {}, 4 queries", name, peer), contest.time(peer_four), "ns/key");
    print_target(fmt::format("{}, × {}", name, peer), contest.faster(one, peer_one), bits == 4 ? 1.4 : 2.5);
    if (bits == 4) print_target(fmt::format("{}, 4 queries, × {}", name, peer), contest.faster(four, peer_four), 1.9);
  } else {
    print_left_out(fmt::format("{}, × {}", name, peer), "FAISS not found");
  }
  if (bits == 4 && cold) {
    print_target(name + ", share of memory bandwidth (tables included)", MemoryReader::share(contest, one, reader, key_bytes),
                 0.85);
  }
}

}  // namespace

void score_targets(MemoryReader& memory) {
  for (const std::size_t dim : {64, 128}) compare({4, 16, dim, 65536, true}, memory);
  compare({8, 8, 64, 65536, true}, memory);
  for (const std::size_t dim : {64, 128}) compare({8, 8, dim, 8192, false}, memory);
  compare({4, 16, 64, 8192, false}, memory);
}

}  // namespace pqkv::bench
