// One unit of pqkv::compiled: fitted spaces, refinement and calibration. Needs Eigen.
#pragma once

#include "pqkv/train/fit_bodies.hpp"
#include "pqkv/train/fit_samples_bodies.hpp"
#include "pqkv/train/importance_bodies.hpp"
#include "pqkv/train/mass_bodies.hpp"
#include "pqkv/train/query_filter_bodies.hpp"
#include "pqkv/train/refine_bodies.hpp"
