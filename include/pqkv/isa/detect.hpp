// Which of the compiled-in instruction sets this CPU and operating system can run. Layer 1.
#pragma once

#include "pqkv/base/config.hpp"

#if defined(PQKV_X86)
#include <cpuid.h>
#endif

namespace pqkv::inline PQKV_ABI::isa {

/// For sets that need no more than the compiler's baseline.
[[nodiscard]] inline bool runs_everywhere() noexcept { return true; }

#if defined(PQKV_X86)
/// AVX2, FMA and F16C: Haswell, Zen and later.
[[nodiscard]] inline bool has_avx2() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;  // F16C by hand: Clang's builtin has no name for it
  const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
  return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
/// AVX-512 F, BW, VL and DQ: Skylake-X, Zen 4 and later.
[[nodiscard]] inline bool has_avx512() noexcept {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
/// AVX-512 VBMI and VNNI besides: Ice Lake, Zen 4 and later.
[[nodiscard]] inline bool has_avx512vbmi() noexcept {
  return has_avx512() && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
}
#endif

}  // namespace pqkv::inline PQKV_ABI::isa
