// Everything that runs without a further dependency: formats, cache, attention, choice at run time.
// Training (pqkv/train.hpp) needs Eigen and is included by itself.
//
// A complete program:
//
//   #include <pqkv/pqkv.hpp>
//   #include <vector>
//
//   int main() {
//     constexpr std::size_t dim = 64;
//     auto values = pqkv::Int4Values::make(dim);                              // 4 bits, groups of 32 channels
//     if (!values) return 1;
//     pqkv::HeadCache cache(pqkv::ExactKeys(dim, pqkv::ScalarType::f16), *values, {.sinks = 4, .recent = 64});
//     pqkv::Workspace<pqkv::ExactKeys, pqkv::Int4Values> workspace;
//     std::vector<float> key(dim, 0.5f), value(dim, 1.0f), query(dim, 1.0f), out(dim);
//     for (int token = 0; token < 1000; ++token) {
//       if (!cache.append(pqkv::Rows(key.data(), 1, dim), pqkv::Rows(value.data(), 1, dim))) return 1;
//       pqkv::attend(cache, pqkv::FloatRows(query.data(), 1, dim), out.data(), dim, workspace);
//     }
//   }
#pragma once

#include "pqkv/attend.hpp"
#include "pqkv/base/version.hpp"
#include "pqkv/cache.hpp"
#include "pqkv/keys.hpp"
#include "pqkv/policy.hpp"
#include "pqkv/retention.hpp"
#include "pqkv/spec.hpp"
#include "pqkv/values.hpp"
