// Stage 2a: every key format.
#pragma once

#include "pqkv/keys/channel_integer.hpp"
#include "pqkv/keys/exact.hpp"
#include "pqkv/keys/gained.hpp"
#include "pqkv/keys/ggml.hpp"
#include "pqkv/keys/nuq.hpp"
#include "pqkv/keys/pq4.hpp"
#include "pqkv/keys/pq6.hpp"
#include "pqkv/keys/pq8.hpp"
#include "pqkv/keys/pruned.hpp"
#include "pqkv/keys/sparse.hpp"
#include "pqkv/keys/spaced.hpp"
#include "pqkv/keys/turbo.hpp"
