// The 16-bit floating-point element types f16 (IEEE binary16) and bf16, and their portable conversions. Layer 0.
// Fast bulk conversions are kernels (isa/); these are their specification. Rounding is to nearest, ties to even.
#pragma once

#include <bit>
#include <cstdint>

#include "pqkv/base/config.hpp"

namespace pqkv::inline PQKV_ABI {

/// IEEE binary16, held as its bits.
struct f16 {
  std::uint16_t bits;
};
/// The upper half of an IEEE binary32, held as its bits.
struct bf16 {
  std::uint16_t bits;
};

[[nodiscard]] constexpr float to_float(float x) noexcept { return x; }

[[nodiscard]] constexpr float to_float(bf16 x) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

[[nodiscard]] constexpr float to_float(f16 x) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (x.bits >> 10) & 0x1fu;
  const std::uint32_t fraction = x.bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: fraction × 2⁻²⁴, exact in binary32
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
  }
  const std::uint32_t wide = exponent == 31 ? 0xffu : exponent + 112u;
  return std::bit_cast<float>(sign | (wide << 23) | (fraction << 13));
}

[[nodiscard]] constexpr bf16 to_bf16(float x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {  // NaN stays NaN
    return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
  }
  return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

[[nodiscard]] constexpr f16 to_f16(float x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const auto with_sign = [sign](std::uint32_t half) { return f16{static_cast<std::uint16_t>(sign | half)}; };
  if (magnitude > 0x7f800000u) return with_sign(0x7e00u);           // NaN
  if (magnitude >= 0x477ff000u) return with_sign(0x7c00u);          // rounds to infinity
  if (magnitude < 0x33000001u) return with_sign(0);                 // at most half of the least subnormal
  const std::uint32_t exponent = magnitude >> 23;
  const std::uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
  const std::uint32_t shift = exponent >= 113 ? 13u : 126u - exponent;
  std::uint32_t half = significand >> shift;
  const std::uint32_t rest = significand & ((1u << shift) - 1u);
  const std::uint32_t middle = 1u << (shift - 1u);
  if (rest > middle || (rest == middle && (half & 1u))) ++half;
  if (exponent >= 113) half += (exponent - 113u) << 10;             // the implicit bit adds the last 1
  return with_sign(half);
}

}  // namespace pqkv::inline PQKV_ABI
