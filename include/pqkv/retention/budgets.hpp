// Budgets: how many tokens each layer or head may keep, when all together may keep `total`. Layer 6. Each allocator returns
// whole numbers that sum to the total where the limits allow it: at least `least` and at most `most` each.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "pqkv/base/expects.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// What every place may have.
struct BudgetLimits {
  std::size_t least = 0;
  std::size_t most = unlimited_tokens;  ///< as many tokens as there are: what a place cannot use goes to the others
};

/// `total` tokens shared out in proportion to shares ≥ 0 (all equal where their sum is 0), by largest remainders. What the
/// limits take from or give to a place is shared among the others; where they leave no choice they win over the total.
PQKV_WHEN_CALLED [[nodiscard]] std::vector<std::size_t> share_budget(std::size_t total, std::span<const double> shares,
                                                                     const BudgetLimits& limits = {}) {
  PQKV_EXPECTS(limits.least <= limits.most);
  const std::size_t places = shares.size();
  std::vector<std::size_t> budgets(places, limits.least);
  total -= std::min(total, places * limits.least);
  std::vector<double> wanted(shares.begin(), shares.end());
  // Rounds: places that are full drop out, until nothing is left to give or nobody to give it to.
  while (total > 0) {
    std::vector<std::size_t> open;
    double sum = 0;
    for (std::size_t i = 0; i < places; ++i) {
      if (budgets[i] == limits.most) continue;
      open.push_back(i);
      sum += wanted[i];
    }
    if (open.empty()) break;
    if (sum <= 0) {
      for (const std::size_t i : open) wanted[i] = 1;
      continue;
    }
    std::vector<std::pair<double, std::size_t>> remainders;
    std::size_t given = 0;
    bool filled = false;
    for (const std::size_t i : open) {
      const double exact = static_cast<double>(total) * wanted[i] / sum;
      const std::size_t whole = std::min(static_cast<std::size_t>(exact), limits.most - budgets[i]);
      filled = filled || whole < static_cast<std::size_t>(exact);
      budgets[i] += whole;
      given += whole;
      remainders.emplace_back(static_cast<double>(whole) - exact, i);
    }
    total -= given;
    if (filled) continue;
    std::sort(remainders.begin(), remainders.end());
    for (const auto& [remainder, i] : remainders) {
      if (total == 0) break;
      if (budgets[i] == limits.most) continue;
      ++budgets[i];
      --total;
    }
  }
  return budgets;
}

/// The same for every place.
PQKV_WHEN_CALLED [[nodiscard]] std::vector<std::size_t> uniform_budgets(std::size_t total, std::size_t places,
                                                                        const BudgetLimits& limits = {}) {
  return share_budget(total, std::vector<double>(places, 1.0), limits);
}

/// Fewer tokens the deeper the layer: layer l passes the share r_l = decay + (1 − decay)·(1 + cos(π·l / layers)) / 2 of what it
/// has on to layer l + 1 (Yang et al.: PyramidInfer, 2024; decay 0.9 for 32 layers, at least 64 tokens beside the newest).
/// There lengths follow from the prompt's; here the same shares are of a total, so that budgets can be compared. And there
/// one choice of tokens, by the weights of the newest fifth of the prompt, the newest of them counting 1.2-fold, serves all
/// heads of a layer and narrows from layer to layer; here every head may choose by any policy (ObservationWindow is nearest).
PQKV_WHEN_CALLED [[nodiscard]] std::vector<std::size_t> pyramid_budgets(std::size_t total, std::size_t layers, double decay,
                                                                        const BudgetLimits& limits = {}) {
  PQKV_EXPECTS(decay >= 0 && decay <= 1);
  std::vector<double> shares;
  double share = 1;
  for (std::size_t l = 0; l < layers; ++l) {
    shares.push_back(share);
    const double depth = static_cast<double>(l) / static_cast<double>(layers);
    share *= decay + (1 - decay) * (1 + std::cos(3.141592653589793 * depth)) / 2;
  }
  return share_budget(total, shares, limits);
}

/// The fewest tokens whose weights sum to at least `mass` of all: a head's minimum budget to keep its attention
/// (Zhong et al.: ZigZagKV, 2024). `weights` of one query, or summed over several, any order.
PQKV_WHEN_CALLED [[nodiscard]] std::size_t minimum_budget(std::span<const float> weights, double mass) {
  std::vector<double> sorted(weights.begin(), weights.end());
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  const double wanted = mass * std::accumulate(sorted.begin(), sorted.end(), 0.0);
  double sum = 0;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    if (sum >= wanted) return i;
    sum += sorted[i];
  }
  return sorted.size();
}

/// Layer l gets least + U_l / ΣU · (total − layers · least), where its uncertainty U_l is the mean of its heads'
/// minimum budgets: who spreads attention over many tokens keeps many (ZigZagKV). `minimums` [layers][heads].
PQKV_WHEN_CALLED [[nodiscard]] std::vector<std::size_t> uncertainty_budgets(std::size_t total, std::span<const std::size_t> minimums,
                                                                  std::size_t heads, const BudgetLimits& limits = {}) {
  PQKV_EXPECTS(heads >= 1 && minimums.size() % heads == 0);
  std::vector<double> shares(minimums.size() / heads);
  for (std::size_t i = 0; i < minimums.size(); ++i) shares[i / heads] += static_cast<double>(minimums[i]);
  return share_budget(total, shares, limits);
}

/// Head h keeps (b − b/β) + S_h · (b/β · heads), where b = total / heads and the importances S sum to 1: every head gives
/// 1/β of its budget to a pool that is dealt out by importance (Fu et al.: HeadKV, 2024, where the importance is how often
/// a head retrieves or reasons in needle tests, and may be sharpened by a power before it is passed; b is there what a head
/// keeps beyond its observation window: limits.least, when that is the window's length). Importances ≥ 0 of any scale,
/// [layers · heads]; β ≥ 1, from 1.005 to 10 there.
PQKV_WHEN_CALLED [[nodiscard]] std::vector<std::size_t> head_budgets(std::size_t total, std::span<const double> importances, double beta,
                                                                     const BudgetLimits& limits = {}) {
  PQKV_EXPECTS(beta >= 1);
  const auto heads = static_cast<double>(importances.size());
  const double sum = std::accumulate(importances.begin(), importances.end(), 0.0);
  std::vector<double> shares;
  for (const double importance : importances) {
    shares.push_back((1 - 1 / beta) / heads + (sum > 0 ? importance / sum : 1 / heads) / beta);
  }
  return share_budget(total, shares, limits);
}

}  // namespace pqkv::inline PQKV_ABI
