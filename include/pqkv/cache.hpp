// Stage 3: storage. Append, fork, truncate, erase, shift, replace.
#pragma once

#include "pqkv/cache/compact.hpp"
#include "pqkv/cache/compressed_kv_cache.hpp"
#include "pqkv/cache/page_pool.hpp"
