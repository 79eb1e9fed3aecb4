// Which kernels run: the best compiled-in set that this CPU has, or the one that PQKV_ISA names. Layer 1.
// The choice is made once, outside loops, and is visible: best().name, compiled_in(), find("scalar").
#pragma once

#include <cstdlib>
#include <span>
#include <string_view>

#include "pqkv/isa/avx2.hpp"
#include "pqkv/isa/avx512.hpp"
#include "pqkv/isa/avx512vbmi.hpp"
#include "pqkv/isa/detect.hpp"
#include "pqkv/isa/kernels.hpp"
#include "pqkv/isa/neon.hpp"
#include "pqkv/isa/scalar.hpp"

namespace pqkv::inline PQKV_ABI::isa {

/// A compiled-in set and whether this CPU can run it.
struct Available {
  KernelSet kernels;
  bool runs_here;
};

/// Every compiled-in set, from the plainest to the best.
[[nodiscard]] inline std::span<const Available> compiled_in() noexcept {
  static const Available sets[] = {
      {scalar::kernels(), true},
#if defined(PQKV_X86)
      {avx2::kernels(), has_avx2()},
      {avx512::kernels(), has_avx512()},
      {avx512vbmi::kernels(), has_avx512vbmi()},
#endif
#if defined(PQKV_ARM64)
      {neon::kernels(), true},
#endif
  };
  return sets;
}

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
