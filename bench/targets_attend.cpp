// Whole attention of one head, cold, against exact rows: OpenBLAS and Eigen in f32, this library in f16; and how its time
// per token depends on the length of the context.
#include "peers/peers.hpp"
#include "support/rotation.hpp"
#include "targets.hpp"

namespace pqkv::bench {
namespace {

/// Heads of one spec that take part in a contest.
class Entry {
 public:
  Entry(const std::string& spec, std::size_t dim) : heads_(Placement::cold, spec, dim, 2) {}
  [[nodiscard]] double bytes_per_token() { return heads_.next().bytes_per_token(); }
  std::size_t enter(Contest& contest, const std::vector<float>& queries, std::size_t group, std::size_t dim) {
    workspace_.reserve(heads_.next(), group);
    outs_.resize(group * dim);
    return contest.add(static_cast<double>(heads_.next().tokens()), [this, &queries, group, dim] {
      attend(heads_.next(), FloatRows(queries.data(), group, dim), outs_.data(), dim, workspace_);
    });
  }

 private:
  RotatingHeads heads_;
  Workspace<AnyKeys, AnyValues> workspace_;
  std::vector<float> outs_;
};

/// Exact rows for the peers: heads of `long_context` keys and values, rotating.
class ExactRowsOfPeers {
 public:
  explicit ExactRowsOfPeers(std::size_t dim)
      : dim_(dim), bytes_(Placement::cold, 2 * long_context * dim * sizeof(float), pattern(dim)) {}
  void run(AttendRows attend, const std::vector<float>& queries, std::size_t group) {
    scores_.resize(group * long_context);
    outs_.resize(group * dim_);
    const auto* keys = reinterpret_cast<const float*>(bytes_.next());
    attend(queries.data(), group, keys, keys + long_context * dim_, long_context, dim_, scores_.data(), outs_.data());
  }

 private:
  [[nodiscard]] static std::vector<std::byte> pattern(std::size_t dim) {
    const std::vector<float> floats = random_floats(4096 * dim, 3);
    std::vector<std::byte> bytes(floats.size() * sizeof(float));
    std::memcpy(bytes.data(), floats.data(), bytes.size());
    return bytes;
  }
  std::size_t dim_;
  RotatingBytes bytes_;
  std::vector<float> scores_, outs_;
};

void compare(std::size_t dim, MemoryReader& memory) {
  Entry half("k=exact:f16,v=exact:f16", dim);
  ExactRowsOfPeers rows(dim);
  for (const char* values : {"int4:g=32", "int4:g=row"}) {
    Entry coded(fmt::format("k=pq4:m=16,v={}", values), dim);
    for (const std::size_t group : {1, 4, 8}) {
      const std::vector<float> queries = random_floats(group * dim, 2);
      Contest contest;
      const std::size_t ours = coded.enter(contest, queries, group, dim);
      const std::size_t exact = half.enter(contest, queries, group, dim);
      const AttendRows blas = openblas_attend(), eigen = eigen_attend();
      const auto items = static_cast<double>(long_context);
      std::size_t blas_entry = 0, eigen_entry = 0;
      if (blas != nullptr) blas_entry = contest.add(items, [&] { rows.run(blas, queries, group); });
      if (eigen != nullptr) eigen_entry = contest.add(items, [&] { rows.run(eigen, queries, group); });
      const std::size_t reader = group == 1 ? memory.enter(contest) : 0;
      contest.hold(15);
      const std::string name = fmt::format("attend pq4 m=16 + {} dim {} group {}", values, dim, group);
      print_figure(name, contest.time(ours), "ns/tok");
      print_figure(name + ", own exact f16", contest.time(exact), "ns/tok");
      if (blas != nullptr) {
        print_figure(name + ", OpenBLAS f32", contest.time(blas_entry), "ns/tok");
        print_target(name + ", × OpenBLAS f32", contest.faster(ours, blas_entry), group == 1 ? 9 : 6);
      } else {
        print_left_out(name + ", × OpenBLAS f32", "OpenBLAS not found");
      }
      if (eigen != nullptr) print_figure(name + ", × Eigen f32", contest.faster(ours, eigen_entry), "×");
      print_speed(name, coded.bytes_per_token(), contest.time(ours));
      if (group != 1) continue;
      print_speed(name + ", own exact f16", half.bytes_per_token(), contest.time(exact));
      print_target(name + ", × own exact f16", contest.faster(ours, exact), 4.5);
      const Spread share = MemoryReader::share(contest, ours, reader, coded.bytes_per_token());
      print_target(name + ", time / bytes' own bound", {1 / share.median, 1 / share.upper, 1 / share.lower}, 1.3, true);
      print_target(name + ", exact f16, share of memory bandwidth",
                   MemoryReader::share(contest, exact, reader, half.bytes_per_token()), 0.85);
    }
  }
}

/// The library against itself: a pair of formats at 4 + 5 bits against exact caches in f32 and f16.
void compare_own(std::size_t dim) {
  Entry coded("k=pq4:m=dim/4,v=int4:g=32", dim), full("k=exact:f32,v=exact:f32", dim), half("k=exact:f16,v=exact:f16", dim);
  const std::vector<float> query = random_floats(dim, 2);
  Contest contest;
  const std::size_t ours = coded.enter(contest, query, 1, dim);
  const std::size_t f32 = full.enter(contest, query, 1, dim), f16 = half.enter(contest, query, 1, dim);
  contest.hold(15);
  const std::string name = fmt::format("attend pq4 m=dim/4 + int4:g=32 dim {} group 1", dim);
  print_figure(name, contest.time(ours), "ns/tok");
  print_target(name + ", × own exact f32", contest.faster(ours, f32), 6);
  print_target(name + ", × own exact f16", contest.faster(ours, f16), 4);
}

/// Cold heads of `tokens` tokens.
struct Context {
  std::vector<HeadCache<AnyKeys, AnyValues>> heads;
  Workspace<AnyKeys, AnyValues> workspace;
  std::size_t turn = 0;

  Context(const std::string& spec_text, std::size_t dim, std::size_t tokens, bool own_codebooks) {
    const CacheSpec spec = must(parse_cache_spec(spec_text));
    const std::vector<float> rows = random_floats(2 * 4096 * dim, 1);
    double held = 0;
    const auto filling = static_cast<double>(working_set(Placement::cold));
    const AnyValues value_format = values(spec.values, dim);
    const AnyKeys shared = keys(spec.keys, dim);
    while (held < filling || heads.size() < 2) {
      auto& head = heads.emplace_back(own_codebooks ? keys(spec.keys, dim, heads.size()) : shared, value_format, spec.options);
      must(head.reserve(tokens));
      while (head.tokens() < tokens) {
        const std::size_t more = std::min<std::size_t>(4096, tokens - head.tokens());
        must(head.append(Rows(rows.data(), more, dim), Rows(rows.data() + rows.size() / 2, more, dim)));
      }
      held += static_cast<double>(tokens) * head.bytes_per_token();
    }
    workspace.reserve(heads.front(), 1);
  }
};

}  // namespace

void attend_targets(MemoryReader& memory) {
  for (const std::size_t dim : {64, 128}) compare(dim, memory);
  compare_own(128);
}

void context_targets() {
  constexpr std::size_t dim = 128;
  const std::vector<float> query = random_floats(dim, 2);
  std::vector<float> out(dim);
  double least = 1e30, most = 0;
  for (const std::size_t tokens : {512, 1024, 4096, 16384, 65536, 262144}) {
    Context coded("k=pq4:m=16,v=int4:g=32", dim, tokens, true), exact("k=exact:f16,v=exact:f16", dim, tokens, false);
    Contest contest;
    const auto enter = [&](Context& context) {
      const std::size_t batch = std::max<std::size_t>(1, 65536 / tokens);  // heads per measurement
      return contest.add(static_cast<double>(tokens * batch), [&context, &query, &out, batch] {
        for (std::size_t i = 0; i < batch; ++i) {
          context.turn = context.turn + 1 < context.heads.size() ? context.turn + 1 : 0;
          attend(context.heads[context.turn], FloatRows(query.data(), 1, dim), out.data(), dim, context.workspace);
        }
      });
    };
    const std::size_t ours = enter(coded), half = enter(exact);
    contest.hold(15);
    const std::string name = fmt::format("attend pq4 m=16 + int4:g=32 dim {} at {} tokens, cold", dim, tokens);
    print_figure(name, contest.time(ours), "ns/tok");
    print_figure(name + ", own exact f16", contest.time(half), "ns/tok");
    if (tokens <= 1024) print_target(name + ", × own exact f16", contest.faster(ours, half), 2);
    if (tokens >= 4096) {
      least = std::min(least, contest.time(ours).median);
      most = std::max(most, contest.time(ours).median);
    }
  }
  print_target("attend, ns per token, largest / smallest of 4k to 256k tokens", {most / least, most / least, most / least}, 1.15,
               true);
}

}  // namespace pqkv::bench
