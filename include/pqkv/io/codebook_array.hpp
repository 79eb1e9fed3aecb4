// Codebooks as arrays of other tools: centroids that k-means somewhere else wrote into a .npy or safetensors file, and ours for
// them to read. Beside the pipeline. Spaces and gains are not in an array (io/codebook_file.hpp has them).
//
//   [subspaces][centroids][width], or [subspaces][stages][centroids][width]: a centroid's elements lie together, where a
//   Codebook has them centroid by centroid for each element.
#pragma once

#include <memory>
#include <vector>

#include "pqkv/codec/codebook.hpp"
#include "pqkv/io/npy.hpp"

namespace pqkv::inline PQKV_ABI {

/// Errors: invalid_shape, with the array's, where no codebook can have it; invalid_data for elements that are not finite.
PQKV_WHEN_CALLED [[nodiscard]] Result<std::shared_ptr<const Codebook>> codebook_from_array(const NpyArray& array) {
  const std::vector<std::size_t>& is = array.shape;
  if (is.size() != 3 && is.size() != 4) {
    return Error{Errc::invalid_shape,
                 message("centroids of ", is.size(),
                         " dimensions; need [subspaces][centroids][width], stages second where there are any")};
  }
  const CodebookShape shape{is.front() * is.back(), is.front(), is[is.size() - 2], is.size() == 4 ? is[1] : 1};
  if (Status status = check(shape); !status) return status.error();
  if (array.data.size() != shape.floats()) {
    return Error{Errc::invalid_shape, message(array.data.size(), " numbers for ", shape.floats(), " of its shape")};
  }
  std::vector<float> centroids(shape.floats());
  const std::size_t width = shape.width();
  for (std::size_t i = 0; i < centroids.size(); ++i) {
    const std::size_t element = i % width, centroid = i / width % shape.centroids, code = i / width / shape.centroids;
    centroids[(code * width + element) * shape.centroids + centroid] = array.data[i];
  }
  return Codebook::make(shape, centroids);
}

/// The other way round, four dimensions where the codebook has stages; for write_npy.
PQKV_WHEN_CALLED [[nodiscard]] NpyArray array_of(const Codebook& codebook) {
  const CodebookShape& shape = codebook.shape();
  NpyArray array{{shape.subspaces, shape.centroids, shape.width()}, ScalarType::f32, {}};
  if (shape.stages > 1) array.shape.insert(array.shape.begin() + 1, shape.stages);
  for (std::size_t code = 0; code < shape.codes(); ++code) {
    for (std::size_t c = 0; c < shape.centroids; ++c) {
      for (std::size_t d = 0; d < shape.width(); ++d) array.data.push_back(codebook.centroids(code)[d * shape.centroids + c]);
    }
  }
  return array;
}

}  // namespace pqkv::inline PQKV_ABI
