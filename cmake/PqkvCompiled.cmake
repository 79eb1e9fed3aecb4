# pqkv_add_compiled(<include folder>): what takes long to compile as libraries that a program builds once, from the headers.
# Serves this project and those that found its package alike; nothing of it is built unless something links it.
#
#   pqkv::kernels    the kernels alone (PQKV_EXTERN_KERNELS)
#   pqkv::compiled   kernels, the formats that a spec can name, cache and attention over AnyKeys and AnyValues, and where the
#                    target Eigen3::Eigen exists, the trainers (PQKV_COMPILED)
#
# A unit is a header of pqkv/compiled/. Other build systems do the same: PQKV_COMPILED in every unit of the program, and one
# unit for each of these headers.
function(pqkv_add_compiled include_dir)
  set(units_dir ${CMAKE_CURRENT_BINARY_DIR}/pqkv_compiled)
  file(GLOB headers RELATIVE ${include_dir}/pqkv/compiled CONFIGURE_DEPENDS ${include_dir}/pqkv/compiled/*.hpp)
  if(NOT TARGET Eigen3::Eigen)
    list(FILTER headers EXCLUDE REGEX "^train_")
  endif()
  set(units)
  foreach(header ${headers})
    string(REPLACE ".hpp" ".cpp" unit ${units_dir}/${header})
    file(CONFIGURE OUTPUT ${unit} CONTENT "#include <pqkv/compiled/${header}>\n")
    list(APPEND units ${unit})
  endforeach()
  list(REMOVE_ITEM units ${units_dir}/kernels.cpp)

  add_library(pqkv_kernels STATIC EXCLUDE_FROM_ALL ${units_dir}/kernels.cpp)
  add_library(pqkv::kernels ALIAS pqkv_kernels)
  target_compile_definitions(pqkv_kernels PUBLIC PQKV_EXTERN_KERNELS)
  target_link_libraries(pqkv_kernels PUBLIC pqkv::pqkv)

  add_library(pqkv_compiled STATIC EXCLUDE_FROM_ALL ${units})
  add_library(pqkv::compiled ALIAS pqkv_compiled)
  target_compile_definitions(pqkv_compiled PUBLIC PQKV_COMPILED)
  target_link_libraries(pqkv_compiled PUBLIC pqkv::kernels)
  if(TARGET Eigen3::Eigen)
    target_link_libraries(pqkv_compiled PRIVATE $<BUILD_INTERFACE:Eigen3::Eigen>)
  endif()
endfunction()
