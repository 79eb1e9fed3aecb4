// How often the test program has allocated so far, and a way to make it fail: every form of operator new is replaced
// (allocations.cpp).
#pragma once

#include <cstddef>

namespace pqkv::test {

std::size_t allocations() noexcept;

/// From now on this thread gets `count` more allocations of the kind that may fail (nothrow), and then none.
void fail_allocations_after(std::size_t count) noexcept;
/// All succeed again.
void allow_allocations() noexcept;

}  // namespace pqkv::test
