// fit_integers: codes 0 … levels of a group of numbers, x ≈ scale·code + offset, with less squared error than its range gives.
// Layer 2.
//
// A range from the least to the greatest element serves two elements and costs all others coarse steps. Better scales are
// sought as in k-means, with two parameters for all centroids: from a shrunk range, encode, take the scale and offset that fit
// the codes best (linear regression), and again. Measured on values and keys of the model of examples/tiny_llm, groups of 32:
// the root of the error falls to 0.77 of the range's at 2 bits, 0.93 at 4 and 0.96 at 8. Ranges shrunk to 0.70 … 0.85 do
// within 1 % as well at 2 bits; a full search over sixteen ranges with four fits each gains 2 % more and costs sixteen times as
// much. (Scales of ggml's k-quants are refitted to codes by least squares likewise.)
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
    const double error = sums.error(size, static_cast<double>(step), static_cast<double>(first));
    if (error < least) {
      least = error;
      scale = scale_now, offset = offset_now;
      std::memcpy(codes, tried, count);
    }
    const double spread = size * sums.cc - sums.c * sums.c;
    if (fit == fits || spread <= 0) return;
    const double fitted = (size * sums.cx - sums.c * sums.x) / spread;
    scale_now = detail::saturated_f16(fitted);
    offset_now = detail::saturated_f16((sums.x - static_cast<double>(to_float(scale_now)) * sums.c) / size);
  }
}

}  // namespace pqkv::inline PQKV_ABI
