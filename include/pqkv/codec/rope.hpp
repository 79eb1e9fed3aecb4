// Rope: rotary positions (Su et al.: RoFormer, 2021) as a caller's model applies them. Layer 2.
// A row at position s is R(s)·row before rotation: pair i of its elements turned by s·frequency[i]. Rotations of one pair
// commute, which is what lets keys be stored relative to the origin of their run.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "pqkv/base/expects.hpp"

namespace pqkv::inline PQKV_ABI {

/// Which elements make a pair: (2i, 2i + 1), or (i, i + rotary/2) as in GPT-NeoX and Hugging Face's llama.
enum class RopePairing { adjacent, half_split };

class Rope {
 public:
  /// No rotation at all.
  Rope() = default;
  /// `frequencies`: radians per position, one per pair; elements beyond 2·frequencies.size() are not turned.
  explicit Rope(std::vector<double> frequencies, RopePairing pairing = RopePairing::adjacent)
      : frequencies_(std::move(frequencies)), pairing_(pairing) {}

  /// base^(−2i/rotary), the usual table.
  [[nodiscard]] static Rope with_base(std::size_t rotary, double base, RopePairing pairing = RopePairing::adjacent) {
    PQKV_EXPECTS(rotary % 2 == 0);
    std::vector<double> frequencies(rotary / 2);
    for (std::size_t i = 0; i < frequencies.size(); ++i) {
      frequencies[i] = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(rotary));
    }
    return Rope(std::move(frequencies), pairing);
  }

  [[nodiscard]] std::size_t pairs() const noexcept { return frequencies_.size(); }
  [[nodiscard]] const std::vector<double>& frequencies() const noexcept { return frequencies_; }
  [[nodiscard]] RopePairing pairing() const noexcept { return pairing_; }
  /// The two elements of a pair.
  [[nodiscard]] std::pair<std::size_t, std::size_t> elements(std::size_t pair) const noexcept {
    if (pairing_ == RopePairing::adjacent) return {2 * pair, 2 * pair + 1};
    return {pair, pair + pairs()};
  }

  /// Cosine and sine of each pair's angle at a position: [pairs] each.
  void angles(double position, float* cosines, float* sines) const noexcept {
    for (std::size_t i = 0; i < pairs(); ++i) {
      const double angle = position * frequencies_[i];
      cosines[i] = static_cast<float>(std::cos(angle));
      sines[i] = static_cast<float>(std::sin(angle));
    }
  }
  /// row ← R(position)·row for the position that the angles belong to.
  void turn(const float* cosines, const float* sines, float* row) const noexcept {
    if (pairing_ == RopePairing::adjacent) {
      turn_pairs<2>(cosines, sines, row, row + 1);
    } else {
      turn_pairs<1>(cosines, sines, row, row + pairs());
    }
  }
  /// row ← R(position)·row; computes the angles.
  void turn(double position, float* row) const noexcept {
    for (std::size_t i = 0; i < pairs(); ++i) {
      const auto [first, second] = elements(i);
      const auto cosine = static_cast<float>(std::cos(position * frequencies_[i]));
      const auto sine = static_cast<float>(std::sin(position * frequencies_[i]));
      const float a = row[first];
      const float b = row[second];
      row[first] = a * cosine - b * sine;
      row[second] = a * sine + b * cosine;
    }
  }

 private:
  template <std::size_t step>  // a constant, so that compilers make vectors of it
  void turn_pairs(const float* cosines, const float* sines, float* firsts, float* seconds) const noexcept {
    for (std::size_t i = 0; i < pairs(); ++i) {
      const float a = firsts[i * step];
      const float b = seconds[i * step];
      firsts[i * step] = a * cosines[i] - b * sines[i];
      seconds[i * step] = a * sines[i] + b * cosines[i];
    }
  }

  std::vector<double> frequencies_;
  RopePairing pairing_ = RopePairing::adjacent;
};

/// The angles of a position that mostly advances by the same step, as the origins of runs do: then a product of complex
/// numbers per pair, in double, instead of its cosine and sine.
class SteppedAngles {
 public:
  /// Forgets where it was.
  void start(const Rope& rope, std::int64_t step) {
    for (std::vector<float>* part : {&cosines_, &sines_}) part->resize(rope.pairs());
    if (step != step_ || frequencies_ != rope.frequencies()) {
      frequencies_ = rope.frequencies();
      step_ = step;
      turn_.resize(rope.pairs());
      now_.resize(rope.pairs());
      turn_.fill(frequencies_, step);
    }
    known_ = false;
  }
  /// Expects a start with the rope before.
  void move_to(std::int64_t position) noexcept {
    if (known_ && position == position_) return;
    if (known_ && position == position_ + step_) {
      now_.turn_by(turn_);
    } else {
      now_.fill(frequencies_, position);
    }
    position_ = position;
    known_ = true;
    for (std::size_t i = 0; i < cosines_.size(); ++i) {
      cosines_[i] = static_cast<float>(now_.cosines[i]);
      sines_[i] = static_cast<float>(now_.sines[i]);
    }
  }
  [[nodiscard]] const float* cosines() const noexcept { return cosines_.data(); }
  [[nodiscard]] const float* sines() const noexcept { return sines_.data(); }

 private:
  struct Angles {
    std::vector<double> cosines, sines;

    void resize(std::size_t pairs) { cosines.resize(pairs), sines.resize(pairs); }
    void fill(const std::vector<double>& frequencies, std::int64_t position) noexcept {
      for (std::size_t i = 0; i < frequencies.size(); ++i) {
        const double angle = static_cast<double>(position) * frequencies[i];
        cosines[i] = std::cos(angle);
        sines[i] = std::sin(angle);
      }
    }
    void turn_by(const Angles& other) noexcept {
      for (std::size_t i = 0; i < cosines.size(); ++i) {
        const double c = cosines[i], s = sines[i];
        cosines[i] = c * other.cosines[i] - s * other.sines[i];
        sines[i] = s * other.cosines[i] + c * other.sines[i];
      }
    }
  };

  std::vector<double> frequencies_;
  Angles now_, turn_;
  std::vector<float> cosines_, sines_;
  std::int64_t position_ = 0;
  std::int64_t step_ = 0;
  bool known_ = false;
};

}  // namespace pqkv::inline PQKV_ABI
