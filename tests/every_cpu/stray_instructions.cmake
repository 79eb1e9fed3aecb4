# cmake -D OBJDUMP=… -D CXX=<compiler> -D INCLUDE=… -D WORK=<temporary folder> -P stray_instructions.cmake
# No function outside the instruction sets' namespaces may hold a VEX or EVEX instruction. The hazard: an inline function or a
# template of the standard library that is compiled inside a target region carries the region's instructions, and the linker
# may keep that copy for the whole program. What is not inlined differs by level, hence all of them. First, a unit with that
# very fault has to be found.
cmake_minimum_required(VERSION 3.21)
set(here ${CMAKE_CURRENT_LIST_DIR})
file(MAKE_DIRECTORY ${WORK})
file(WRITE ${WORK}/unit.cpp "#include <pqkv/keys.hpp>\n#include <pqkv/isa/select.hpp>\n#include <pqkv/values.hpp>
const pqkv::isa::KernelSet& chosen() { return pqkv::isa::best(); }\n")

function(disassemble source level)
  execute_process(COMMAND ${CXX} -std=c++20 ${level} -I${INCLUDE} -c ${source} -o ${WORK}/unit.o COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${OBJDUMP} -d -w --insn-width=15 ${WORK}/unit.o COMMAND awk -f ${here}/stray.awk
                  OUTPUT_VARIABLE output RESULTS_VARIABLE codes)
  if(NOT codes STREQUAL "0;0")
    message(FATAL_ERROR "disassembling ended with ${codes}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

disassemble(${here}/stray_broken.cpp -O0)
if(NOT output MATCHES "stray: ")
  message(FATAL_ERROR "the fault in stray_broken.cpp was not found:\n${output}")
endif()
foreach(level -O0 -O1 -O2)
  disassemble(${WORK}/unit.cpp ${level})
  message(STATUS "${CXX} ${level}: ${output}")
  if(output MATCHES "stray: " OR NOT output MATCHES "seen: avx2 [1-9][0-9]*, avx512 [1-9][0-9]*, avx512vbmi [1-9]")
    message(FATAL_ERROR "instructions outside of the sets that they belong to, or none seen at all")
  endif()
endforeach()
