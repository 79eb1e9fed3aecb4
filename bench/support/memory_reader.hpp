// The contender that does nothing but read memory. How much one core reads per second changes with what others read, so it
// takes its turns with those that are compared with it.
#pragma once

#include <vector>

#include "support/bandwidth.hpp"
#include "support/contest.hpp"
#include "support/rotation.hpp"

namespace pqkv::bench {

class MemoryReader {
 public:
  MemoryReader() : bytes_(Placement::cold, piece, std::vector<std::byte>(512, std::byte{1})) {}

  /// Its items are bytes.
  std::size_t enter(Contest& contest) {
    return contest.add(static_cast<double>(piece), [this] { sum_ = sum_ + read_all(bytes_.next(), piece); });
  }
  /// GB/s.
  [[nodiscard]] static Spread speed(const Contest& contest, std::size_t reader) {
    const Spread time = contest.time(reader);
    return {1 / time.median, 1 / time.upper, 1 / time.lower};
  }
  /// What a contender that reads so many bytes per item has of the reader's speed, round by round: 1 is all of it.
  [[nodiscard]] static Spread share(const Contest& contest, std::size_t contender, std::size_t reader, double bytes_per_item) {
    const Spread faster = contest.faster(contender, reader);
    return {faster.median * bytes_per_item, faster.lower * bytes_per_item, faster.upper * bytes_per_item};
  }

 private:
  static constexpr std::size_t piece = 16 << 20;
  RotatingBytes bytes_;
  volatile std::uint64_t sum_ = 0;
};

}  // namespace pqkv::bench
