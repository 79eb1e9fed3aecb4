// PQKV_EXPECTS(condition): a rule that the caller must keep. Layer 0.
// An assert in ordinary builds; a trap in builds with PQKV_HARDENED, also under NDEBUG.
#pragma once

#include <cassert>

#include "pqkv/base/config.hpp"

#if defined(PQKV_HARDENED)
#define PQKV_EXPECTS(condition) ((condition) ? static_cast<void>(0) : __builtin_trap())
#else
#define PQKV_EXPECTS(condition) assert(condition)
#endif
