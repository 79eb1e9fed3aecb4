# What is needed besides the standard library: Eigen for pqkv::train, Catch2 for the tests, fmt and Google Benchmark for
# tools and benchmarks. An installed package wins; else, with PQKV_FETCH_DEPENDENCIES, the pinned release is fetched.
include(FetchContent)

# Fetches a library of headers and makes them <target>; the library's own CMake is not run.
function(pqkv_fetch_headers target repository tag include_dir)
  if(TARGET ${target} OR NOT PQKV_FETCH_DEPENDENCIES)
    return()
  endif()
  string(REGEX REPLACE "::.*" "" name ${target})
  string(TOLOWER pqkv_${name} name)
  FetchContent_Declare(${name} GIT_REPOSITORY ${repository} GIT_TAG ${tag} GIT_SHALLOW ON SOURCE_SUBDIR no_cmake)
  FetchContent_MakeAvailable(${name})
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} INTERFACE ${${name}_SOURCE_DIR}/${include_dir})
endfunction()

find_package(Eigen3 3.4 QUIET NO_MODULE)
pqkv_fetch_headers(Eigen3::Eigen https://gitlab.com/libeigen/eigen.git 3.4.0 .)

if((PQKV_BUILD_TESTS OR PQKV_BUILD_EXAMPLES OR PQKV_BUILD_BENCH) AND NOT PQKV_NOEXCEPT)
  find_package(fmt 9 QUIET)
  if(NOT TARGET fmt::fmt)
    pqkv_fetch_headers(fmt::fmt https://github.com/fmtlib/fmt.git 9.1.0 include)
    if(TARGET fmt::fmt)
      target_compile_definitions(fmt::fmt INTERFACE FMT_HEADER_ONLY=1)
    endif()
  endif()
endif()

if(PQKV_BUILD_TESTS AND NOT PQKV_NOEXCEPT)
  find_package(Catch2 QUIET)
  pqkv_fetch_headers(Catch2::Catch2 https://github.com/catchorg/Catch2.git v2.13.10 single_include)
endif()

if(PQKV_BUILD_BENCH AND NOT PQKV_NOEXCEPT AND EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/bench/CMakeLists.txt)
  find_package(benchmark 1.7 QUIET)
  if(NOT TARGET benchmark::benchmark AND PQKV_FETCH_DEPENDENCIES)
    set(BENCHMARK_ENABLE_TESTING OFF)
    set(BENCHMARK_ENABLE_INSTALL OFF)
    FetchContent_Declare(pqkv_benchmark GIT_REPOSITORY https://github.com/google/benchmark.git GIT_TAG v1.7.1
                         GIT_SHALLOW ON)
    FetchContent_MakeAvailable(pqkv_benchmark)
  endif()
endif()
