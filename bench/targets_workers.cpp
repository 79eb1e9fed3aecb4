// attend_layer over 1, 2 and 4 workers against what the machine's own bandwidth does for as many threads.
#include <benchmark/benchmark.h>

#include <thread>

#include "common/workers.hpp"
#include "support/bandwidth.hpp"
#include "support/rotation.hpp"
#include "targets.hpp"

namespace pqkv::bench {
namespace {

constexpr std::size_t worker_counts[] = {1, 2, 4};

void compare(std::size_t kv_heads) {
  constexpr std::size_t dim = 128;
  const CacheSpec spec = must(parse_cache_spec("k=pq4:m=16,v=int4:g=32"));
  const std::size_t tokens = long_context * 8 / kv_heads;
  const AnyKeys key_format = keys(spec.keys, dim);
  const AnyValues value_format = values(spec.values, dim);
  const double bytes = HeadCache<AnyKeys, AnyValues>(key_format, value_format).bytes_per_token() *
                       static_cast<double>(tokens * kv_heads);
  const auto layers = static_cast<std::size_t>(static_cast<double>(working_set(Placement::cold)) / bytes) + 1;
  auto cache = must(AnyCache::make({layers, kv_heads, dim}, std::vector<AnyKeys>(1, key_format),
                                   std::vector<AnyValues>(1, value_format), spec.options));
  constexpr std::size_t chunk = 4096;
  const std::vector<float> rows = random_floats(chunk * kv_heads * dim, 1);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (std::size_t t = 0; t < tokens; t += chunk) {
      must(cache.append_layer(layer, Rows(rows.data(), chunk, kv_heads * dim), Rows(rows.data(), chunk, kv_heads * dim)));
    }
  }
  const std::vector<float> queries = random_floats(kv_heads * dim, 2);
  std::vector<float> outs(kv_heads * dim);
  const std::size_t piece = 4 << 20;
  std::vector<std::byte> plain(working_set(Placement::cold) / piece * piece, std::byte{1});

  Contest contest(Clock::wall);
  std::size_t attending[3], reading[3];
  std::vector<Workspaces<AnyKeys, AnyValues>> workspaces;
  for (const std::size_t workers : worker_counts) workspaces.push_back(make_workspaces(cache, 1, workers));
  std::size_t layer = 0, at = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    const common::Workers workers(worker_counts[i]);
    attending[i] = contest.add(static_cast<double>(tokens * kv_heads), [&, i, workers] {
      layer = layer + 1 < layers ? layer + 1 : 0;
      attend_layer(cache, layer, FloatRows(queries.data(), kv_heads, dim), outs.data(), dim, workspaces[i], {}, workers);
    });
    reading[i] = contest.add(32.0 * static_cast<double>(piece), [&, workers] {
      workers.run(32, [&](std::size_t task, std::size_t) {
        benchmark::DoNotOptimize(read_all(plain.data() + (at + task * piece) % plain.size(), piece));
      });
      at = (at + 32 * piece) % plain.size();
    });
  }
  contest.hold(15);
  const std::string name = fmt::format("attend_layer, {} kv head{} × {} tokens", kv_heads, kv_heads == 1 ? "" : "s", tokens);
  for (std::size_t i = 1; i < 3; ++i) {
    const Spread ours = contest.faster(attending[i], attending[0]), machine = contest.faster(reading[i], reading[0]);
    print_figure(fmt::format("{}, {} workers, × one", name, worker_counts[i]), ours, "×");
    print_figure(fmt::format("reading memory, {} threads, × one", worker_counts[i]), machine, "×");
    print_target(fmt::format("{}, {} workers, scaling / the machine's", name, worker_counts[i]),
                 {ours.median / machine.median, ours.lower / machine.upper, ours.upper / machine.lower}, 0.85);
  }
}

}  // namespace

void worker_targets() {
  if (std::thread::hardware_concurrency() < 4) {
    return print_left_out("attend_layer over 4 workers", "fewer than 4 cores");
  }
  compare(8);
  compare(1);
}

}  // namespace pqkv::bench
