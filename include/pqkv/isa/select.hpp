// Which kernels run: the best compiled-in set that this CPU has, or the one that PQKV_ISA names. Layer 1.
// The choice is made once, outside loops, and is visible: best().name, compiled_in(), find("scalar").
//
// Kernels are half of what a unit that includes this library compiles. With PQKV_EXTERN_KERNELS defined in every unit, they
// are compiled in the one that includes isa/compiled_in.hpp, and nowhere else; in CMake, the target pqkv::kernels does both.
// They are called through pointers either way.
#pragma once

#include <cstdlib>
#include <span>
#include <string_view>

#include "pqkv/isa/kernels.hpp"
#include "pqkv/isa/scalar.hpp"

#if defined(PQKV_EXTERN_KERNELS)
namespace pqkv::inline PQKV_ABI::isa {
[[nodiscard]] std::span<const Available> compiled_in() noexcept;
}
#else
#include "pqkv/isa/compiled_in.hpp"
#endif

namespace pqkv::inline PQKV_ABI::isa {

/// The compiled-in set of that name if this CPU runs it, or nullptr.
[[nodiscard]] inline const KernelSet* find(std::string_view name) noexcept {
  for (const Available& set : compiled_in()) {
    if (set.runs_here && set.kernels.name == name) return &set.kernels;
  }
  return nullptr;
}

/// The set in use. The environment variable PQKV_ISA (read once) forces one; a name that is unknown or does not run
/// here leaves the choice to the CPU (compare best().name to see).
[[nodiscard]] inline const KernelSet& best() noexcept {
  static const KernelSet& chosen = []() -> const KernelSet& {
    if (const char* name = std::getenv("PQKV_ISA")) {
      if (const KernelSet* forced = find(name)) return *forced;
    }
    const KernelSet* last = nullptr;
    for (const Available& set : compiled_in()) {
      if (set.runs_here) last = &set.kernels;
    }
    return *last;
  }();
  return chosen;
}

}  // namespace pqkv::inline PQKV_ABI::isa
