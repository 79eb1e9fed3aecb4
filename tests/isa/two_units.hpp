// One program, two translation units with different -m flags, one shared inline library: each must keep its own copy of
// every inline loop, or the linker may hand the plain unit code that the machine cannot run.
#pragma once

#include <string>

std::string attend_in_unit_a(float* out);
std::string attend_in_unit_b(float* out);
