// nearest_sums: the codes of one subspace. One stage: the nearest centroid. Several: a beam search for the sum of one
// centroid per stage that comes nearest (Babenko, Lempitsky: Additive Quantization for Extreme Vector Compression, 2014).
// Measured on values of dim 64 in four subspaces of 2 x 256 centroids: a beam of 4 / 8 / 16 errs 17.91 / 17.82 / 17.80,
// where a row costs 0.25 µs in one stage and 2.9 µs at 8 (AVX-512, other work on the machine), most of it products. Layer 2.
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

/// What the search keeps of one row: sums that came near so far. A path goes on with the best centroid of each of `size`
/// parts of a stage, not with the `size` best of all: that misses little and is found without sorting.
struct Beam {
  static constexpr std::size_t size = 8;
  float costs[size];  // ½‖row − sum‖² − ½‖row‖²
  std::uint8_t codes[size][CodebookShape::max_stages];

  /// Goes on with the least of costs[path] + more[path · size + part] over all paths and parts.
  void extend(const float* more, const std::uint8_t* more_codes, std::size_t stage) noexcept {
    Beam next;
    std::size_t used = 0;
    for (std::size_t i = 0; i < size * size; ++i) {
      const float cost = costs[i / size] + more[i];
      if (used == size && !(cost < next.costs[size - 1])) continue;
      std::size_t place = used < size ? used++ : size - 1;
      for (; place > 0 && cost < next.costs[place - 1]; --place) {
        next.costs[place] = next.costs[place - 1];
        std::memcpy(next.codes[place], next.codes[place - 1], sizeof codes[0]);
      }
      next.costs[place] = cost;
      std::memcpy(next.codes[place], codes[i / size], sizeof codes[0]);
      next.codes[place][stage] = more_codes[i];
    }
    *this = next;
  }

  /// Which of them is the least of all. Parts are lanes, so that compilers keep them in vectors.
  [[nodiscard]] std::size_t least(const float* more) const noexcept {
    float least_of[size];
    std::int32_t paths[size] = {};
    for (std::size_t part = 0; part < size; ++part) least_of[part] = costs[0] + more[part];
    for (std::size_t path = 1; path < size; ++path) {
      for (std::size_t part = 0; part < size; ++part) {
        const float cost = costs[path] + more[path * size + part];
        paths[part] = cost < least_of[part] ? static_cast<std::int32_t>(path) : paths[part];
        least_of[part] = cost < least_of[part] ? cost : least_of[part];
      }
    }
    const auto part = static_cast<std::size_t>(std::min_element(least_of, least_of + size) - least_of);
    return static_cast<std::size_t>(paths[part]) * size + part;
  }
};

/// Rows that are sought together, so that calls of kernels are few.
inline constexpr std::size_t rows_per_search = 16;

/// codes[stage · code_stride + r] of a few rows: at most rows_per_search, at most max_staged_width elements together.
inline void nearest_sums_of_few(const CentroidStages& book, const float* rows, std::size_t count, std::size_t stride,
                                std::uint8_t* codes, std::size_t code_stride) noexcept {
  const isa::KernelSet& kernels = isa::best();
  Beam beams[rows_per_search];
  float left[Beam::size * CodebookShape::max_staged_width];  // what each path leaves of its row
  float costs[rows_per_search * Beam::size * Beam::size];
  std::uint8_t ends[rows_per_search * Beam::size * Beam::size];
  kernels.nearest_of_parts(rows, count, stride, book.width, book.centroids, book.half_norms, book.count, costs, ends);
  for (std::size_t r = 0; r < count; ++r) {
    std::memcpy(beams[r].costs, costs + r * Beam::size, sizeof beams[r].costs);
    for (std::size_t path = 0; path < Beam::size; ++path) beams[r].codes[path][0] = ends[r * Beam::size + path];
  }
  for (std::size_t stage = 1; stage < book.stages; ++stage) {
    float* mine = left;
    for (std::size_t r = 0; r < count; ++r) {
      for (std::size_t path = 0; path < Beam::size; ++path, mine += book.width) {
        std::memcpy(mine, rows + r * stride, book.width * sizeof(float));
        for (std::size_t before = 0; before < stage; ++before) {
          const float* column = book.centroids_of(before) + beams[r].codes[path][before];
          for (std::size_t d = 0; d < book.width; ++d) mine[d] -= column[d * book.count];
        }
      }
    }
    kernels.nearest_of_parts(left, count * Beam::size, book.width, book.width, book.centroids_of(stage),
                             book.half_norms_of(stage), book.count, costs, ends);
    if (stage + 1 == book.stages) break;
    for (std::size_t r = 0; r < count; ++r) {
      const std::size_t first = r * Beam::size * Beam::size;
      beams[r].extend(costs + first, ends + first, stage);
    }
  }
  for (std::size_t r = 0; r < count; ++r) {
    const std::size_t first = r * Beam::size * Beam::size;
    const std::size_t best = beams[r].least(costs + first);
    for (std::size_t stage = 0; stage + 1 < book.stages; ++stage) {
      codes[stage * code_stride + r] = beams[r].codes[best / Beam::size][stage];
    }
    codes[(book.stages - 1) * code_stride + r] = ends[first + best];
  }
}

}  // namespace detail

/// codes[stage·code_stride + r]: row r's. Rows are `stride` floats apart, `book.width` long.
inline void nearest_sums(const CentroidStages& book, const float* rows, std::size_t count, std::size_t stride,
                         std::uint8_t* codes, std::size_t code_stride) noexcept {
  if (book.stages == 1) {
    isa::best().nearest_centroid(rows, count, stride, book.width, book.centroids, book.half_norms, book.count, codes);
    return;
  }
  const std::size_t together = std::min(detail::rows_per_search, CodebookShape::max_staged_width / book.width);
  for (std::size_t r = 0; r < count; r += together) {
    detail::nearest_sums_of_few(book, rows + r * stride, std::min(together, count - r), stride, codes + r, code_stride);
  }
}

}  // namespace pqkv::inline PQKV_ABI
