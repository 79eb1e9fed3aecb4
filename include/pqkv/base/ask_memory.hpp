// ask_memory: what will be read soon, asked for now. Layer 0.
#pragma once

#include <cstddef>

#include "pqkv/base/config.hpp"

namespace pqkv::inline PQKV_ABI {

/// Asks memory for bytes that will be read soon; they need not be anybody's. Into the second-level cache: what goes to the
/// first waits for one of its few line buffers, and is read at half the pace.
inline void ask_memory(const void* first, std::size_t bytes) noexcept {
  for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(first) + i, 0, 2);
}

/// The same for what lies `ahead` bytes from there; 0: nobody knows what will be read.
inline void ask_ahead(const void* first, std::size_t bytes, std::ptrdiff_t ahead) noexcept {
  if (ahead != 0) ask_memory(static_cast<const char*>(first) + ahead, bytes);
}

}  // namespace pqkv::inline PQKV_ABI
