// One unit of pqkv::compiled: saving and loading of caches over AnyKeys and AnyValues.
#pragma once

#include "pqkv/spec/any_instances.hpp"
#define PQKV_INSTANTIATE_ANY
#include "pqkv/io/any_sequence_file.hpp"
