// The figures by which approximate attention is judged, in double. Beside the pipeline: nothing in it includes this.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

#include "pqkv/base/config.hpp"

namespace pqkv::inline PQKV_ABI {

/// a·b / (‖a‖·‖b‖); 1 when both are zero, 0 when one is.
PQKV_WHEN_CALLED [[nodiscard]] double cosine(std::span<const double> a, std::span<const double> b) noexcept {
  double product = 0, squares_a = 0, squares_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    product += a[i] * b[i];
    squares_a += a[i] * a[i];
    squares_b += b[i] * b[i];
  }
  if (squares_a == 0 || squares_b == 0) return squares_a == squares_b ? 1 : 0;
  return product / std::sqrt(squares_a * squares_b);
}

/// ‖a − b‖ / ‖a‖; 0 when both are zero.
PQKV_WHEN_CALLED [[nodiscard]] double relative_error(std::span<const double> a, std::span<const double> b) noexcept {
  double error = 0, squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += (a[i] - b[i]) * (a[i] - b[i]);
    squares += a[i] * a[i];
  }
  return error == 0 ? 0 : std::sqrt(error / std::max(squares, 1e-300));
}

/// log Σ exp(x), safe for large x.
PQKV_WHEN_CALLED [[nodiscard]] double log_sum_exp(std::span<const double> x) noexcept {
  const double most = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (const double value : x) sum += std::exp(value - most);
  return most + std::log(sum);
}

/// KL(softmax(a) ‖ softmax(b)) in nats, from logits.
PQKV_WHEN_CALLED [[nodiscard]] double softmax_divergence(std::span<const double> a, std::span<const double> b) noexcept {
  const double norm_a = log_sum_exp(a);
  const double norm_b = log_sum_exp(b);
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double log_a = a[i] - norm_a;
    sum += std::exp(log_a) * (log_a - (b[i] - norm_b));
  }
  return std::max(sum, 0.0);
}

/// Pearson's correlation; none when a is constant (there is nothing to follow), 0 when only b is.
PQKV_WHEN_CALLED [[nodiscard]] std::optional<double> pearson(std::span<const double> a, std::span<const double> b) noexcept {
  const auto count = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / count;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / count;
  double product = 0, squares_a = 0, squares_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    product += (a[i] - mean_a) * (b[i] - mean_b);
    squares_a += (a[i] - mean_a) * (a[i] - mean_a);
    squares_b += (b[i] - mean_b) * (b[i] - mean_b);
  }
  if (a.empty() || squares_a == 0) return std::nullopt;
  return squares_b == 0 ? 0 : product / std::sqrt(squares_a * squares_b);
}

/// Ranks from 0; equal numbers share the mean of their ranks.
PQKV_WHEN_CALLED [[nodiscard]] std::vector<double> ranks(std::span<const double> x) {
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return x[i] < x[j]; });
  std::vector<double> out(x.size());
  for (std::size_t first = 0; first < order.size();) {
    std::size_t last = first + 1;
    while (last < order.size() && x[order[last]] == x[order[first]]) ++last;
    for (std::size_t i = first; i < last; ++i) out[order[i]] = static_cast<double>(first + last - 1) / 2;
    first = last;
  }
  return out;
}

/// Spearman's rank correlation: Pearson's over ranks.
PQKV_WHEN_CALLED [[nodiscard]] std::optional<double> spearman(std::span<const double> a, std::span<const double> b) {
  return pearson(ranks(a), ranks(b));
}

/// The share of a's `count` largest that are among b's `count` largest (fewer when there are fewer; of equals, the
/// first).
PQKV_WHEN_CALLED [[nodiscard]] double top_overlap(std::span<const double> a, std::span<const double> b, std::size_t count) {
  count = std::min(count, a.size());
  if (count == 0) return 1;
  const auto largest = [count](std::span<const double> x) {
    std::vector<std::size_t> order(x.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                      [&](std::size_t i, std::size_t j) { return x[i] != x[j] ? x[i] > x[j] : i < j; });
    order.resize(count);
    return order;
  };
  const auto top_a = largest(a);
  const auto top_b = largest(b);
  std::size_t both = 0;
  for (const std::size_t i : top_a) both += static_cast<std::size_t>(std::count(top_b.begin(), top_b.end(), i));
  return static_cast<double>(both) / static_cast<double>(count);
}

}  // namespace pqkv::inline PQKV_ABI
