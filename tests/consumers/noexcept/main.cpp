// Every header in a program without exceptions and RTTI, and the consumer's program run in it.
#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "compile this with -fno-exceptions -fno-rtti"
#endif
#include "../main.cpp"
#include "every_header.hpp"
