// ExactRows: rows kept as f32, f16 or bf16, row-major, and the two loops that read them. Layer 2.
// Shared by the exact key format, the exact value format and the exact windows of a cache.
#pragma once

#include <cstddef>

#include "pqkv/base/rows.hpp"
#include "pqkv/isa/select.hpp"

namespace pqkv::inline PQKV_ABI {

/// Describes the storage; holds no rows. Pointers to stored rows are aligned to the element.
struct ExactRows {
  std::size_t dim = 0;
  ScalarType type = ScalarType::f32;

  [[nodiscard]] std::size_t row_bytes() const noexcept { return dim * size_of(type); }

  /// Stores `count` elements of floats, rounded to the nearest.
  void store(const float* row, std::size_t count, std::byte* out) const noexcept {
    switch (type) {
      case ScalarType::f32: std::memcpy(out, row, count * sizeof(float)); break;
      case ScalarType::f16: isa::best().f32_to_f16(row, count, reinterpret_cast<f16*>(out)); break;
      case ScalarType::bf16: isa::best().f32_to_bf16(row, count, reinterpret_cast<bf16*>(out)); break;
    }
  }

  /// RowMovable::copy_row, for blocks of rows one behind the other.
  void copy_row(const std::byte* from, std::size_t index, std::byte* to, std::size_t to_index) const noexcept {
    std::memcpy(to + to_index * row_bytes(), from + index * row_bytes(), row_bytes());
  }

  /// The inverse of store.
  void load(const std::byte* in, std::size_t count, float* row) const noexcept {
    switch (type) {
      case ScalarType::f32: std::memcpy(row, in, count * sizeof(float)); break;
      case ScalarType::f16: isa::best().f16_to_f32(reinterpret_cast<const f16*>(in), count, row); break;
      case ScalarType::bf16: isa::best().bf16_to_f32(reinterpret_cast<const bf16*>(in), count, row); break;
    }
  }

  /// scores[q·stride + t] = query q · row t; queries are [query_count][dim].
  void dot(const std::byte* rows, std::size_t tokens, const float* queries, std::size_t query_count, float* scores,
           std::size_t stride) const noexcept {
    const isa::KernelSet& kernels = isa::best();
    switch (type) {
      case ScalarType::f32:
        kernels.dot_f32(reinterpret_cast<const float*>(rows), tokens, dim, queries, query_count, scores, stride);
        break;
      case ScalarType::f16:
        kernels.dot_f16(reinterpret_cast<const f16*>(rows), tokens, dim, queries, query_count, scores, stride);
        break;
      case ScalarType::bf16:
        kernels.dot_bf16(reinterpret_cast<const bf16*>(rows), tokens, dim, queries, query_count, scores, stride);
        break;
    }
  }

  /// outs[q·dim + d] += Σ_t weights[q·stride + t] · row t.
  void accumulate(const std::byte* rows, std::size_t tokens, const float* weights, std::size_t query_count,
                  std::size_t stride, float* outs) const noexcept {
    const isa::KernelSet& kernels = isa::best();
    switch (type) {
      case ScalarType::f32:
        kernels.accumulate_f32(reinterpret_cast<const float*>(rows), tokens, dim, weights, query_count, stride, outs);
        break;
      case ScalarType::f16:
        kernels.accumulate_f16(reinterpret_cast<const f16*>(rows), tokens, dim, weights, query_count, stride, outs);
        break;
      case ScalarType::bf16:
        kernels.accumulate_bf16(reinterpret_cast<const bf16*>(rows), tokens, dim, weights, query_count, stride, outs);
        break;
    }
  }
};

/// out[d] = element d of row `index`, d < rows.dim; the row may have any alignment.
inline void to_floats(const Rows& rows, std::size_t index, float* out) noexcept {
  constexpr std::size_t piece = 128;
  alignas(4) std::byte aligned[piece * sizeof(float)];
  for (std::size_t d = 0; d < rows.dim; d += piece) {
    const std::size_t count = rows.dim - d < piece ? rows.dim - d : piece;
    std::memcpy(aligned, rows.row(index) + d * size_of(rows.type), count * size_of(rows.type));
    ExactRows{count, rows.type}.load(aligned, count, out + d);
  }
}

}  // namespace pqkv::inline PQKV_ABI
