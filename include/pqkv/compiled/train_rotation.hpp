// One unit of pqkv::compiled: rotations in front of codebooks. Needs Eigen.
#pragma once

#include "pqkv/train/choose_rotation_bodies.hpp"
#include "pqkv/train/codes_bodies.hpp"
#include "pqkv/train/learned_rotation_bodies.hpp"
#include "pqkv/train/rotation_bodies.hpp"
