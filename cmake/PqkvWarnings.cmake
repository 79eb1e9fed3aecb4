# The warnings of this project's own programs. Never linked by the library: its users choose their own.
add_library(pqkv_warnings INTERFACE)
target_compile_options(pqkv_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow
                       # Clang counts sign conversions among -Wconversion, GCC does not: one set for both.
                       $<$<CXX_COMPILER_ID:Clang,AppleClang>:-Wno-sign-conversion>)
if(PQKV_WARNINGS_AS_ERRORS)
  target_compile_options(pqkv_warnings INTERFACE -Werror)
endif()
