// Stage 2b: every value format.
#pragma once

#include "pqkv/values/exact.hpp"
#include "pqkv/values/gained.hpp"
#include "pqkv/values/ggml.hpp"
#include "pqkv/values/heavy.hpp"
#include "pqkv/values/integer.hpp"
#include "pqkv/values/mixed.hpp"
#include "pqkv/values/nuq.hpp"
#include "pqkv/values/pq.hpp"
#include "pqkv/values/sparse.hpp"
#include "pqkv/values/spaced.hpp"
#include "pqkv/values/turbo.hpp"
