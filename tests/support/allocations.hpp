// How often the test program has allocated so far: every form of operator new is replaced (allocations.cpp).
#pragma once

#include <cstddef>

namespace pqkv::test {

std::size_t allocations() noexcept;

}  // namespace pqkv::test
