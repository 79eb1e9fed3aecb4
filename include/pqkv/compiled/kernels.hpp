// One unit of pqkv::kernels, and so of pqkv::compiled: every instruction set's kernels.
#pragma once

#include "pqkv/isa/compiled_in.hpp"
