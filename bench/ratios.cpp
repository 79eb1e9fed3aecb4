// --ratios: compressed against exact attention, one thread, long context, every byte from memory. The contenders take
// turns, so that what else the machine does hits them alike, and each has heads of its own.
#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <string>

#include "subjects.hpp"
#include "support/bandwidth.hpp"
#include "support/rotation.hpp"

namespace pqkv::bench {
namespace {

constexpr std::size_t rounds = 31;
constexpr std::size_t contenders = 3;
constexpr std::array<const char*, contenders> specs = {"k=pq4:m=dim/4,v=int4:g=32", "k=exact:f16,v=exact:f16",
                                                       "k=exact:f32,v=exact:f32"};

/// The middle of some measurements, and their ends.
struct Spread {
  double median;
  double least;
  double most;
};

[[nodiscard]] Spread spread_of(std::array<double, rounds> numbers) {
  std::sort(numbers.begin(), numbers.end());
  return {numbers[rounds / 2], numbers.front(), numbers.back()};
}

[[nodiscard]] std::string text_of(const Spread& spread, int digits) {
  return fmt::format("{:.{}f} ({:.{}f}..{:.{}f})", spread.median, digits, spread.least, digits, spread.most, digits);
}

template <class Body>
[[nodiscard]] double nanoseconds_of(const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
}

/// What /proc/cpuinfo says of the first core; virtual machines often hide the name, not the model number.
[[nodiscard]] std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  std::string model;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model\t")) model = line.substr(line.find(':') + 2);
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2) + " (model " + model + ")";
  }
  return "unknown CPU";
}

#if defined(__clang__)
constexpr std::string_view compiler = __VERSION__;
#else
constexpr std::string_view compiler = "GCC " __VERSION__;
#endif

/// Nanoseconds per token, [contender][round].
using Times = std::array<std::array<double, rounds>, contenders>;

[[nodiscard]] Times measure(std::vector<RotatingHeads>& heads, std::size_t dim, std::size_t group) {
  const std::vector<float> queries = random_floats(group * dim, 2);
  std::vector<float> outs(group * dim);
  std::array<Workspace<AnyKeys, AnyValues>, contenders> workspaces;
  for (std::size_t c = 0; c < contenders; ++c) workspaces[c].reserve(heads[c].next(), group);
  Times times{};
  for (std::size_t round = 0; round < rounds; ++round) {
    for (std::size_t c = 0; c < contenders; ++c) {
      const RotatingHeads::Head& head = heads[c].next();
      const double nanoseconds =
          nanoseconds_of([&] { attend(head, FloatRows(queries.data(), group, dim), outs.data(), dim, workspaces[c]); });
      times[c][round] = nanoseconds / static_cast<double>(head.tokens());
    }
  }
  return times;
}

/// How many times faster `contender` was than `other`, round by round.
[[nodiscard]] std::string ratio_text(const Times& times, std::size_t contender, std::size_t other) {
  if (contender == other) return "1";
  std::array<double, rounds> ratios{};
  for (std::size_t round = 0; round < rounds; ++round) ratios[round] = times[other][round] / times[contender][round];
  return text_of(spread_of(ratios), 2);
}

void print_bandwidth() {
  constexpr std::size_t piece = 32 << 20;
  RotatingBytes bytes(Placement::cold, piece, std::vector<std::byte>(512, std::byte{1}));
  std::array<double, rounds> speeds{};
  std::uint64_t sum = 0;
  for (double& speed : speeds) {
    speed = static_cast<double>(piece) / nanoseconds_of([&] { sum += read_all(bytes.next(), piece); });
  }
  // The sum is a known one, so that the compiler cannot leave the reads out.
  if (sum != rounds * (piece / 8) * 0x0101010101010101u) {
    fail({Errc::invalid_data, "memory does not hold what was written"});
  }
  fmt::print("reading memory and nothing else: {} GB/s\n\n", text_of(spread_of(speeds), 1));
}

}  // namespace

void print_ratios() {
  fmt::print("{}, {}, kernels {}\n", cpu_name(), compiler, isa::best().name);
  fmt::print("attend on one thread, {} tokens, each head from memory; medians (least..most) of {} rounds in turns\n",
             long_context, rounds);
  print_bandwidth();
  fmt::print("{:>3}  {:>5}  {:<26} {:>21}  {:>5}  {:>22}  {:>22}\n", "dim", "group", "policy", "ns/token", "GB/s",
             "times faster than f32", "than f16");
  for (const std::size_t dim : {128, 64}) {
    std::vector<RotatingHeads> heads;
    for (const char* spec : specs) heads.emplace_back(Placement::cold, spec, dim, 8);
    for (const std::size_t group : {1, 4, 8}) {
      const Times times = measure(heads, dim, group);
      for (std::size_t c = 0; c < contenders; ++c) {
        const Spread spread = spread_of(times[c]);
        fmt::print("{:>3}  {:>5}  {:<26} {:>21}  {:>5.1f}  {:>22}  {:>22}\n", dim, group, specs[c], text_of(spread, 2),
                   heads[c].next().bytes_per_token() / spread.median, ratio_text(times, c, 2), ratio_text(times, c, 1));
      }
    }
  }
}

}  // namespace pqkv::bench
