// Choice at run time: policies from text. Includes the whole pipeline but the trainers.
#pragma once

#include "pqkv/attend.hpp"
#include "pqkv/spec/any_cache.hpp"
#include "pqkv/spec/any_instances.hpp"
