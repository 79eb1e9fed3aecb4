// One unit of pqkv::compiled: decompositions. Needs Eigen.
#pragma once

#include "pqkv/train/linear_algebra_bodies.hpp"
