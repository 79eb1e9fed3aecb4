// One unit of pqkv::compiled: specs and their parser, and cache and attention over AnyKeys and AnyValues.
#pragma once

#define PQKV_INSTANTIATE_ANY
#include "pqkv/spec.hpp"
#include "pqkv/spec/any_cache_bodies.hpp"
#include "pqkv/spec/cache_spec_bodies.hpp"
#include "pqkv/spec/registry_bodies.hpp"
