// Policies that look at nothing but the order of tokens: SinksAndRecent (StreamingLLM) and RandomTokens, the control. Layer 6.
#pragma once

#include <cstdint>

#include "pqkv/base/random.hpp"
#include "pqkv/retention/retention_policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// The newest tokens stay, and the sinks, which Protection names (four in the paper). Xiao, Tian, Chen, Han, Lewis:
/// Efficient Streaming Language Models with Attention Sinks (2024). There positions count inside the cache: Gap::close.
struct SinksAndRecent {
  [[nodiscard]] std::string describe() const { return "streaming"; }
  [[nodiscard]] Status rank(const RankedTokens& tokens, std::span<float> scores) const {
    for (std::size_t i = 0; i < tokens.count(); ++i) scores[i] = static_cast<float>(i);
    return {};
  }
};

/// Any tokens stay, each as likely as any other: what every policy has to beat. Deterministic for a seed.
struct RandomTokens {
  std::uint64_t seed = 1;

  [[nodiscard]] std::string describe() const { return "random"; }
  [[nodiscard]] Status rank(const RankedTokens& tokens, std::span<float> scores) const {
    Random random(seed);
    for (std::size_t i = 0; i < tokens.count(); ++i) scores[i] = static_cast<float>(random.uniform());
    return {};
  }
};

static_assert(RetentionPolicy<SinksAndRecent> && RetentionPolicy<RandomTokens>);

}  // namespace pqkv::inline PQKV_ABI
