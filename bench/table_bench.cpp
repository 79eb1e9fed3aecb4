// Look-up tables: what prepare costs once per step, head and query. Cold: every head has a codebook of its own, which
// comes from memory, as in a model whose layers do not fit into the caches.
#include "subjects.hpp"
#include "support/counters.hpp"
#include "support/registration.hpp"
#include "support/rotation.hpp"

namespace pqkv::bench {
namespace {

void prepare_tables(benchmark::State& state, const std::string& text, std::size_t dim, std::size_t group,
                    Placement placement) {
  auto& formats = Kept<std::vector<AnyKeys>>::get(fmt::format("table {} {} {}", text, dim, name_of(placement)), [&] {
    std::vector<AnyKeys> made{keys(text, dim)};
    const std::size_t count =
        placement == Placement::warm ? 1 : working_set(placement) / made.front().codebook_bytes() + 1;
    for (std::size_t i = 1; i < count; ++i) made.push_back(keys(text, dim, i));
    return made;
  });
  const std::vector<float> queries = random_floats(group * dim, 2);
  AnyKeys::QueryTable table;
  std::size_t turn = 0;
  const double nanoseconds = nanoseconds_per_iteration(state, [&] {
    turn = turn + 1 < formats.size() ? turn + 1 : 0;
    formats[turn].prepare(table, FloatRows(queries.data(), group, dim));
    benchmark::DoNotOptimize(table);
  });
  const auto bytes = static_cast<double>(formats.front().codebook_bytes());
  count(state, nanoseconds, group, "query", bytes / static_cast<double>(group), "codebook");
}

}  // namespace

void register_table() { register_groups("table", {"pq8:m=dim/8", "pq6:m=dim/8", "pq4:m=dim/8:stages=2", "pq4:m=dim/4"}, prepare_tables); }

}  // namespace pqkv::bench
