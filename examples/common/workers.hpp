// Threads for the programs: an executor in the sense of pqkv::Executor, and a progress bar.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace common {

/// Runs tasks on `workers` threads, started per call: tasks here take many milliseconds.
class Workers {
 public:
  explicit Workers(std::size_t workers) : workers_(workers) {}
  [[nodiscard]] std::size_t workers() const noexcept { return workers_; }
  template <class Task>
  void run(std::size_t count, const Task& task) const {
    std::atomic<std::size_t> next{0};
    const auto work = [&](std::size_t worker) {
      for (std::size_t index = next++; index < count; index = next++) task(index, worker);
    };
    std::vector<std::thread> threads;
    for (std::size_t worker = 1; worker < workers_ && worker < count; ++worker) threads.emplace_back(work, worker);
    work(0);
    for (std::thread& thread : threads) thread.join();
  }

 private:
  std::size_t workers_;
};

/// A line on standard error that is redrawn as work proceeds; silent unless standard error is a terminal.
class ProgressBar {
 public:
  explicit ProgressBar(std::size_t total, bool shown = isatty(STDERR_FILENO) != 0) : total_(total), shown_(shown) {}
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar() {
    if (shown_) std::fputs("\r\x1b[K", stderr);
  }
  /// One unit is done; `what` is what goes on. Any thread.
  void advance(const std::string& what) {
    const std::lock_guard lock(mutex_);
    ++done_;
    if (!shown_ || total_ == 0) return;
    constexpr std::size_t width = 30;
    const std::size_t filled = done_ * width / total_;
    std::string bar(filled, '#');
    bar.resize(width, '.');
    std::fprintf(stderr, "\r\x1b[K[%s] %zu/%zu %s", bar.c_str(), done_, total_, what.c_str());
    std::fflush(stderr);
  }

 private:
  std::mutex mutex_;
  std::size_t total_;
  std::size_t done_ = 0;
  bool shown_;
};

}  // namespace common
