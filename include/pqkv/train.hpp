// Stage 1: training. Sample rows → Codebook. Needs Eigen; nothing that runs with a model includes this.
#pragma once

#include "pqkv/train/fit.hpp"
#include "pqkv/train/importance.hpp"
#include "pqkv/train/query_filter.hpp"
#include "pqkv/train/refine.hpp"
#include "pqkv/train/train_codebook.hpp"
