# cmake -D QEMU=… -D FIRST=… -D ROUND_TRIP=… -D TESTS=… -P run.cmake
# Runs README's first program, a cache's round trip through bytes and the tests of the kernels on several CPUs, and checks
# which instruction set was chosen on each. A single instruction that the CPU does not have ends a program with SIGILL.
cmake_minimum_required(VERSION 3.21)

# expect(<cpu> <words in the output> <command>…)
function(expect cpu words)
  execute_process(COMMAND ${QEMU} -cpu ${cpu} ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE errors)
  string(FIND "${output}" "${words}" at)
  if(NOT code STREQUAL "0" OR at EQUAL -1)
    message(FATAL_ERROR "${ARGN}\non ${cpu} ended with '${code}', expected '${words}':\n${output}\n${errors}")
  endif()
endfunction()

unset(ENV{PQKV_ISA})
foreach(case Nehalem=scalar SandyBridge=scalar Haswell=avx2 EPYC=avx2 max=)
  string(REGEX MATCH "([^=]*)=(.*)" _ ${case})
  set(cpu ${CMAKE_MATCH_1})
  set(chosen "instruction set ${CMAKE_MATCH_2}")
  expect(${cpu} "1000 tokens in" ${FIRST})
  expect(${cpu} "${chosen}" ${ROUND_TRIP})
  # The kernels of every set that runs there, against their specification.
  expect(${cpu} "All tests passed" ${TESTS} --filenames-as-tags
         "[#codes_test],[#kernels_test],[#levels_test],[#nearest_test]")
  message(STATUS "${cpu}: the first program, the round trip and the tests of the kernels run")
endforeach()

# What is asked for and is not there is said, and something that runs is taken.
set(ENV{PQKV_ISA} avx512vbmi)
expect(Haswell "instruction set avx2 (PQKV_ISA=avx512vbmi does not run here)" ${ROUND_TRIP})
set(ENV{PQKV_ISA} scalar)
expect(Haswell "instruction set scalar" ${ROUND_TRIP})
