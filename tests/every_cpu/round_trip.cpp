// A cache of several formats: append, save, load, attend, as a program of its own that is quick under an emulator. Prints the
// instruction set. Attention after loading equals that before to the last bit, and exact attention within what formats err.
#include <pqkv/io/any_sequence_file.hpp>
#include <pqkv/pqkv.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

#include "common/instruction_set.hpp"
#include "support/checksum.hpp"
#include "support/data.hpp"

namespace {

using Head = pqkv::HeadCache<pqkv::AnyKeys, pqkv::AnyValues>;

constexpr std::size_t dim = 64, tokens = 150, group = 4;
/// Of the output's length: 4-bit formats on random rows, most tokens coded.
constexpr double format_tolerance = 0.2;

/// Exact attention of one query, in double.
std::vector<double> exact_attention(const std::vector<float>& keys, const std::vector<float>& values, const float* query) {
  std::vector<double> out(dim);
  double sum = 0;
  for (std::size_t t = 0; t < tokens; ++t) {
    double score = 0;
    for (std::size_t d = 0; d < dim; ++d) score += static_cast<double>(keys[t * dim + d]) * static_cast<double>(query[d]);
    const double weight = std::exp(score / std::sqrt(static_cast<double>(dim)));
    for (std::size_t d = 0; d < dim; ++d) out[d] += weight * static_cast<double>(values[t * dim + d]);
    sum += weight;
  }
  for (double& x : out) x /= sum;
  return out;
}

bool round_trip(const char* text) {
  const auto spec = pqkv::parse_cache_spec(text);
  const auto keys = pqkv::make_keys(spec->keys, dim);
  const auto values = pqkv::make_values(spec->values, dim);
  if (!keys || !values) return false;
  Head head(*keys, *values, spec->options);
  const auto key_rows = pqkv::test::normal_floats(tokens * dim, 1), value_rows = pqkv::test::normal_floats(tokens * dim, 2);
  const auto queries = pqkv::test::normal_floats(group * dim, 3);
  if (!head.append(pqkv::Rows(key_rows.data(), tokens, dim), pqkv::Rows(value_rows.data(), tokens, dim))) return false;

  const auto attend = [&](const Head& of) {
    pqkv::Workspace<pqkv::AnyKeys, pqkv::AnyValues> workspace;
    std::vector<float> outs(group * dim);
    pqkv::attend(of, pqkv::FloatRows(queries.data(), group, dim), outs.data(), dim, workspace);
    return outs;
  };
  const std::vector<float> before = attend(head);
  pqkv::MemorySink file;
  if (!pqkv::save_head(file, head, pqkv::test::test_checksum())) return false;
  pqkv::MemorySource source(file.bytes());
  auto loaded = pqkv::load_head(source, *keys, *values, pqkv::test::test_checksum());
  if (!loaded || attend(*loaded) != before) return false;

  double error = 0, length = 0;
  for (std::size_t q = 0; q < group; ++q) {
    const std::vector<double> exact = exact_attention(key_rows, value_rows, queries.data() + q * dim);
    for (std::size_t d = 0; d < dim; ++d) {
      const double difference = static_cast<double>(before[q * dim + d]) - exact[d];
      error += difference * difference;
      length += exact[d] * exact[d];
    }
  }
  return std::sqrt(error / length) < format_tolerance;
}

}  // namespace

int main() {
  std::printf("%s\n", common::instruction_set().c_str());
  for (const char* text : {"k=exact:f16,v=exact:bf16,sinks=4,recent=16", "k=turbo4,v=turbo4,sinks=4,recent=16",
                           "k=kivi4,v=int4:g=32,sinks=4,recent=16", "k=q8_0,v=q8_0,sinks=0,recent=0", "k=q4_0,v=int8,window=f16"}) {
    if (round_trip(text)) continue;
    std::printf("failed: %s\n", text);
    return 1;
  }
  std::puts("every round trip gives back what was there");
}
