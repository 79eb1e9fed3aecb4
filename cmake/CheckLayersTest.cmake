# cmake -D INCLUDE=<include folder> -D WORK=<temporary folder> -P CheckLayersTest.cmake
# Sees CheckLayers.cmake go red: each break below, put into a copy of the tree, must be found and named.
cmake_minimum_required(VERSION 3.21)

function(faults_of include result)
  execute_process(COMMAND ${CMAKE_COMMAND} -D INCLUDE=${include} -P ${CMAKE_CURRENT_LIST_DIR}/CheckLayers.cmake
                  RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
  set(${result} "${output}" PARENT_SCOPE)
  set(code ${code} PARENT_SCOPE)
endfunction()

faults_of(${INCLUDE} faults_before)

function(expect_fault file line message)
  file(REMOVE_RECURSE ${WORK})
  file(COPY ${INCLUDE}/pqkv DESTINATION ${WORK})
  file(APPEND ${WORK}/pqkv/${file} "${line}\n")
  faults_of(${WORK} faults)
  string(FIND "${faults_before}" "include/pqkv/${file}: ${message}" before)
  string(FIND "${faults}" "include/pqkv/${file}: ${message}" after)
  if(code EQUAL 0 OR NOT before EQUAL -1 OR after EQUAL -1)
    message(FATAL_ERROR "not found: ${line} in ${file}\n${faults}")
  endif()
endfunction()

expect_fault(base/rows.hpp "#include \"pqkv/isa/select.hpp\"" "base must not include isa")
expect_fault(policy.hpp "#include \"pqkv/isa/select.hpp\"" "policy.hpp must not include isa")
expect_fault(keys/pq8.hpp "#include \"pqkv/values/pq.hpp\"" "keys must not include values")
expect_fault(cache/window.hpp "#  include <pqkv/keys/exact.hpp>" "cache must not include keys")
expect_fault(attend/tile.hpp "#include \"pqkv/cache.hpp\"" "attend must not include cache.hpp")
expect_fault(spec/registry.hpp "#include \"pqkv/pqkv.hpp\"" "spec must not include pqkv.hpp")
expect_fault(retention/retainer.hpp "#include \"pqkv/keys/exact.hpp\"" "retention must not include keys")
expect_fault(pqkv.hpp "#include \"pqkv/train.hpp\"" "pqkv.hpp must not include train.hpp")
expect_fault(codec/codebook.hpp "#include <Eigen/Dense>" "only train may include Eigen")
expect_fault(codec/codebook.hpp "#include <immintrin.h>" "only isa may include intrinsics")
expect_fault(other/new.hpp "#pragma once" "the folder other/ has no row")
string(REPEAT "//\n" 351 long)
expect_fault(base/long.hpp "${long}" "352 lines, at most 350")
