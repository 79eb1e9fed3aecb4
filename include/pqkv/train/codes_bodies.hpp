// Bodies of train/codes.hpp.
#pragma once

#include "pqkv/codec/nearest_sums.hpp"
#include "pqkv/train/codes.hpp"

namespace pqkv::inline PQKV_ABI {

PQKV_COMPILED_ONCE [[nodiscard]] std::vector<std::uint8_t> nearest_codes(const RowMatrix& rows, const Codebook& codebook) {
  const CodebookShape& shape = codebook.shape();
  const auto count = static_cast<std::size_t>(rows.rows());
  std::vector<std::uint8_t> codes(shape.codes() * count);
  for (std::size_t code = 0; code < shape.codes(); code += shape.stages) {
    nearest_sums(CentroidStages(codebook, code), rows.data() + shape.first(code), count, shape.dim, codes.data() + code * count,
                 count);
  }
  return codes;
}

PQKV_COMPILED_ONCE [[nodiscard]] RowMatrix decoded_rows(const std::vector<std::uint8_t>& codes, const Codebook& codebook) {
  const CodebookShape& shape = codebook.shape();
  const std::size_t count = codes.size() / shape.codes();
  RowMatrix rows = RowMatrix::Zero(static_cast<Eigen::Index>(count), static_cast<Eigen::Index>(shape.dim));
  for (std::size_t code = 0; code < shape.codes(); ++code) {
    const float* centroids = codebook.centroids(code);
    for (std::size_t r = 0; r < count; ++r) {
      float* piece = rows.data() + r * shape.dim + shape.first(code);
      for (std::size_t d = 0; d < shape.width(); ++d) piece[d] += centroids[d * shape.centroids + codes[code * count + r]];
    }
  }
  return rows;
}

}  // namespace pqkv::inline PQKV_ABI
