// What the check must find: an #include inside a region gives the standard library's inline functions to the set, and
// the linker gives them to everybody. (One that a region only instantiates is compiled as its own declaration says.)
#include "pqkv/isa/target.hpp"

PQKV_TARGET_BEGIN("avx2")
#include <algorithm>
namespace pqkv::inline PQKV_ABI::isa::avx2 {
inline float larger(float a, float b) { return std::max(a, b); }
}  // namespace pqkv::inline PQKV_ABI::isa::avx2
PQKV_TARGET_END

float larger_of(float a, float b) { return pqkv::isa::avx2::larger(a, b); }
