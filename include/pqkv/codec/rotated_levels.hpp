// RotatedLevels<bits>: rows turned by a random rotation, their coordinates rounded to the levels that are best for a normal
// distribution. Layer 2. No training at all.
//
// Turned by a random rotation, a row of length ‖x‖ has coordinates that are nearly normal with variance ‖x‖²/dim, whatever the
// row was (exactly: of the uniform distribution on a sphere, whose fourth moment is lower by 2/(dim + 2)). So one table of
// levels serves all rows: the method of TurboQuant (Zandieh, Daliri, Hadian, Mirrokni, 2025), in its form for the mean squared
// error. Levels are those of Lloyd (Least squares quantization in PCM, 1957) and Max (Quantizing for minimum distortion, 1960);
// the rotation here is a signed Hadamard transform. Stored with the codes is not ‖x‖/√dim but ‖x‖²/⟨x, y⟩ of the turned-back
// levels y: rounding to means shrinks, and with this factor the decoded row has the product with x that x has, so that
// neither scores nor sums shrink (as RaBitQ by Gao, Long, 2024, estimates products). Measured against ‖x‖/√dim on the model
// of examples/tiny_llm at 2 bits, that divides the divergence by 1.15 for keys and 1.8 for values.
//
//   block: | lengths f16 [32 tokens] | codes: dim units of 32, which coordinate and token follows from `Order` |
//
// bits + 16/dim bits per element all told. Keys are scored channel after channel and values summed token after token, so keys
// have their units by channels and values by tokens: no unit is ever part empty, whatever the dim. (A block of fewer rows than
// 32 has its last unit filled up.)
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "pqkv/base/half.hpp"
#include "pqkv/base/result.hpp"
#include "pqkv/codec/hadamard.hpp"
#include "pqkv/codec/level_codes.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// The levels that round a standard normal variable with the least mean squared error, ascending.
template <std::size_t bits>
[[nodiscard]] constexpr std::array<float, std::size_t{1} << bits> normal_levels() noexcept {
  constexpr float two[] = {0.452780035f, 1.51041761f};
  constexpr float three[] = {0.245094179f, 0.756005281f, 1.34390928f, 2.1519457f};
  constexpr float four[] = {0.12839503f, 0.388048299f, 0.656759119f, 0.942340456f,
                            1.2562312f,  1.61804639f,  2.06901723f,  2.73258957f};
  const float* positive = bits == 2 ? two : bits == 3 ? three : four;
  std::array<float, std::size_t{1} << bits> levels{};
  for (std::size_t i = 0; i < levels.size() / 2; ++i) {
    levels[levels.size() / 2 + i] = positive[i];
    levels[levels.size() / 2 - 1 - i] = -positive[i];
  }
  return levels;
}

/// Which code follows which in a block.
enum class Order {
  channels,  ///< code c·32 + t: a channel's 32 tokens are a unit
  tokens,    ///< code t·dim + c
};

template <std::size_t bits, Order order>
class RotatedLevels {
  static_assert(bits >= 2 && bits <= 4);

 public:
  static constexpr std::string_view name = bits == 4 ? "turbo4" : bits == 3 ? "turbo3" : "turbo2";
  static constexpr std::size_t max_dim = HadamardRotation::max_dim;
  static constexpr auto levels = normal_levels<bits>();
  static constexpr std::uint64_t default_seed = 1;

  /// Blocks have 1..32 `rows`; by channels they have 32. Errors: invalid_shape unless dim is a multiple of 16 (fewer
  /// coordinates do not mix), at most 1024.
  [[nodiscard]] static Result<RotatedLevels> make(std::size_t dim, std::uint64_t seed, std::size_t rows = block_tokens) {
    PQKV_EXPECTS(rows >= 1 && rows <= block_tokens && (order == Order::tokens || rows == block_tokens));
    if (dim == 0 || dim > max_dim || dim % 16 != 0) {
      return Error{Errc::invalid_shape, message(name, " needs a dim that is a multiple of 16 (at most ", max_dim, "), not ",
                                                dim)};
    }
    return RotatedLevels(dim, seed, rows);
  }

  [[nodiscard]] std::size_t dim() const noexcept { return rotation_.dim(); }
  [[nodiscard]] std::size_t block_bytes() const noexcept { return lengths_bytes() + units() * unit_bytes<bits>; }
  /// Units of codes in a block.
  [[nodiscard]] std::size_t units() const noexcept { return (rows_ * dim() + unit_codes - 1) / unit_codes; }
  [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }
  [[nodiscard]] std::string describe() const {
    return seed_ == default_seed ? std::string(name) : message(name, ":seed=", seed_);
  }
  [[nodiscard]] const HadamardRotation& rotation() const noexcept { return rotation_; }

  /// Lengths saturate where elements of a row exceed about ±65504. Missing rows have length 0.
  void encode(FloatRows rows, std::byte* block) const noexcept {
    PQKV_EXPECTS(rows.dim == dim() && rows.count >= 1 && rows.count <= rows_);
    std::uint8_t codes[block_tokens * max_dim] = {};
    f16 lengths[block_tokens] = {};
    for (std::size_t t = 0; t < rows.count; ++t) {
      float row[max_dim];
      double square = 0;
      for (std::size_t d = 0; d < dim(); ++d) {
        const double x = rows.row(t)[d];
        square += x * x;
      }
      const double deviation = std::sqrt(square / static_cast<double>(dim()));
      for (std::size_t d = 0; d < dim(); ++d) {
        row[d] = deviation > 0 ? static_cast<float>(static_cast<double>(rows.row(t)[d]) / deviation) : 0.0f;
      }
      rotation_.turn(row);
      double product = 0;
      for (std::size_t d = 0; d < dim(); ++d) {
        const std::uint8_t code = nearest(row[d]);
        codes[place(d, t)] = code;
        product += static_cast<double>(row[d] * levels[code]);
      }
      if (product <= 0) continue;  // only a row of zeros
      lengths[t] = to_f16(static_cast<float>(std::min(deviation * static_cast<double>(dim()) / product, 65504.0)));
    }
    std::memcpy(block, lengths, lengths_bytes());
    for (std::size_t u = 0; u < units(); ++u) pack_unit<bits>(codes + u * unit_codes, units_of(block) + u * unit_bytes<bits>);
  }

  void decode(const std::byte* block, std::size_t index, float* row) const noexcept {
    f16 length{};
    std::memcpy(&length, block + index * sizeof(f16), sizeof length);
    for (std::size_t d = 0; d < dim(); ++d) {
      const std::size_t at = place(d, index);
      const std::uint8_t* unit = units_of(block) + at / unit_codes * unit_bytes<bits>;
      row[d] = to_float(length) * unit_level<bits>(unit, at % unit_codes, levels.data());
    }
    rotation_.turn_back(row);
  }

  /// What levels of the block's rows are to be multiplied by, one of each.
  void lengths(const std::byte* block, float* out) const noexcept {
    f16 stored[block_tokens];
    stored_lengths(block, stored);
    isa::best().f16_to_f32(stored, rows_, out);
  }
  void stored_lengths(const std::byte* block, f16* out) const noexcept { std::memcpy(out, block, lengths_bytes()); }
  /// Levels of units `first` … of a block, 32 floats each.
  void unpack(const std::byte* block, std::size_t first, std::size_t count, float* out) const noexcept {
    unpack_units<bits>(units_of(block) + first * unit_bytes<bits>, unit_bytes<bits>, count, levels.data(), 0, nullptr, out);
  }

 private:
  RotatedLevels(std::size_t dim, std::uint64_t seed, std::size_t rows) : rotation_(dim, seed), seed_(seed), rows_(rows) {}

  [[nodiscard]] std::size_t lengths_bytes() const noexcept { return rows_ * sizeof(f16); }
  [[nodiscard]] static std::uint8_t nearest(float x) noexcept {
    std::uint8_t code = 0;
    for (std::size_t i = 1; i < levels.size(); ++i) {
      code = static_cast<std::uint8_t>(code + (x > (levels[i - 1] + levels[i]) / 2));
    }
    return code;
  }
  [[nodiscard]] std::size_t place(std::size_t channel, std::size_t token) const noexcept {
    return order == Order::channels ? channel * block_tokens + token : token * dim() + channel;
  }
  [[nodiscard]] std::uint8_t* units_of(std::byte* block) const noexcept {
    return reinterpret_cast<std::uint8_t*>(block + lengths_bytes());
  }
  [[nodiscard]] const std::uint8_t* units_of(const std::byte* block) const noexcept {
    return reinterpret_cast<const std::uint8_t*>(block + lengths_bytes());
  }

  HadamardRotation rotation_;
  std::uint64_t seed_;
  std::size_t rows_;
};

}  // namespace pqkv::inline PQKV_ABI
