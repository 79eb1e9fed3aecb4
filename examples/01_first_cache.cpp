#include <pqkv/pqkv.hpp>

#include <cstdio>
#include <vector>

int main() {
  constexpr std::size_t dim = 64;
  auto values = pqkv::Int4Values::make(dim, 32);  // 4 bits, groups of 32 channels
  if (!values) return std::puts(values.error().message.c_str());

  // One kv head: 4 sinks and the newest 64 tokens exact, the rest compressed.
  pqkv::HeadCache cache(pqkv::ExactKeys(dim, pqkv::ScalarType::f16), *values, {.sinks = 4, .recent = 64});
  pqkv::Workspace<pqkv::ExactKeys, pqkv::Int4Values> workspace;

  std::vector<float> key(dim), value(dim), query(dim, 0.1f), out(dim);
  for (int token = 0; token < 1000; ++token) {
    for (std::size_t d = 0; d < dim; ++d) {
      key[d] = static_cast<float>((token * 7 + static_cast<int>(d)) % 13) - 6.0f;
      value[d] = static_cast<float>(token % 10);
    }
    const pqkv::Status status = cache.append(pqkv::Rows(key.data(), 1, dim), pqkv::Rows(value.data(), 1, dim));
    if (!status) return std::puts(status.error().message.c_str());
    pqkv::attend(cache, pqkv::FloatRows(query.data(), 1, dim), out.data(), dim, workspace);
  }
  std::printf("%zu tokens in %zu bytes, first output %.3f\n", cache.tokens(), cache.bytes(), static_cast<double>(out[0]));
}
