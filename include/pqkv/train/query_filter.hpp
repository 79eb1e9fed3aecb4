// fit_query_filter: the direction that a kv head's queries share, for retention/key_policies.hpp (QueryFilter). Layer 3a.
#pragma once

#include <vector>

#include "pqkv/base/result.hpp"
#include "pqkv/base/rows.hpp"

namespace pqkv::inline PQKV_ABI {

/// Per query head the first right singular vector of its queries, turned so that most of them project on it positively; of
/// those unit vectors the mean over the group (Godey et al.: Q-Filters, 2025; there 3,000 random rows per head). `queries`
/// hold `group` rows per token, as attention sees them (after RoPE). Returns [dim]. Errors: invalid_shape.
PQKV_COMPILED_ONCE [[nodiscard]] Result<std::vector<float>> fit_query_filter(FloatRows queries, std::size_t group);

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/train/query_filter_bodies.hpp"
#endif
