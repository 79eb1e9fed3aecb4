# cmake -D OBJDUMP=… -D CXX=<compiler> -D INCLUDE=… -D WORK=<temporary folder> -P stray_instructions.cmake
# No function outside the instruction sets' namespaces may hold a VEX or EVEX instruction. The hazard: an inline function or a
# template of the standard library that is instantiated inside a target region carries the region's instructions, and the
# linker may keep that copy for the whole program. What is not inlined differs by level, hence all of them.
cmake_minimum_required(VERSION 3.21)
file(MAKE_DIRECTORY ${WORK})
file(WRITE ${WORK}/unit.cpp "#include <pqkv/keys.hpp>\n#include <pqkv/isa/select.hpp>\n#include <pqkv/values.hpp>
const pqkv::isa::KernelSet& chosen() { return pqkv::isa::best(); }\n")
# In AT&T's syntax the vector instructions begin with v, those of mask registers with k; the rest are BMI's.
file(WRITE ${WORK}/stray.awk [=[
/^[0-9a-f]+ <.*>:$/ { name = $0; sub(/^[0-9a-f]+ </, "", name); sub(/>:$/, "", name); functions++; next }
/^ +[0-9a-f]+:/ {
  if ($2 !~ /^(v[a-z]|k(mov|and|or|xor|xnor|not|test|shift|unpck|add)|andn|bextr|bls[irm]|bzhi|mulx|pdep|pext|rorx|sarx|shlx|shrx)/) next
  if ($2 ~ /^ver[rw]$/) next
  vectors++
  if (name !~ /::isa::(avx2|avx512|avx512vbmi)::/ && !(name in seen)) { seen[name] = 1; print "stray " $2 " in " name; faults++ }
}
END { print functions + 0 " functions, " vectors + 0 " vector instructions, " faults + 0 " functions with stray ones"; exit faults > 0 || vectors == 0 }
]=])
foreach(level -O0 -O1 -O2)
  execute_process(COMMAND ${CXX} -std=c++20 ${level} -I${INCLUDE} -c ${WORK}/unit.cpp -o ${WORK}/unit.o COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${OBJDUMP} -d -C --no-show-raw-insn ${WORK}/unit.o COMMAND awk -f ${WORK}/stray.awk
                  RESULTS_VARIABLE codes OUTPUT_VARIABLE output)
  message(STATUS "${level}: ${output}")
  if(NOT codes STREQUAL "0;0")
    message(FATAL_ERROR "${CXX} ${level}: vector instructions outside of the sets that they belong to")
  endif()
endforeach()
