// An executor of two threads, for tests of what may run on several.
#pragma once

#include <atomic>
#include <cstddef>
#include <thread>

namespace pqkv::test {

/// Two threads per call.
struct TwoThreads {
  std::size_t workers() const noexcept { return 2; }
  template <class Task>
  void run(std::size_t count, const Task& task) const {
    std::atomic<std::size_t> next{0};
    const auto work = [&](std::size_t worker) {
      for (std::size_t i = next++; i < count; i = next++) task(i, worker);
    };
    std::thread other(work, 1);
    work(0);
    other.join();
  }
};

}  // namespace pqkv::test
