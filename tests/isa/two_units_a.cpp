#include "isa/two_units_body.hpp"

std::string attend_in_unit_a(float* out) { return attend_once(out); }
