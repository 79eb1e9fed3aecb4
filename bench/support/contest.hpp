// Contenders that take turns, so that what else the machine does hits them alike. A ratio is the median over rounds of
// two neighbouring measurements, never a quotient of two medians.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <ctime>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace pqkv::bench {

/// The middle of some measurements, and their quartiles.
struct Spread {
  double median = 0;
  double lower = 0;
  double upper = 0;
};

[[nodiscard]] inline Spread spread_of(std::vector<double> numbers) {
  if (numbers.empty()) return {};
  std::sort(numbers.begin(), numbers.end());
  const std::size_t last = numbers.size() - 1;
  return {numbers[numbers.size() / 2], numbers[last / 4], numbers[last - last / 4]};
}

[[nodiscard]] inline std::string text_of(const Spread& spread, int digits = 2) {
  return fmt::format("{:.{}f} ({:.{}f}..{:.{}f})", spread.median, digits, spread.lower, digits, spread.upper, digits);
}

/// What a contest's clock counts.
enum class Clock {
  thread,  ///< processor time of this thread: other programs on the core do not count
  wall,    ///< for contenders that start threads
};

[[nodiscard]] inline double nanoseconds_now(Clock clock) {
  timespec now{};
  clock_gettime(clock == Clock::thread ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

class Contest {
 public:
  explicit Contest(Clock clock = Clock::thread) : clock_(clock) {}

  /// `run` goes over `items` items. Returns the contender's index. `repeat` calls of a short one are one measurement.
  std::size_t add(double items, std::function<void()> run, std::size_t repeat = 1) {
    contenders_.push_back({items * static_cast<double>(repeat), repeat, std::move(run), {}});
    return contenders_.size() - 1;
  }

  void hold(std::size_t rounds) {
    for (Contender& contender : contenders_) contender.run();  // pages, tables, branch predictors
    for (std::size_t round = 0; round < rounds; ++round) {
      for (Contender& contender : contenders_) {
        const double start = nanoseconds_now(clock_);
        for (std::size_t i = 0; i < contender.repeat; ++i) contender.run();
        contender.times.push_back((nanoseconds_now(clock_) - start) / contender.items);
      }
    }
  }

  /// Nanoseconds per item.
  [[nodiscard]] Spread time(std::size_t contender) const { return spread_of(contenders_[contender].times); }
  /// How many times faster `contender` was than `other`, round by round.
  [[nodiscard]] Spread faster(std::size_t contender, std::size_t other) const {
    std::vector<double> ratios;
    for (std::size_t round = 0; round < contenders_[contender].times.size(); ++round) {
      ratios.push_back(contenders_[other].times[round] / contenders_[contender].times[round]);
    }
    return spread_of(std::move(ratios));
  }

 private:
  struct Contender {
    double items;
    std::size_t repeat;
    std::function<void()> run;
    std::vector<double> times;
  };
  Clock clock_;
  std::vector<Contender> contenders_;
};

}  // namespace pqkv::bench
