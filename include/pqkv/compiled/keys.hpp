// One unit of pqkv::compiled: the key formats that can be named in a spec.
#pragma once

#include "pqkv/spec/key_formats_bodies.hpp"
