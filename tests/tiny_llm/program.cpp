// tiny_llm within the tests.
#include "tiny_llm/program.hpp"

#include "tiny_llm/commands.hpp"

namespace pqkv::test::llm_program {

Outcome tiny(const Words& words) { return run(tiny_llm::run, words); }

}  // namespace pqkv::test::llm_program
