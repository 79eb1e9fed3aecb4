// What happens to a sequence besides attention: fork, truncate, erase, shift, evict, compact, save and map, against filling
// the cache anew; and attention after each against attention over a fresh cache of as many tokens.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>

#include "pqkv/io/file.hpp"
#include "pqkv/io/mapped_file.hpp"
#include "pqkv/io/sequence_file.hpp"
#include "pqkv/retention.hpp"
#include "subjects.hpp"
#include "support/counters.hpp"
#include "support/rotation.hpp"

namespace pqkv::bench {
namespace {

using Head = RotatingHeads::Head;
constexpr std::size_t dim = 128, tokens = 16384, long_prompt = 100'000;
constexpr const char* spec_text = "k=pq4:m=dim/4,v=int4:g=32,sinks=4,recent=64";

/// The keys' codes in runs of 256 that are turned back to their origin, less a mean whose term has 16 ranks.
[[nodiscard]] AnyKeys in_runs(const Rope& rope) {
  const CodeSpaceParts parts{.dim = dim,
                             .rope = rope,
                             .run_tokens = 256,
                             .mean = random_floats(dim, 4),
                             .forward = {},
                             .inverse = {},
                             .term_rows = random_floats(std::size_t{256} * 16, 5),
                             .term_basis = random_floats(16 * dim, 6)};
  Pq4Keys codes = must(Pq4Keys::make(random_codebook({dim, dim / 4, 16})));
  return must(SpacedKeys<Pq4Keys>::make(std::move(codes), must(CodeSpace::make(parts))));
}

[[nodiscard]] Head filled(std::size_t count, bool runs = false) {
  const CacheSpec spec = must(parse_cache_spec(spec_text));
  CacheOptions options = spec.options;
  options.rope = std::make_shared<const Rope>(Rope::with_base(dim, 1e4, RopePairing::half_split));
  Head head(runs ? in_runs(*options.rope) : keys(spec.keys, dim), values(spec.values, dim), options);
  const std::vector<float> rows = random_floats(2 * 8192 * dim, 1);
  for (std::size_t more = 0; head.tokens() < count;) {
    more = std::min<std::size_t>(8192, count - head.tokens());
    must(head.append(Rows(rows.data(), more, dim), Rows(rows.data() + rows.size() / 2, more, dim)));
  }
  return head;
}

[[nodiscard]] const Head& trunk() {
  return Kept<Head>::get("sequence", [] { return filled(tokens); });
}

/// Every second token behind the sinks, one by one.
[[nodiscard]] std::vector<TokenRange> every_second(std::size_t count) {
  std::vector<TokenRange> ranges;
  for (std::size_t t = 4; t < count; t += 2) ranges.push_back({t, 1});
  return ranges;
}

/// change(head) on a new fork each time; the fork is not timed, `changed` tokens per call are.
void time_changes(benchmark::State& state, std::size_t changed, const std::function<void(Head&)>& change) {
  double seconds = 0;
  for (auto _ : state) {
    Head head = must(trunk().fork());
    const auto start = std::chrono::steady_clock::now();
    change(head);
    const double once = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    state.SetIterationTime(once);
    seconds += once;
  }
  const double calls = static_cast<double>(state.iterations());
  state.counters["ns_per_token"] = seconds * 1e9 / calls / static_cast<double>(changed);
}

/// Eviction of all but one token in eight, per token that was there; what is recorded while the sequence grows is not timed.
template <class P>
void time_evict(const char* name, const P& policy) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) {
    Retainer retainer(policy, {.sinks = 4, .recent = 64});
    must(retainer.catch_up(trunk()));
    Workspace<AnyKeys, AnyValues> workspace;
    time_changes(state, tokens, [&](Head& head) {
      Retainer once = retainer;
      benchmark::DoNotOptimize(must(once.evict(head, tokens / 8, workspace)));
    });
  })->UseManualTime();
}

/// One token in eight is left, anywhere.
void evict_scattered(Head& head) {
  Workspace<AnyKeys, AnyValues> workspace;
  must(head.erase(must(plan_eviction(RandomTokens{1}, head, tokens / 8, {.sinks = 4, .recent = 64}, workspace))));
}

/// Attention over a head that something was done to.
void time_attend(benchmark::State& state, const std::function<Head()>& make) {
  const Head head = make();
  constexpr std::size_t group = 4;
  const std::vector<float> queries = random_floats(group * dim, 2);
  std::vector<float> outs(group * dim);
  Workspace<AnyKeys, AnyValues> workspace;
  workspace.reserve(head, group);
  const double nanoseconds = nanoseconds_per_iteration(state, [&] {
    attend(head, FloatRows(queries.data(), group, dim), outs.data(), dim, workspace);
    benchmark::DoNotOptimize(outs.data());
  });
  count(state, nanoseconds, head.tokens(), "token", head.bytes_per_token(), "codes");
}

/// Mapping a prompt that was saved, and one attention over it.
void time_map(benchmark::State& state, bool attended) {
  static constexpr Checksum none{tag("none"),
                                 [](std::uint32_t, const void*, std::size_t) noexcept { return std::uint32_t{0}; }};
  const std::string path = (std::filesystem::temp_directory_path() / "pqkv_bench_prompt").string();
  const Head head = filled(long_prompt);
  must(save_file(path, [&](FileSink& sink) { return save_head(sink, head, none); }));
  const std::vector<float> query = random_floats(dim, 2);
  std::vector<float> out(dim);
  Workspace<AnyKeys, AnyValues> workspace;
  const double nanoseconds = nanoseconds_per_iteration(state, [&] {
    MappedFileSource source(must(MappedFile::open(path)));
    const Head mapped = must(
        load_head(source, head.keys(), head.values(), none, {.rope = head.options().rope, .verify_blocks = false}));
    if (attended) attend(mapped, FloatRows(query.data(), 1, dim), out.data(), dim, workspace);
    benchmark::DoNotOptimize(out.data());
  });
  count(state, nanoseconds, long_prompt, "token", head.bytes_per_token(), "codes");
  std::remove(path.c_str());
}

void add(const char* name, const std::function<void(benchmark::State&)>& run) {
  benchmark::RegisterBenchmark(name, run);
}
void add_change(const char* name, std::size_t changed, const std::function<void(Head&)>& change) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) {
    time_changes(state, changed, change);
  })->UseManualTime();
}

}  // namespace

void register_sequence() {
  add("sequence/rebuild", [](benchmark::State& state) {
    const double nanoseconds = nanoseconds_per_iteration(state, [] { benchmark::DoNotOptimize(filled(tokens)); });
    count(state, nanoseconds, tokens, "token", trunk().bytes_per_token(), "codes");
  });
  add("sequence/fork", [](benchmark::State& state) {
    const double nanoseconds = nanoseconds_per_iteration(state, [] { benchmark::DoNotOptimize(must(trunk().fork())); });
    count(state, nanoseconds, tokens, "token", trunk().bytes_per_token(), "codes");
  });
  add_change("sequence/truncate/half", tokens / 2, [](Head& head) { head.truncate(tokens / 2); });
  add_change("sequence/truncate/one", 1, [](Head& head) { head.truncate(tokens - 1); });
  add_change("sequence/erase/half", tokens / 2, [](Head& head) { must(head.erase({4, tokens / 2})); });
  add_change("sequence/erase/half_and_close", tokens / 2, [](Head& head) {
    must(head.erase({4, tokens / 2}, Gap::close));
  });
  add_change("sequence/erase/one", 1, [](Head& head) { must(head.erase({tokens / 3, 1})); });
  add_change("sequence/erase/every_second", tokens / 2, [](Head& head) {
    static const std::vector<TokenRange> ranges = every_second(tokens);
    must(head.erase(ranges));
  });
  add_change("sequence/shift/all_but_sinks", tokens - 4, [](Head& head) { must(head.shift({4, tokens - 4}, -1)); });
  time_evict("sequence/evict/streaming", SinksAndRecent{});
  time_evict("sequence/evict/key_norm", LowKeyNorm{});
  time_evict("sequence/evict/query_filter", QueryFilter(random_floats(dim, 3)));
  time_evict("sequence/evict/accumulated", AccumulatedAttention{});
  time_evict("sequence/evict/snapkv", ObservationWindow{});
  time_evict("sequence/evict/key_diversity", KeyDiversity{});
  add("sequence/observe", [](benchmark::State& state) {
    Retainer retainer(AccumulatedAttention{});
    must(retainer.catch_up(trunk()));
    constexpr std::size_t group = 4;
    const std::vector<float> queries = random_floats(group * dim, 2);
    Workspace<AnyKeys, AnyValues> workspace;
    const double nanoseconds = nanoseconds_per_iteration(state, [&] {
      must(retainer.observe(trunk(), {queries.data(), 1, group, group * dim, dim}, tokens, workspace));
    });
    count(state, nanoseconds, tokens, "token", trunk().bytes_per_token(), "codes");
  });
  benchmark::RegisterBenchmark("sequence/compact", [](benchmark::State& state) {
    Head sparse = must(trunk().fork());
    evict_scattered(sparse);
    double seconds = 0;
    for (auto _ : state) {
      Head head = must(sparse.fork());
      const auto start = std::chrono::steady_clock::now();
      benchmark::DoNotOptimize(must(compact(head)));
      const double once = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      state.SetIterationTime(once);
      seconds += once;
    }
    state.counters["ns_per_token"] = seconds * 1e9 / static_cast<double>(state.iterations()) / static_cast<double>(tokens / 8);
  })->UseManualTime();
  add("sequence/map", [](benchmark::State& state) { time_map(state, false); });
  add("sequence/map_and_attend", [](benchmark::State& state) { time_map(state, true); });

  add("sequence/attend/fresh", [](benchmark::State& state) { time_attend(state, [] { return filled(tokens); }); });
  add("sequence/attend/fresh_half",
      [](benchmark::State& state) { time_attend(state, [] { return filled(tokens / 2); }); });
  const auto after = [](const char* name, const std::function<void(Head&)>& change) {
    add(name, [=](benchmark::State& state) {
      time_attend(state, [&] {
        Head head = must(trunk().fork());
        change(head);
        return head;
      });
    });
  };
  after("sequence/attend/after_fork", [](Head&) {});
  after("sequence/attend/after_truncate_half", [](Head& head) { head.truncate(tokens / 2); });
  after("sequence/attend/after_shift", [](Head& head) { must(head.shift({4, tokens - 4}, -1)); });
  after("sequence/attend/after_erase_half_and_close", [](Head& head) {
    must(head.erase({4, tokens / 2}, Gap::close));
  });
  after("sequence/attend/after_erase_every_second", [](Head& head) { must(head.erase(every_second(tokens))); });
  after("sequence/attend/after_evict", evict_scattered);
  after("sequence/attend/after_evict_and_compact", [](Head& head) {
    evict_scattered(head);
    benchmark::DoNotOptimize(must(compact(head)));
  });
  add("sequence/attend/fresh_eighth", [](benchmark::State& state) { time_attend(state, [] { return filled(tokens / 8); }); });
  const auto in_runs_after = [](const char* name, std::size_t count, bool evict, bool compacted) {
    add(name, [=](benchmark::State& state) {
      time_attend(state, [&] {
        Head head = filled(count, true);
        if (evict) evict_scattered(head);
        if (compacted) benchmark::DoNotOptimize(must(compact(head)));
        return head;
      });
    });
  };
  in_runs_after("sequence/attend/runs/fresh", tokens, false, false);
  in_runs_after("sequence/attend/runs/after_evict", tokens, true, false);
  in_runs_after("sequence/attend/runs/after_evict_and_compact", tokens, true, true);
  in_runs_after("sequence/attend/runs/fresh_eighth", tokens / 8, false, false);
}

}  // namespace pqkv::bench
