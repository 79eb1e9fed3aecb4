// Attention of one head, whole: tables, scores, softmax, values.
#include "subjects.hpp"
#include "support/counters.hpp"
#include "support/registration.hpp"
#include "support/rotation.hpp"

namespace pqkv::bench {
namespace {

void attend_heads(benchmark::State& state, const std::string& spec, std::size_t dim, std::size_t group,
                  Placement placement) {
  auto& heads = Kept<RotatingHeads>::get(fmt::format("attend {} {} {}", spec, dim, name_of(placement)),
                                         [&] { return RotatingHeads(placement, spec, dim); });
  const std::vector<float> queries = random_floats(group * dim, 2);
  std::vector<float> outs(group * dim);
  Workspace<AnyKeys, AnyValues> workspace;
  workspace.reserve(heads.next(), group);
  const double nanoseconds = nanoseconds_per_iteration(state, [&] {
    attend(heads.next(), FloatRows(queries.data(), group, dim), outs.data(), dim, workspace);
    benchmark::DoNotOptimize(outs.data());
  });
  count(state, nanoseconds, heads.next().tokens(), "token", heads.next().bytes_per_token(), "codes");
}

}  // namespace

void register_attend() {
  register_groups("attend",
                  {"k=exact:f32,v=exact:f32", "k=exact:f16,v=exact:f16", "k=exact:f16,v=int8:g=32",
                   "k=exact:f16,v=int4:g=32", "k=pq8:m=dim/8,v=int4:g=32", "k=pq4:m=dim/4,v=int4:g=32",
                   "k=pq4:m=dim/4,v=int2:g=32", "k=pq4:m=dim/4,v=pq4:m=dim/4", "k=pq4:m=dim/8:stages=2,v=int4:g=32"},
                  attend_heads);
}

}  // namespace pqkv::bench
