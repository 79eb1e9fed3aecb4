// One unit of pqkv::compiled: k-means and levels. Needs Eigen.
#pragma once

#include "pqkv/train/train_codebook_bodies.hpp"
