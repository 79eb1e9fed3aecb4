# Sources that include the library's headers: one per header (each header twice, so that it is complete and guarded),
# and one header that includes them all. Sets pqkv_header_check_sources and pqkv_every_header_dir.
file(GLOB_RECURSE headers RELATIVE ${PROJECT_SOURCE_DIR}/include CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/*.hpp)
if(NOT TARGET pqkv::train)
  list(FILTER headers EXCLUDE REGEX "^pqkv/train[./]")
endif()
# Bodies and units are compiled as such in pqkv::compiled, and bodies behind their header in its check.
list(FILTER headers EXCLUDE REGEX "_bodies\\.hpp$|^pqkv/compiled/")
set(pqkv_every_header_dir ${CMAKE_CURRENT_BINARY_DIR}/header_checks)
set(pqkv_header_check_sources)
set(all "#pragma once\n")
foreach(header ${headers})
  string(REGEX REPLACE "[/.]" "_" name ${header})
  set(include "#include \"${header}\"\n")
  string(APPEND all "${include}")
  file(CONFIGURE OUTPUT ${pqkv_every_header_dir}/${name}.cpp CONTENT "${include}${include}" @ONLY)
  list(APPEND pqkv_header_check_sources ${pqkv_every_header_dir}/${name}.cpp)
endforeach()
file(CONFIGURE OUTPUT ${pqkv_every_header_dir}/every_header.hpp CONTENT "${all}" @ONLY)
