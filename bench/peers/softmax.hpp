// The softmax that every exact peer uses between its two products: the library's own vectorised one, so that only the
// products are compared.
#pragma once

#include <cmath>
#include <cstddef>

#include "pqkv/isa/select.hpp"

namespace pqkv::bench {

inline void softmax(float* scores, std::size_t tokens) {
  const isa::KernelSet& kernels = isa::best();
  const float inverse = 1.0f / kernels.exponential(scores, tokens, kernels.maximum(scores, tokens));
  for (std::size_t t = 0; t < tokens; ++t) scores[t] *= inverse;
}

}  // namespace pqkv::bench
