// Version, platform and the inline namespace that every declaration of the library lives in.
// Layer 0: included by every header, includes nothing of the library.
//
// The inline namespace carries the version and the baseline instruction flags of the translation unit. Two units of
// one program that are compiled with different -m flags therefore never share an inline function: the linker would
// keep one copy of it, perhaps the one with instructions that the machine does not have (SIGILL).
#pragma once

#define PQKV_VERSION_MAJOR 0
#define PQKV_VERSION_MINOR 1
#define PQKV_VERSION_PATCH 0

#if defined(__x86_64__) || defined(_M_X64)
#define PQKV_X86 1
#elif defined(__aarch64__)
#define PQKV_ARM64 1
#endif

#if defined(__AVX512F__)
#define PQKV_BASELINE avx512
#elif defined(__AVX2__)
#define PQKV_BASELINE avx2
#elif defined(__AVX__)
#define PQKV_BASELINE avx
#elif defined(__SSE4_1__)
#define PQKV_BASELINE sse4
#else
#define PQKV_BASELINE plain
#endif
#if defined(__FMA__)
#define PQKV_BASELINE_FMA f
#else
#define PQKV_BASELINE_FMA n
#endif
#if defined(PQKV_HARDENED)
#define PQKV_CHECKS hardened
#elif defined(NDEBUG)
#define PQKV_CHECKS unchecked
#else
#define PQKV_CHECKS checked
#endif

#define PQKV_JOIN_EXPANDED(a, b, c, d, e, f) v##a##_##b##_##c##_##d##e##_##f
#define PQKV_JOIN(a, b, c, d, e, f) PQKV_JOIN_EXPANDED(a, b, c, d, e, f)
// Used as `namespace pqkv::inline PQKV_ABI { … }`.
#define PQKV_ABI                                                                                              \
  PQKV_JOIN(PQKV_VERSION_MAJOR, PQKV_VERSION_MINOR, PQKV_VERSION_PATCH, PQKV_BASELINE, PQKV_BASELINE_FMA, \
            PQKV_CHECKS)

// Header-only is the default. With PQKV_COMPILED defined in every unit of a program, what takes long to compile is compiled in
// a library of the same sources (CMake: pqkv::compiled; elsewhere: one unit for each header of pqkv/compiled/), and headers
// only declare it.
#if defined(PQKV_COMPILED) && !defined(PQKV_EXTERN_KERNELS)
#define PQKV_EXTERN_KERNELS
#endif

// Before a function that is compiled only where it is called, so that a header which holds it costs nothing but its parsing.
#define PQKV_WHEN_CALLED template <class...>

// Before functions whose bodies take long to compile. The bodies stand in <name>_bodies.hpp, which <name>.hpp includes at its
// end unless PQKV_COMPILED is defined.
#if defined(PQKV_COMPILED)
#define PQKV_COMPILED_ONCE
#else
#define PQKV_COMPILED_ONCE PQKV_WHEN_CALLED
#endif
