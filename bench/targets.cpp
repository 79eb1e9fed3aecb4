// --ratios [word…]: all lines, or those of the groups named.
#include "targets.hpp"

#include <benchmark/benchmark.h>

#include <fstream>

#include "common/instruction_set.hpp"
#include "peers/peers.hpp"
#include "subjects.hpp"
#include "support/bandwidth.hpp"
#include "support/rotation.hpp"

namespace pqkv::bench {
namespace {

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

/// GB/s of reading `total` bytes in turns of `piece`.
[[nodiscard]] Spread read_speed(std::size_t total, std::size_t piece) {
  std::vector<std::byte> bytes(total, std::byte{1});
  std::vector<double> speeds;
  std::size_t at = 0;
  constexpr int rounds = 31;
  for (int round = -3; round < rounds; ++round) {
    std::size_t read = 0;
    const double start = nanoseconds_now(Clock::thread);
    while (read < (16u << 20)) {
      benchmark::DoNotOptimize(read_all(bytes.data() + at, piece));
      at = at + 2 * piece <= total ? at + piece : 0;
      read += piece;
    }
    const double speed = static_cast<double>(read) / (nanoseconds_now(Clock::thread) - start);
    if (round >= 0) speeds.push_back(speed);
  }
  return spread_of(std::move(speeds));
}

/// Look-ups and additions per nanosecond by the kernel that does nothing else; table and codes in the first-level cache.
[[nodiscard]] Spread lookup_speed() {
  constexpr std::size_t subspaces = 8, blocks = 16;
  const std::vector<float> table = random_floats(subspaces * 256, 1);
  std::vector<std::uint8_t> codes(blocks * 32 * subspaces);
  Random random(2);
  for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random.next());
  std::vector<float> scores(blocks * 32);
  Contest contest;
  const std::size_t one = contest.add(
      1, [&] { isa::best().pq8_score(codes.data(), blocks, subspaces, table.data(), scores.data(), 0); }, 200);
  contest.hold(31);
  const Spread time = contest.time(one);
  constexpr auto lookups = static_cast<double>(blocks * 32 * subspaces);
  return {lookups / time.median, lookups / time.upper, lookups / time.lower};
}

}  // namespace

void print_limits(MemoryReader& memory) {
  const std::size_t second_bytes = working_set(Placement::warm) / 512 * 512;
  Contest contest;
  const std::size_t reader = memory.enter(contest);
  contest.hold(31);
  const Spread third = read_speed(16 * second_bytes, second_bytes);
  const Spread second = read_speed(second_bytes, second_bytes);
  const Spread lookups = lookup_speed();
  print_figure("limits: reading memory", MemoryReader::speed(contest, reader), "GB/s");
  print_figure(fmt::format("limits: reading the last-level cache ({} MiB)", 16 * second_bytes >> 20), third, "GB/s");
  print_figure("limits: reading the second-level cache", second, "GB/s");
  print_figure("limits: look-ups in 256 floats, each with an addition", lookups, "per ns");
}

void print_ratios(const std::vector<std::string>& groups) {
  const auto wanted = [&](std::string_view group) {
    return groups.empty() || std::find(groups.begin(), groups.end(), group) != groups.end();
  };
  const AttendRows blas = openblas_attend();
  fmt::print("{}, {}, {}\n", cpu_name(), compiler, common::instruction_set());
  fmt::print("OpenBLAS: {}; Eigen: {}; FAISS: {}\n", blas != nullptr ? openblas_name() : "not found",
             eigen_attend() != nullptr ? "yes" : "not found", faiss_name());
  fmt::print("Times of contenders that take turns; a ratio is the median (quartiles) over rounds.\n\n");
  fmt::print("| {:<72} | {:>22} | {:<7} | {:<6} |\n|---|---|---|---|\n", "measure", "reached", "target", "");
  MemoryReader memory;
  print_limits(memory);
  if (wanted("score")) score_targets(memory);
  if (wanted("attend")) attend_targets(memory);
  if (wanted("context")) context_targets();
  if (wanted("skip")) skip_targets();
  if (wanted("encode")) encode_targets();
  if (wanted("train")) train_targets();
  if (wanted("workers")) worker_targets();
}

}  // namespace pqkv::bench
