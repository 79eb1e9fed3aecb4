// Bits where they matter: which format each side of each head gets within a budget. Beside the pipeline.
// allocate_bits needs measured errors and is what to use; the rules published before it need none, and are here to compare:
// allocate_by_norms (Quantize What Counts, Hariri et al. 2025, arXiv 2502.15075) and allocate_in_turn with the orders of
// AsymKV (Tao et al. 2024, arXiv 2410.13212) or of "first and last layers finer" (as engines do by hand).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "pqkv/base/expects.hpp"
#include "pqkv/base/result.hpp"

namespace pqkv::inline PQKV_ABI {

/// A format that a slot may get: the keys or the values of a head, or of all heads of a layer.
struct FormatChoice {
  double bits = 0;   ///< per element
  double error = 0;  ///< what the output loses with this slot alone compressed; losses of slots are taken to add up
};

/// For each slot the index of its choice: starting from the fewest bits, the slot whose error falls most per bit is given
/// more, as long as the mean over slots stays within `mean_bits`. Slots hold equally many elements.
/// Errors: invalid_parameter when there is nothing to choose from, a number is not finite or the least choices exceed it.
PQKV_WHEN_CALLED [[nodiscard]] Result<std::vector<std::size_t>> allocate_bits(std::span<const std::vector<FormatChoice>> slots,
                                                                              double mean_bits) {
  std::vector<std::size_t> chosen(slots.size());
  double spent = 0;
  for (std::size_t s = 0; s < slots.size(); ++s) {
    if (slots[s].empty()) return Error{Errc::invalid_parameter, message("slot ", s, " has no formats to choose from")};
    for (std::size_t i = 0; i < slots[s].size(); ++i) {
      const FormatChoice& choice = slots[s][i];
      if (!std::isfinite(choice.bits) || !std::isfinite(choice.error)) {
        return Error{Errc::invalid_parameter, message("choice ", i, " of slot ", s, " is not finite")};
      }
      const FormatChoice& least = slots[s][chosen[s]];
      if (choice.bits < least.bits || (choice.bits <= least.bits && choice.error < least.error)) chosen[s] = i;
    }
    spent += slots[s][chosen[s]].bits;
  }
  const double budget = mean_bits * static_cast<double>(slots.size()) * (1 + 1e-12);
  if (slots.empty() || !(spent <= budget)) {
    return Error{Errc::invalid_parameter, message(mean_bits, " bits per element for ", slots.size(), " slots: the smallest "
                                                  "formats take ", spent / static_cast<double>(slots.size()))};
  }
  while (true) {
    double best = 0;
    std::size_t slot = 0, next = 0;
    for (std::size_t s = 0; s < slots.size(); ++s) {
      const FormatChoice& now = slots[s][chosen[s]];
      for (std::size_t i = 0; i < slots[s].size(); ++i) {
        const double more = slots[s][i].bits - now.bits;
        if (!(more > 0) || spent + more > budget) continue;
        const double gain = (now.error - slots[s][i].error) / more;
        if (gain > best) best = gain, slot = s, next = i;
      }
    }
    if (!(best > 0)) return chosen;
    spent += slots[slot][next].bits - slots[slot][chosen[slot]].bits;
    chosen[slot] = next;
  }
}

/// "Quantize What Counts": a slot's error is taken to be its weights' squared norm times 2^(−2·bits).
/// `squared_norms`: ‖W_K‖² or ‖W_V‖² of each slot. The errors of `slots` are not read.
PQKV_WHEN_CALLED [[nodiscard]] Result<std::vector<std::size_t>> allocate_by_norms(std::span<const double> squared_norms,
                                                                                  std::vector<std::vector<FormatChoice>> slots,
                                                                                  double mean_bits) {
  PQKV_EXPECTS(squared_norms.size() == slots.size());
  for (std::size_t s = 0; s < slots.size(); ++s) {
    for (FormatChoice& choice : slots[s]) choice.error = squared_norms[s] * std::exp2(-2 * choice.bits);
  }
  return allocate_bits(slots, mean_bits);
}

/// Two formats per slot: slots in `order` get the finer one, of fine[slot] instead of coarse[slot] bits, until the next would
/// exceed the budget. True: the finer. Errors: invalid_parameter when the coarse ones alone exceed it.
PQKV_WHEN_CALLED [[nodiscard]] Result<std::vector<bool>> allocate_in_turn(std::span<const std::size_t> order, std::span<const double> coarse,
                                                                          std::span<const double> fine, double mean_bits) {
  PQKV_EXPECTS(order.size() == coarse.size() && order.size() == fine.size());
  const auto slots = static_cast<double>(order.size());
  double spent = 0;
  for (const double bits : coarse) spent += bits;
  const double budget = mean_bits * slots * (1 + 1e-12);
  if (!(spent <= budget)) {
    return Error{Errc::invalid_parameter, message(mean_bits, " bits per element: the coarse formats take ", spent / slots)};
  }
  std::vector<bool> chosen(order.size());
  for (const std::size_t slot : order) {
    spent += fine[slot] - coarse[slot];
    if (spent > budget) break;
    chosen[slot] = true;
  }
  return chosen;
}

/// AsymKV: the keys of the first layers before those of later ones, values only then. Slot 2·layer is a layer's keys,
/// 2·layer + 1 its values.
PQKV_WHEN_CALLED [[nodiscard]] std::vector<std::size_t> asymmetric_order(std::size_t layers) {
  std::vector<std::size_t> order;
  for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
    for (std::size_t layer = 0; layer < layers; ++layer) order.push_back(2 * layer + side);
  }
  return order;
}

/// From both ends inwards: first and last layer, second and last but one, …, keys and values of a layer together.
PQKV_WHEN_CALLED [[nodiscard]] std::vector<std::size_t> boundary_order(std::size_t layers) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < layers; ++i) {
    const std::size_t layer = i % 2 == 0 ? i / 2 : layers - 1 - i / 2;
    order.push_back(2 * layer);
    order.push_back(2 * layer + 1);
  }
  return order;
}

}  // namespace pqkv::inline PQKV_ABI
