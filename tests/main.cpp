// The test runner. A run for one instruction set (ctest's pqkv_tests.<set>) is skipped where the set does not run, or where it
// is the one that the run without PQKV_ISA chooses, so that each set is tried once.
#define CATCH_CONFIG_RUNNER
#include "catch.hpp"

#include <cstdio>
#include <cstdlib>

#include "pqkv/isa/select.hpp"

int main(int argc, char** argv) {
  constexpr int skipped = 77;
  if (std::getenv("PQKV_TEST_SET_ONCE") != nullptr) {
    const auto name = static_cast<int>(pqkv::isa::requested().size());
    const pqkv::isa::KernelSet* set = pqkv::isa::find(pqkv::isa::requested());
    if (set == nullptr || set == &pqkv::isa::fastest()) {
      std::printf("SKIPPED: %.*s %s\n", name, pqkv::isa::requested().data(),
                  set == nullptr ? "does not run on this CPU" : "is what the run without PQKV_ISA tries");
      return skipped;
    }
  }
  return Catch::Session().run(argc, argv);
}
