// The library owns no thread: bring your own. An executor is two functions.
#include <pqkv/pqkv.hpp>

#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "pqkv/base/random.hpp"

/// Starts threads for every call; an engine would wake the workers of its pool instead.
class Threads {
 public:
  explicit Threads(std::size_t workers) : workers_(workers) {}
  std::size_t workers() const noexcept { return workers_; }
  void run(std::size_t count, pqkv::TaskRef task) const {
    std::atomic<std::size_t> next{0};
    const auto work = [&](std::size_t worker) {
      for (std::size_t index = next++; index < count; index = next++) task(index, worker);
    };
    std::vector<std::thread> threads;
    for (std::size_t worker = 1; worker < workers_; ++worker) threads.emplace_back(work, worker);
    work(0);
    for (std::thread& thread : threads) thread.join();
  }

 private:
  std::size_t workers_;
};
static_assert(pqkv::Executor<Threads>);

int main() {
  constexpr std::size_t dim = 64, kv_heads = 4, group = 2, tokens = 2000;
  using Cache = pqkv::CompressedKVCache<pqkv::ExactKeys, pqkv::Int4Values>;
  auto values = pqkv::Int4Values::make(dim);
  if (!values) return 1;
  auto cache = Cache::make({1, kv_heads, dim}, {pqkv::ExactKeys(dim, pqkv::ScalarType::f16)}, {*values}, {.recent = 64});
  if (!cache) return 1;

  pqkv::Random random(1);
  std::vector<float> rows(tokens * kv_heads * dim);
  for (float& x : rows) x = static_cast<float>(random.normal());
  const pqkv::Rows all(rows.data(), tokens, kv_heads * dim);
  if (!cache->append_layer(0, all, all)) return 1;

  const Threads threads(4);
  auto workspaces = pqkv::make_workspaces(*cache, group, threads.workers());
  const pqkv::FloatRows queries(rows.data(), kv_heads * group, dim);
  std::vector<float> serial(kv_heads * group * dim), parallel(serial.size());
  pqkv::attend_layer(*cache, 0, queries, serial.data(), dim, workspaces);
  pqkv::attend_layer(*cache, 0, queries, parallel.data(), dim, workspaces, {}, threads);
  std::printf("%zu workers, outputs %s those of one\n", threads.workers(), serial == parallel ? "equal" : "differ from");
  return serial == parallel ? 0 : 1;
}
