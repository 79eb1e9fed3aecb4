// fit_integers: codes 0 … levels of a group of numbers, x ≈ scale·code + offset, with less squared error than its range gives.
// Layer 2.
//
// A range from the least to the greatest element serves two elements and costs all others coarse steps. Better codes are
// sought as in k-means, with two parameters for all centroids: from a shrunk range, encode, take the scale and offset that fit
// the codes best (linear regression of numbers on codes, as ggml's k-quants do), and again.
//
// Stored is not that scale, which shrinks what is decoded towards the group's mean, and sums and scores with it: errors of
// many tokens average out, a shrinkage does not. Stored is the slope of codes on numbers, turned over: what is decoded then has
// the product with the numbers that they have with themselves (rotated_levels.hpp has its length for the same reason). On the
// model of examples/tiny_llm, k=kivi2,v=int2:g=32 with 4 sinks and 32 recent tokens diverges by 0.0044 with ranges; by 0.0077
// with the scales of the regression, although every squared error is lower; by 0.0032 with these.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "pqkv/base/expects.hpp"
#include "pqkv/base/half.hpp"

namespace pqkv::inline PQKV_ABI {

/// How scales of integers are found: reading decodes either way.
enum class IntegerFit {
  range,        ///< code 0 is the least element, the last code the greatest
  least_error,  ///< fit_integers; encoding takes several times as long
};

/// The most numbers of a group.
inline constexpr std::size_t max_fitted_group = 4096;

namespace detail {

/// Sums over a group and its codes: what regression and the squared error need. Products of a float and a code are exact in
/// double, so that fused multiply-adds change nothing.
struct CodeSums {
  double x = 0, xx = 0;   // of the numbers
  double c = 0, cc = 0, cx = 0;

  [[nodiscard]] double error(double count, double scale, double offset) const noexcept {
    return xx - 2 * scale * cx - 2 * offset * x + scale * scale * cc + 2 * scale * offset * c + count * offset * offset;
  }
};

inline void add_codes(const float* numbers, const std::uint8_t* codes, std::size_t count, CodeSums& sums) noexcept {
  std::uint32_t c = 0, cc = 0;
  double cx = 0;
  for (std::size_t i = 0; i < count; ++i) {
    c += codes[i];
    cc += std::uint32_t{codes[i]} * codes[i];
    cx += static_cast<double>(codes[i]) * static_cast<double>(numbers[i]);
  }
  sums.c = c, sums.cc = cc, sums.cx = cx;
}

[[nodiscard]] inline f16 saturated_f16(double x) noexcept {
  return to_f16(static_cast<float>(std::clamp(x, -65504.0, 65504.0)) + 0.0f);
}

}  // namespace detail

/// Expects what KernelSet::integer_encode made of `count` finite numbers, which is kept where nothing better is found: the
/// squared error never grows.
inline void fit_integers(const float* numbers, std::size_t count, std::uint32_t levels, f16& scale, f16& offset,
                         std::uint8_t* codes) noexcept {
  PQKV_EXPECTS(count <= max_fitted_group);
  constexpr int fits = 3;
  const double start = levels <= 3 ? 0.75 : levels <= 15 ? 0.95 : 1.0;  // of the range
  const auto size = static_cast<double>(count);
  detail::CodeSums sums;
  for (std::size_t i = 0; i < count; ++i) {
    const double x = numbers[i];
    sums.x += x;
    sums.xx += x * x;
  }
  detail::add_codes(numbers, codes, count, sums);
  double least = sums.error(size, static_cast<double>(to_float(scale)), static_cast<double>(to_float(offset)));
  const double range = static_cast<double>(to_float(scale)) * levels;
  f16 scale_now = detail::saturated_f16(start * range / levels);
  f16 offset_now = detail::saturated_f16(static_cast<double>(to_float(offset)) + (1 - start) / 2 * range);
  std::uint8_t tried[max_fitted_group];
  for (int fit = 0;; ++fit) {
    const float step = to_float(scale_now), first = to_float(offset_now);
    if (!(step > 0)) return;
    const float inverse = 1.0f / step;
    for (std::size_t i = 0; i < count; ++i) {
      const float level = std::clamp((numbers[i] - first) * inverse, 0.0f, static_cast<float>(levels));
      tried[i] = static_cast<std::uint8_t>(level + 0.5f);
    }
    detail::add_codes(numbers, tried, count, sums);
    // Stored, were these codes the best: the scale and offset that keep the numbers' spread.
    const double spread_c = size * sums.cc - sums.c * sums.c, spread_x = size * sums.xx - sums.x * sums.x;
    const double both = size * sums.cx - sums.c * sums.x;
    if (spread_c <= 0 || both <= 0) return;
    const f16 kept_scale = detail::saturated_f16(spread_x / both);
    const f16 kept_offset = detail::saturated_f16((sums.x - static_cast<double>(to_float(kept_scale)) * sums.c) / size);
    const double error =
        sums.error(size, static_cast<double>(to_float(kept_scale)), static_cast<double>(to_float(kept_offset)));
    if (error < least) {
      least = error;
      scale = kept_scale, offset = kept_offset;
      std::memcpy(codes, tried, count);
    }
    if (fit == fits) return;
    const double fitted = both / spread_c;
    scale_now = detail::saturated_f16(fitted);
    offset_now = detail::saturated_f16((sums.x - static_cast<double>(to_float(scale_now)) * sums.c) / size);
  }
}

}  // namespace pqkv::inline PQKV_ABI
