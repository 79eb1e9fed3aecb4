// How long work reports where it is: a callable `bool(done, total)` that returns false to stop. Layer 0.
#pragma once

#include <concepts>
#include <cstddef>

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

static_assert(Progress<NoProgress>);

}  // namespace pqkv::inline PQKV_ABI
