// Stage 3: storage. Append, truncate, clear.
#pragma once

#include "pqkv/cache/compressed_kv_cache.hpp"
