// Regions of a file that are compiled for more instructions than the rest of the translation unit. Layer 1.
// So that nobody needs -m flags: the code exists in every build, and select.hpp decides at run time whether it runs.
// Regions open and close at file scope, hold no #include and no lambda (Clang's attribute does not reach into those).
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
