// RowsBuffer: [count][width] floats that grow once and are then reused, the state of most QueryTables and
// WeightedSums. Layer 2.
#pragma once

#include <algorithm>
#include <cstddef>

#include "pqkv/base/buffer.hpp"
#include "pqkv/base/rows.hpp"

namespace pqkv::inline PQKV_ABI {

/// Running out of memory here is fatal, as in the standard containers under -fno-exceptions: it can only happen at the
/// first use of a group size (see Workspace::reserve).
class RowsBuffer {
 public:
  /// Room for `count` rows of `width` floats; the contents are undefined.
  void shape(std::size_t count, std::size_t width) noexcept {
    if (!floats_.grow(count * width)) __builtin_trap();
    count_ = count;
    width_ = width;
  }
  /// A copy of `rows`.
  void assign(FloatRows rows) noexcept {
    shape(rows.count, rows.dim);
    for (std::size_t i = 0; i < rows.count; ++i) std::copy_n(rows.row(i), rows.dim, row(i));
  }
  void fill(float value) noexcept { std::fill_n(floats_.data(), count_ * width_, value); }
  /// Multiplies row i by factors[i].
  void scale(const float* factors) noexcept {
    for (std::size_t i = 0; i < count_; ++i) {
      if (factors[i] == 1.0f) continue;
      float* values = row(i);
      for (std::size_t d = 0; d < width_; ++d) values[d] *= factors[i];
    }
  }
  /// outs[i·stride + d] += row i.
  void add_to(float* outs, std::size_t stride) const noexcept {
    for (std::size_t i = 0; i < count_; ++i) {
      for (std::size_t d = 0; d < width_; ++d) outs[i * stride + d] += row(i)[d];
    }
  }

  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] std::size_t width() const noexcept { return width_; }
  [[nodiscard]] float* data() noexcept { return floats_.data(); }
  [[nodiscard]] const float* data() const noexcept { return floats_.data(); }
  [[nodiscard]] float* row(std::size_t index) noexcept { return floats_.data() + index * width_; }
  [[nodiscard]] const float* row(std::size_t index) const noexcept { return floats_.data() + index * width_; }

 private:
  Buffer<float> floats_;
  std::size_t count_ = 0;
  std::size_t width_ = 0;
};

}  // namespace pqkv::inline PQKV_ABI
