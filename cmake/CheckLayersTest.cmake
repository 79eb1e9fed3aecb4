# cmake -D INCLUDE=<include folder> -D WORK=<temporary folder> -P CheckLayersTest.cmake
# Sees CheckLayers.cmake go red: each break below, put into a copy of the tree, must be found and named.
cmake_minimum_required(VERSION 3.21)

function(expect_fault file line message)
  file(REMOVE_RECURSE ${WORK})
  file(COPY ${INCLUDE}/pqkv DESTINATION ${WORK})
  file(APPEND ${WORK}/pqkv/${file} "${line}\n")
  execute_process(COMMAND ${CMAKE_COMMAND} -D INCLUDE=${WORK} -P ${CMAKE_CURRENT_LIST_DIR}/CheckLayers.cmake
                  RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " output "${output}")
  string(FIND "${output}" "include/pqkv/${file}: ${message}" at)
  if(code EQUAL 0 OR at EQUAL -1 OR NOT output MATCHES " 1 faults")
    message(FATAL_ERROR "not found, or not alone: ${line} in ${file}\n${output}")
  endif()
endfunction()

expect_fault(base/rows.hpp "#include \"pqkv/isa/select.hpp\"" "base must not include isa")
expect_fault(policy.hpp "#include \"pqkv/isa/select.hpp\"" "policy.hpp must not include isa")
expect_fault(keys/pq8.hpp "#include \"pqkv/values/pq.hpp\"" "keys must not include values")
expect_fault(cache/window.hpp "#  include <pqkv/keys/exact.hpp>" "cache must not include keys")
expect_fault(attend/tile.hpp "#include \"pqkv/cache.hpp\"" "attend must not include cache.hpp")
expect_fault(spec/registry.hpp "#include \"pqkv/pqkv.hpp\"" "spec must not include pqkv.hpp")
expect_fault(pqkv.hpp "#include \"pqkv/train.hpp\"" "pqkv.hpp must not include train.hpp")
expect_fault(codec/codebook.hpp "#include <Eigen/Dense>" "only train may include Eigen")
expect_fault(codec/codebook.hpp "#include <immintrin.h>" "only isa may include intrinsics")
expect_fault(other/new.hpp "#pragma once" "the folder other/ has no row")
string(REPEAT "//\n" 351 long)
expect_fault(base/long.hpp "${long}" "352 lines, at most 350")
