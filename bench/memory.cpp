// pqkv_memory: what a cache of 262,144 tokens × 8 heads × dim 128 takes, appended token by token: what it says itself,
// what its codes and scales alone are, and what the system has given to the process. Returns 1 beyond the targets.
#include <fstream>
#include <string>

#include "support/data.hpp"

namespace {

/// A line of /proc/self/status ("VmRSS", "VmHWM") in bytes.
double process_bytes(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name + ":")) return std::stod(line.substr(name.size() + 1)) * 1024;
  }
  return 0;
}

}  // namespace

int main() {
  using namespace pqkv;
  using namespace pqkv::bench;
  constexpr std::size_t tokens = 262144, heads = 8, dim = 128, width = heads * dim;
  constexpr double most_over_codes = 1.03;  // bytes() against codes and scales
  constexpr double most_over_bytes = 1.10;  // peak of the process against bytes()

  auto cache = must(CompressedKVCache<Pq4Keys, Int4Values>::make(
      {1, heads, dim}, {must(Pq4Keys::make(random_codebook({dim, dim / 4, 16})))}, {must(Int4Values::make(dim, 32))}));
  const std::vector<float> rows = random_floats(2 * width, 1);
  const double before = process_bytes("VmRSS");
  for (std::size_t t = 0; t < tokens; ++t) {
    must(cache.append_layer(0, Rows(rows.data(), 1, width), Rows(rows.data() + width, 1, width)));
  }
  const double after = process_bytes("VmRSS");
  const double peak = process_bytes("VmHWM");

  const auto bytes = static_cast<double>(cache.bytes());
  const double codes = static_cast<double>(tokens) * cache.bytes_per_token();
  const double over_codes = bytes / codes;
  const double over_bytes = (peak - before) / bytes;
  constexpr double mebibyte = 1024 * 1024;
  fmt::print("{}: {} tokens one by one\n", cache.describe(), cache.tokens());
  fmt::print("codes and scales      {:9.2f} MiB\n", codes / mebibyte);
  fmt::print("bytes()               {:9.2f} MiB  {:.4f} × codes and scales (target ≤ {})\n", bytes / mebibyte,
             over_codes, most_over_codes);
  fmt::print("resident, before      {:9.2f} MiB\n", before / mebibyte);
  fmt::print("resident, after       {:9.2f} MiB\n", after / mebibyte);
  fmt::print("peak − before         {:9.2f} MiB  {:.4f} × bytes() (target ≤ {})\n", (peak - before) / mebibyte,
             over_bytes, most_over_bytes);
  fmt::print("in f16 it would take  {:9.2f} MiB  {:.2f} × bytes()\n",
             static_cast<double>(tokens * width * 2 * sizeof(f16)) / mebibyte,
             static_cast<double>(tokens * width * 2 * sizeof(f16)) / bytes);
  return over_codes <= most_over_codes && over_bytes <= most_over_bytes ? 0 : 1;
}
