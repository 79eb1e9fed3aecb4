// nearest_sums: the codes of one subspace. One stage: the nearest centroid. Several: a beam search for the sum of one
// centroid per stage that comes nearest (Babenko, Lempitsky: Additive Quantization for Extreme Vector Compression, 2014).
// Measured on values of dim 64 in four subspaces of 2 x 256 centroids: a beam of 4 / 8 / 16 errs 17.91 / 17.82 / 17.80,
// where a row costs 0.3 µs in one stage, 5 µs at 8 and 11 µs at 16. Layer 2.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "pqkv/codec/codebook.hpp"
#include "pqkv/isa/select.hpp"

namespace pqkv::inline PQKV_ABI {

/// The centroids of one subspace's stages, [stage][width][centroid], and ½‖c‖², [stage][centroid].
struct CentroidStages {
  const float* centroids = nullptr;
  const float* half_norms = nullptr;
  std::size_t width = 0;
  std::size_t count = 0;
  std::size_t stages = 0;

  CentroidStages() = default;
  CentroidStages(const Codebook& codebook, std::size_t first_code) noexcept
      : centroids(codebook.centroids(first_code)),
        half_norms(codebook.half_norms(first_code)),
        width(codebook.shape().width()),
        count(codebook.shape().centroids),
        stages(codebook.shape().stages) {}

  [[nodiscard]] const float* centroids_of(std::size_t stage) const noexcept { return centroids + stage * width * count; }
  [[nodiscard]] const float* half_norms_of(std::size_t stage) const noexcept { return half_norms + stage * count; }
};

namespace detail {

/// What the search keeps of one row: sums that came near so far, best first. A path goes on with the best centroid of each
/// of `size` parts of a stage, not with the `size` best of all: that misses little and is found without sorting.
struct Beam {
  static constexpr std::size_t size = 8;
  struct Path {
    float cost;  // ½‖row − sum‖² − ½‖row‖²
    std::uint8_t from;  // the path of the stage before that it goes on
    std::uint8_t code;
  };
  Path paths[size];
  std::size_t used = 0;

  void offer(float cost, std::size_t from, std::size_t code) noexcept {
    if (used == size && !(cost < paths[size - 1].cost)) return;
    std::size_t place = used < size ? used++ : size - 1;
    for (; place > 0 && cost < paths[place - 1].cost; --place) paths[place] = paths[place - 1];
    paths[place] = {cost, static_cast<std::uint8_t>(from), static_cast<std::uint8_t>(code)};
  }
};

/// codes[stage · stride] of one row.
inline void nearest_sum(const CentroidStages& book, const float* row, std::uint8_t* codes, std::size_t stride) noexcept {
  const isa::KernelSet& kernels = isa::best();
  float left[2][Beam::size * CodebookShape::max_staged_width];  // what each path leaves of the row
  std::uint8_t chosen[2][Beam::size][CodebookShape::max_stages] = {};
  float costs[Beam::size] = {};
  std::memcpy(left[0], row, book.width * sizeof(float));
  std::size_t paths = 1;
  for (std::size_t stage = 0; stage + 1 < book.stages; ++stage) {
    const float* from_left = left[stage % 2];
    Beam beam;
    for (std::size_t p = 0; p < paths; ++p) {
      float dots[256];
      kernels.centroid_dots(from_left + p * book.width, 1, book.width, book.centroids_of(stage), nullptr, book.count, dots);
      const float* half_norms = book.half_norms_of(stage);
      // Lanes: centroids c with the same c mod `size`, so that compilers keep them in vectors.
      float least[Beam::size];
      std::int32_t at[Beam::size] = {};
      for (std::size_t lane = 0; lane < Beam::size; ++lane) least[lane] = half_norms[lane] - dots[lane];
      for (std::size_t c = Beam::size; c < book.count; c += Beam::size) {
        for (std::size_t lane = 0; lane < Beam::size; ++lane) {
          const float cost = half_norms[c + lane] - dots[c + lane];
          at[lane] = cost < least[lane] ? static_cast<std::int32_t>(c) : at[lane];
          least[lane] = cost < least[lane] ? cost : least[lane];
        }
      }
      for (std::size_t lane = 0; lane < Beam::size; ++lane) {
        beam.offer(costs[p] + least[lane], p, static_cast<std::size_t>(at[lane]) + lane);
      }
    }
    paths = beam.used;
    for (std::size_t p = 0; p < paths; ++p) {
      const Beam::Path& path = beam.paths[p];
      std::memcpy(chosen[(stage + 1) % 2][p], chosen[stage % 2][path.from], sizeof chosen[0][0]);
      chosen[(stage + 1) % 2][p][stage] = path.code;
      costs[p] = path.cost;
      const float* column = book.centroids_of(stage) + path.code;
      float* mine = left[(stage + 1) % 2] + p * book.width;
      for (std::size_t d = 0; d < book.width; ++d) mine[d] = from_left[path.from * book.width + d] - column[d * book.count];
    }
  }
  const std::size_t last = book.stages - 1;
  const float* rest = left[last % 2];
  std::uint8_t ends[Beam::size];
  kernels.nearest_centroid(rest, paths, book.width, book.width, book.centroids_of(last), book.half_norms_of(last), book.count,
                           ends);
  std::size_t best = 0;
  for (std::size_t p = 0; p < paths; ++p) {
    float dot = 0;
    const float* column = book.centroids_of(last) + ends[p];
    for (std::size_t d = 0; d < book.width; ++d) dot += rest[p * book.width + d] * column[d * book.count];
    costs[p] += book.half_norms_of(last)[ends[p]] - dot;
    if (costs[p] < costs[best]) best = p;
  }
  chosen[last % 2][best][last] = ends[best];
  for (std::size_t stage = 0; stage < book.stages; ++stage) codes[stage * stride] = chosen[last % 2][best][stage];
}

}  // namespace detail

/// codes[stage·code_stride + r]: row r's. Rows are `stride` floats apart, `book.width` long.
inline void nearest_sums(const CentroidStages& book, const float* rows, std::size_t count, std::size_t stride,
                         std::uint8_t* codes, std::size_t code_stride) noexcept {
  if (book.stages == 1) {
    isa::best().nearest_centroid(rows, count, stride, book.width, book.centroids, book.half_norms, book.count, codes);
    return;
  }
  for (std::size_t r = 0; r < count; ++r) detail::nearest_sum(book, rows + r * stride, codes + r, code_stride);
}

}  // namespace pqkv::inline PQKV_ABI
