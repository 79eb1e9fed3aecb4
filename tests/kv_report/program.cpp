// kv_report within the tests.
#include "kv_report/program.hpp"

#include "kv_report/run.hpp"

namespace pqkv::test::report_program {

Outcome run(const Words& arguments) { return test::run(kv_report::run, arguments); }

}  // namespace pqkv::test::report_program
