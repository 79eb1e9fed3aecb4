// Every instruction set's kernels, and the list of them. Layer 1. Include isa/select.hpp, unless PQKV_EXTERN_KERNELS is
// defined: then exactly one unit includes this header and so compiles the kernels for all.
#pragma once

#include <span>

#include "pqkv/isa/avx2.hpp"
#include "pqkv/isa/avx512.hpp"
#include "pqkv/isa/avx512vbmi.hpp"
#include "pqkv/isa/detect.hpp"
#include "pqkv/isa/kernels.hpp"
#include "pqkv/isa/neon.hpp"
#include "pqkv/isa/scalar.hpp"

namespace pqkv::inline PQKV_ABI::isa {

/// Every set, from the plainest to the best. Addresses only, put together by the compiler: no instruction of any set runs
/// before the CPU has been asked.
inline constexpr Available all_sets[] = {
    {&scalar::kernels, runs_everywhere},
#if defined(PQKV_X86)
    {&avx2::kernels, has_avx2},
    {&avx512::kernels, has_avx512},
    {&avx512vbmi::kernels, has_avx512vbmi},
#endif
#if defined(PQKV_ARM64)
    {&neon::kernels, runs_everywhere},
#endif
};

[[nodiscard]]
#if !defined(PQKV_EXTERN_KERNELS)
inline
#endif
std::span<const Available> compiled_in() noexcept {
  return all_sets;
}

}  // namespace pqkv::inline PQKV_ABI::isa
