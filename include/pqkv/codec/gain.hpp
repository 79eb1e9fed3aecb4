// Gains: the length of each row apart from its codes, a byte of log scale per token. Layer 2.
// Rows of one head differ in length several times over (values of the first tokens are nearly nothing), and a codebook of whole
// rows spends centroids on that. With a gain it is of shapes alone (shape-gain quantisation: Sabin, Gray, 1984), in a space
// whose rows have length 1 on average (CodeSpaceParts::unit_length). The gain makes what is decoded as long as the row was:
// the gain of least squared error is shorter by what the codes miss, and a softmax averages errors of many tokens away, but no
// shrinkage (with it the divergence of 1-bit values is a fifth higher).
//
//   byte 0: 0;   byte b: 2^((b − 160) / 16), from 2⁻¹⁰ to 2⁶ in steps of 4.4 %
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "pqkv/base/expects.hpp"
#include "pqkv/base/rows.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// Rows are put to unit length on the stack.
inline constexpr std::size_t max_gained_dim = 1024;

namespace detail {

/// What each byte stands for; by constants, so that it is the same everywhere.
[[nodiscard]] constexpr std::array<float, 256> gain_values() noexcept {
  constexpr float sixteenths[16] = {1.0f,         1.04427378f, 1.09050773f, 1.13878863f, 1.18920712f, 1.24185781f,
                                    1.29683955f,  1.35425555f, 1.41421356f, 1.47682615f, 1.54221083f, 1.61049033f,
                                    1.68179283f,  1.75625216f, 1.83400809f, 1.91520656f};
  std::array<float, 256> values{};
  for (std::uint32_t byte = 1; byte < 256; ++byte) {
    const std::uint32_t exponent = 127 - 10 + byte / 16;  // of a float: 2^(byte / 16 − 10)
    values[byte] = sixteenths[byte % 16] * std::bit_cast<float>(exponent << 23);
  }
  return values;
}
inline constexpr std::array<float, 256> gains_by_byte = gain_values();

}  // namespace detail

[[nodiscard]] inline float gain_of(std::byte code) noexcept { return detail::gains_by_byte[std::to_integer<std::size_t>(code)]; }

/// The byte whose gain is nearest to one ≥ 0 on the log scale; 0 below all, the last above.
[[nodiscard]] inline std::byte gain_code(double gain) noexcept {
  const auto& values = detail::gains_by_byte;
  std::size_t code = 0;  // halving: the gain is above the middle of `code` and what comes before
  for (std::size_t step = 128; step != 0; step /= 2) {
    const double below = values[code + step - 1], above = values[code + step];
    const double middle = below == 0 ? above / 2 : below * above;  // squared, but for the first
    if (below == 0 ? gain >= middle : gain * gain >= middle) code += step;
  }
  return static_cast<std::byte>(code);
}

/// Codes 1..32 rows of at most max_gained_dim elements: `encode(FloatRows)` takes them at unit length, `decode(t, row)` tells
/// what became of row t, gains[t] makes that as long as the row. All 32 bytes are written.
template <class Encode, class Decode>
void encode_with_gains(FloatRows rows, std::byte* gains, const Encode& encode, const Decode& decode) noexcept {
  PQKV_EXPECTS(rows.count >= 1 && rows.count <= block_tokens && rows.dim <= max_gained_dim);
  float unit[block_tokens * max_gained_dim];
  unit[0] = 0;  // or compilers see a row read that no loop wrote
  double lengths[block_tokens];
  // Products of floats are exact in double: fused or not, sums are the same.
  const auto length_of = [dim = rows.dim](const float* row) {
    double square = 0;
    for (std::size_t d = 0; d < dim; ++d) square += static_cast<double>(row[d]) * static_cast<double>(row[d]);
    return std::sqrt(square);
  };
  for (std::size_t t = 0; t < rows.count; ++t) {
    lengths[t] = length_of(rows.row(t));
    const double factor = lengths[t] > 0 ? 1 / lengths[t] : 0;
    for (std::size_t d = 0; d < rows.dim; ++d) {
      unit[t * rows.dim + d] = static_cast<float>(static_cast<double>(rows.row(t)[d]) * factor);
    }
  }
  encode(FloatRows{unit, rows.count, rows.dim});
  std::fill_n(gains, block_tokens, std::byte{0});
  for (std::size_t t = 0; t < rows.count; ++t) {
    float shape[max_gained_dim];
    decode(t, shape);
    const double length = length_of(shape);
    if (length > 0) gains[t] = gain_code(lengths[t] / length);
  }
}

/// The most tokens that for_each_stretch shows at a time.
inline constexpr std::size_t max_stretch = 256;

/// Blocks of a format's codes and gains, read some at a time: `visit(first, blocks, codes, gains)` gets the codes of blocks
/// first … first + blocks − 1 one behind the other, as kernels want them, and a gain per token. Copying codes costs less than
/// calling a kernel for every block.
template <class Visit>
void for_each_stretch(BlockSpan span, std::size_t code_bytes, const Visit& visit) noexcept {
  alignas(64) std::byte codes[8192];
  float gains[max_stretch];
  const std::size_t at_once = std::clamp<std::size_t>(sizeof codes / code_bytes, 1, max_stretch / block_tokens);
  for (std::size_t first = 0; first < span.blocks(); first += at_once) {
    const std::size_t count = std::min(at_once, span.blocks() - first), begin = first * (code_bytes + block_tokens);
    span.ask_ahead(begin, count * (code_bytes + block_tokens));
    const std::byte* block = span.data + begin;
    const std::byte* together = count == 1 ? block : codes;
    for (std::size_t b = 0; b < count; ++b, block += code_bytes + block_tokens) {
      if (count != 1) std::memcpy(codes + b * code_bytes, block, code_bytes);
      for (std::size_t t = 0; t < block_tokens; ++t) gains[b * block_tokens + t] = gain_of(block[code_bytes + t]);
    }
    visit(first, count, together, gains);
  }
}

}  // namespace pqkv::inline PQKV_ABI
