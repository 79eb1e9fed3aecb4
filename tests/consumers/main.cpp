// What a user writes first: shared by every way of consuming the library.
#include <pqkv/pqkv.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

int main() {
  constexpr std::size_t dim = 32, tokens = 200;
  auto values = pqkv::Int8Values::make(dim, 32);
  if (!values) return 1;
  pqkv::HeadCache cache(pqkv::ExactKeys(dim), *values, {.sinks = 4, .recent = 32});
  pqkv::Workspace<pqkv::ExactKeys, pqkv::Int8Values> workspace;

  // Every value row is the same, so whatever the weights, attention gives that row back.
  const std::vector<float> keys(tokens * dim, 0.25f), rows(tokens * dim, 2.0f), query(dim, 1.0f);
  if (!cache.append(pqkv::Rows(keys.data(), tokens, dim), pqkv::Rows(rows.data(), tokens, dim))) return 1;
  std::vector<float> out(dim);
  pqkv::attend(cache, pqkv::FloatRows(query.data(), 1, dim), out.data(), dim, workspace);
  std::printf("pqkv consumer: %zu tokens, output %.3f\n", cache.tokens(), static_cast<double>(out[0]));
  return cache.tokens() == tokens && std::fabs(out[0] - 2.0f) < 1e-2f ? 0 : 1;
}
