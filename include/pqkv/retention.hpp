// Who stays: policies that rank the tokens of a head, budgets for layers and heads, eviction without touching a
// code; recall of a few tokens instead of eviction; layers that share a cache.
#pragma once

#include "pqkv/retention/budgets.hpp"
#include "pqkv/retention/cache_retainer.hpp"
#include "pqkv/retention/cluster_index.hpp"
#include "pqkv/retention/dynamic_budget.hpp"
#include "pqkv/retention/key_policies.hpp"
#include "pqkv/retention/position_policies.hpp"
#include "pqkv/retention/profile.hpp"
#include "pqkv/retention/recall.hpp"
#include "pqkv/retention/retainer.hpp"
#include "pqkv/retention/shared_layers.hpp"
#include "pqkv/retention/weight_policies.hpp"
