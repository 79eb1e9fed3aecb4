// One unit of pqkv::compiled: the value formats that can be named in a spec.
#pragma once

#include "pqkv/spec/value_formats_bodies.hpp"
