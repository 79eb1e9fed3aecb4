#include "isa/two_units_body.hpp"

std::string attend_in_unit_b(float* out) { return attend_once(out); }
