// Stage 2a: every key format.
#pragma once

#include "pqkv/keys/exact.hpp"
#include "pqkv/keys/pq4.hpp"
#include "pqkv/keys/pq44.hpp"
#include "pqkv/keys/pq6.hpp"
#include "pqkv/keys/pq8.hpp"
#include "pqkv/keys/pruned.hpp"
#include "pqkv/keys/spaced.hpp"
