// profile_head: the cheapest kind of retention that serves a head, found on the prompt. Layer 6.
// Ge et al.: Model Tells You What to Discard (FastGen, 2024).
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

#include "pqkv/base/rows.hpp"
#include "pqkv/retention/choose_evicted.hpp"

namespace pqkv::inline PQKV_ABI {

/// What the caller's tokeniser knows about a token.
enum class TokenClass : std::uint8_t { ordinary, special, punctuation };

/// Each keeps what those before it keep, and more.
enum class RetentionKind : std::uint8_t {
  special,      ///< special tokens
  punctuation,  ///< and punctuation
  frequent,     ///< and the tokens that got most attention
  local,        ///< and the newest
  full,         ///< everything
};

[[nodiscard]] constexpr std::string_view name_of(RetentionKind kind) noexcept {
  constexpr std::string_view names[] = {"special", "punctuation", "frequent", "local", "full"};
  return names[static_cast<std::size_t>(kind)];
}

struct ProfileOptions {
  double recovered = 0.95;  ///< share of the attention mass that has to stay, the mean over queries
  double frequent = 0.3;    ///< share of all tokens that counts as frequent
  double local = 0.3;       ///< share of all tokens that counts as local
};

struct HeadProfile {
  RetentionKind kind = RetentionKind::full;
  double recovered = 1;            ///< by that kind
  std::vector<TokenRange> evicted;  ///< what to erase; fits HeadCache::erase
};

/// The first kind that recovers enough of the weights [queries × tokens] of a head, with the tokens' classes.
PQKV_WHEN_CALLED [[nodiscard]] HeadProfile profile_head(FloatRows weights, std::span<const TokenClass> classes,
                                                        const ProfileOptions& options = {}) {
  const std::size_t tokens = weights.dim;
  PQKV_EXPECTS(classes.size() == tokens);
  std::vector<double> mass(tokens);
  for (std::size_t q = 0; q < weights.count; ++q) {
    for (std::size_t i = 0; i < tokens; ++i) mass[i] += static_cast<double>(weights.row(q)[i]);
  }
  const double all = std::accumulate(mass.begin(), mass.end(), 0.0);
  const auto share_of = [tokens](double share) { return static_cast<std::size_t>(share * static_cast<double>(tokens)); };
  std::vector<std::size_t> order(tokens);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return mass[a] > mass[b]; });

  std::vector<bool> stays(tokens, false);
  const auto add = [&](RetentionKind kind) {
    switch (kind) {
      case RetentionKind::special:
      case RetentionKind::punctuation: {
        const TokenClass wanted = kind == RetentionKind::special ? TokenClass::special : TokenClass::punctuation;
        for (std::size_t i = 0; i < tokens; ++i) stays[i] = stays[i] || classes[i] == wanted;
        break;
      }
      case RetentionKind::frequent:
        for (std::size_t i = 0; i < share_of(options.frequent); ++i) stays[order[i]] = true;
        break;
      case RetentionKind::local:
        for (std::size_t i = tokens - share_of(options.local); i < tokens; ++i) stays[i] = true;
        break;
      case RetentionKind::full: stays.assign(tokens, true); break;
    }
  };
  HeadProfile profile;
  for (const RetentionKind kind : {RetentionKind::special, RetentionKind::punctuation, RetentionKind::frequent,
                                   RetentionKind::local, RetentionKind::full}) {
    add(kind);
    double kept = 0;
    for (std::size_t i = 0; i < tokens; ++i) kept += stays[i] ? mass[i] : 0;
    profile.kind = kind;
    profile.recovered = all > 0 ? kept / all : 1;
    if (profile.recovered >= options.recovered || kind == RetentionKind::full) break;
  }
  profile.evicted = ranges_of_unset(stays);
  return profile;
}

}  // namespace pqkv::inline PQKV_ABI
