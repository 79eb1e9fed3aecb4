// How long work reports where it is: a callable `bool(done, total)` that returns false to stop. Layer 0.
#pragma once

#include <concepts>
#include <cstddef>
#include <memory>
#include <type_traits>

#include "pqkv/base/config.hpp"

namespace pqkv::inline PQKV_ABI {

/// Called on the thread that asked for the work; `false` stops it with Errc::stopped.
template <class P>
concept Progress = requires(P& progress, std::size_t done, std::size_t total) {
  { progress(done, total) } -> std::convertible_to<bool>;
};

/// Never stops, says nothing.
struct NoProgress {
  bool operator()(std::size_t /*done*/, std::size_t /*total*/) const noexcept { return true; }
};

/// A non-owning reference to any such callable.
class ProgressRef {
 public:
  template <class P>
    requires(!std::same_as<std::remove_const_t<P>, ProgressRef>) && Progress<P>
  ProgressRef(P& progress) noexcept  // NOLINT(google-explicit-constructor)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(progress)))),
        call_([](void* object, std::size_t done, std::size_t total) -> bool {
          return (*static_cast<P*>(object))(done, total);
        }) {}
  bool operator()(std::size_t done, std::size_t total) const { return call_(object_, done, total); }

 private:
  void* object_;
  bool (*call_)(void*, std::size_t, std::size_t);
};

static_assert(Progress<NoProgress> && Progress<ProgressRef>);

}  // namespace pqkv::inline PQKV_ABI
