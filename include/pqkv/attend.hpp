// Stage 4: reading. Queries × cache → outputs.
#pragma once

#include "pqkv/attend/attend.hpp"
#include "pqkv/attend/attend_batch.hpp"
#include "pqkv/attend/attend_layer.hpp"
#include "pqkv/attend/collect.hpp"
#include "pqkv/attend/extend.hpp"
#include "pqkv/attend/token_weights.hpp"
