// Regions of a file that are compiled for more instructions than the rest of the translation unit. Layer 1.
// So that nobody needs -m flags: the code exists in every build, and select.hpp decides at run time whether it runs.
//
// What stands in a region may run only where the CPU has been asked, and the linker must not hand it to others. So a
// region opens and closes at file scope and holds kernels and their helpers in the namespace of its set, whose
// variables are constexpr: no #include, no table of kernels, nothing that is initialised when the program starts. The test
// rules.layers holds every file to that, isa_no_stray_instructions reads the machine code, isa_every_cpu runs it.
#pragma once

#include "pqkv/base/config.hpp"

#define PQKV_PRAGMA(text) _Pragma(#text)

// PQKV_TARGET_BEGIN("avx2,fma") … PQKV_TARGET_END
// PQKV_UNROLL before a loop with a small constant count whose body indexes an array of registers: GCC at -O2 would
// otherwise keep the array in memory. Clang unrolls such loops unasked.
#if defined(__clang__)
#define PQKV_TARGET_BEGIN(features) \
  PQKV_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define PQKV_TARGET_END PQKV_PRAGMA(clang attribute pop)
#define PQKV_UNROLL
#else
#define PQKV_TARGET_BEGIN(features) PQKV_PRAGMA(GCC push_options) PQKV_PRAGMA(GCC target(features))
#define PQKV_TARGET_END PQKV_PRAGMA(GCC pop_options)
#define PQKV_UNROLL PQKV_PRAGMA(GCC unroll 16)
#endif
