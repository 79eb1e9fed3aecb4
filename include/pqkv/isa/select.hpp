// Which kernels run: the best compiled-in set that this CPU has, or the one that PQKV_ISA names. Layer 1.
// The choice is made once, outside loops, and is visible: best().name, requested(), compiled_in(), find("scalar").
//
// Kernels are half of what a unit that includes this library compiles. With PQKV_EXTERN_KERNELS defined in every unit, they
// are compiled in the one that includes isa/compiled_in.hpp, and nowhere else; in CMake, the target pqkv::kernels does both.
// They are called through pointers either way.
#pragma once

#include <cstdlib>
#include <cstring>
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
    if (set.kernels->name == name) return set.runs_here() ? set.kernels : nullptr;
  }
  return nullptr;
}

/// The set that the environment variable PQKV_ISA asks for, which is read once; empty where it is not set. What it names may
/// be unknown, or not run here: compare best().name.
[[nodiscard]] inline std::string_view requested() noexcept {
  static const std::string_view name = []() -> std::string_view {
    static char kept[32];  // the environment may change later
    const char* text = std::getenv("PQKV_ISA");
    if (text == nullptr) return {};
    std::size_t length = 0;
    while (length < sizeof kept && text[length] != '\0') ++length;
    std::memcpy(kept, text, length);
    return {kept, length};
  }();
  return name;
}

/// The best set that this CPU runs.
[[nodiscard]] inline const KernelSet& fastest() noexcept {
  const KernelSet* last = nullptr;
  for (const Available& set : compiled_in()) {
    if (set.runs_here()) last = set.kernels;
  }
  return *last;
}

/// The set in use: the one that was requested, if it is known and runs here, else fastest().
[[nodiscard]] inline const KernelSet& best() noexcept {
  static const KernelSet& chosen = []() -> const KernelSet& {
    const KernelSet* forced = find(requested());
    return forced != nullptr ? *forced : fastest();
  }();
  return chosen;
}

}  // namespace pqkv::inline PQKV_ABI::isa
