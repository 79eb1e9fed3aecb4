// How the library asks for parallel work: the Executor concept, a serial default and references without a type. Layer
// 0. The library owns no thread. Results never depend on the executor: every task writes to its own place.
#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <type_traits>

#include "pqkv/base/config.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {
struct ExampleTask {
  void operator()(std::size_t task, std::size_t worker) const noexcept;
};
}  // namespace detail

/// Runs `task(index, worker)` for every index in [0, count) and returns when all are done; `worker` < workers(), and no
/// two tasks run at once with the same worker.
template <class E>
concept Executor = requires(E& executor, std::size_t count, const detail::ExampleTask& task) {
  { executor.workers() } noexcept -> std::same_as<std::size_t>;
  executor.run(count, task);
};

/// Everything on the calling thread, in order.
struct SerialExecutor {
  [[nodiscard]] std::size_t workers() const noexcept { return 1; }
  template <class Task>
  void run(std::size_t count, const Task& task) const {
    for (std::size_t index = 0; index < count; ++index) task(index, 0);
  }
};

/// A non-owning reference to a task, for executors that keep tasks in a queue.
class TaskRef {
 public:
  template <class Task>
    requires(!std::same_as<Task, TaskRef>)
  TaskRef(const Task& task) noexcept  // NOLINT(google-explicit-constructor)
      : object_(std::addressof(task)), call_([](const void* object, std::size_t index, std::size_t worker) {
          (*static_cast<const Task*>(object))(index, worker);
        }) {}
  void operator()(std::size_t index, std::size_t worker) const { call_(object_, index, worker); }

 private:
  const void* object_;
  void (*call_)(const void*, std::size_t, std::size_t);
};

/// A non-owning reference to any executor, for functions that are compiled once. As a parameter it takes lvalues,
/// constant or not, and temporaries, which live as long as the call; keep none in an object that lives longer than its
/// executor.
class ExecutorRef {
 public:
  /// Everything on the calling thread, in order.
  ExecutorRef() noexcept = default;
  template <class E>
    requires(!std::same_as<std::remove_cvref_t<E>, ExecutorRef> && Executor<std::remove_reference_t<E>>)
  ExecutorRef(E&& executor) noexcept  // NOLINT(google-explicit-constructor)
      : object_(std::addressof(executor)),
        workers_([](const void* object) noexcept { return of<E>(object).workers(); }),
        run_([](const void* object, std::size_t count, TaskRef task) { of<E>(object).run(count, task); }) {}

  [[nodiscard]] std::size_t workers() const noexcept { return object_ == nullptr ? 1 : workers_(object_); }
  /// Executors get a TaskRef. It refers to `task`, which lives until the executor's run() returns.
  void run(std::size_t count, TaskRef task) const {
    if (object_ == nullptr) return SerialExecutor().run(count, task);
    run_(object_, count, task);
  }

 private:
  template <class E>
  [[nodiscard]] static std::remove_reference_t<E>& of(const void* object) noexcept {
    return *static_cast<std::remove_reference_t<E>*>(const_cast<void*>(object));  // constant where E is
  }

  const void* object_ = nullptr;
  std::size_t (*workers_)(const void*) noexcept = nullptr;
  void (*run_)(const void*, std::size_t, TaskRef) = nullptr;
};

static_assert(Executor<SerialExecutor>);
static_assert(Executor<ExecutorRef> && Executor<const ExecutorRef>);

}  // namespace pqkv::inline PQKV_ABI
