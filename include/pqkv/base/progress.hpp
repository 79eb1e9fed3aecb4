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

/// A non-owning reference to any progress callable, a plain function too, for functions that are compiled once.
class ProgressRef {
 public:
  /// Never stops, says nothing.
  ProgressRef() noexcept = default;
  template <class P>
    requires(!std::same_as<std::remove_cvref_t<P>, ProgressRef> && Progress<std::remove_reference_t<P>>)
  ProgressRef(P&& progress) noexcept  // NOLINT(google-explicit-constructor)
      : object_(reinterpret_cast<const void*>(std::addressof(progress))),
        call_([](const void* object, std::size_t done, std::size_t total) -> bool {
          return (*reinterpret_cast<std::remove_reference_t<P>*>(const_cast<void*>(object)))(done, total);
        }) {}
  bool operator()(std::size_t done, std::size_t total) const { return call_ == nullptr || call_(object_, done, total); }

 private:
  const void* object_ = nullptr;
  bool (*call_)(const void*, std::size_t, std::size_t) = nullptr;
};

static_assert(Progress<NoProgress>);
static_assert(Progress<ProgressRef>);

}  // namespace pqkv::inline PQKV_ABI
