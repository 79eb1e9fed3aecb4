// Codebook: the trained centroids of a product quantiser. Layer 2. Immutable, shared between heads, threads and forks.
//
// Product quantisation (Jégou, Douze, Schmid: Product Quantization for Nearest Neighbor Search, 2011) cuts a row of
// `dim` elements into `subspaces` pieces of `width` elements and keeps, per piece, the index of its nearest centroid.
//
// Centroids lie dimension-major per subspace, [subspace][width][centroid], because every use streams over centroids:
// a query's table, the search for the nearest, and the product that turns buckets into an output row.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "pqkv/base/buffer.hpp"
#include "pqkv/base/result.hpp"
#include "pqkv/codec/code_space.hpp"
#include "pqkv/codec/fingerprint.hpp"

namespace pqkv::inline PQKV_ABI {

/// Centroids per subspace of a codebook of two stages: 16 and 16, whose sums count.
inline constexpr std::size_t two_stage_centroids = 32;

/// dim = subspaces · width; 16, 64 or 256 centroids per subspace, or two stages (two_stage_centroids).
struct CodebookShape {
  std::size_t dim = 0;
  std::size_t subspaces = 0;
  std::size_t centroids = 0;

  [[nodiscard]] std::size_t width() const noexcept { return dim / subspaces; }
  [[nodiscard]] bool operator==(const CodebookShape&) const noexcept = default;
};

/// Ok, or why no codebook of that shape can exist and what to choose instead.
[[nodiscard]] inline Status check(const CodebookShape& shape) {
  if (shape.dim == 0 || shape.dim > 4096) {
    return Error{Errc::invalid_shape, message("dim ", shape.dim, " is not in 1..4096")};
  }
  if (shape.centroids != 16 && shape.centroids != 32 && shape.centroids != 64 && shape.centroids != 256) {
    return Error{Errc::invalid_shape, message(shape.centroids, " centroids per subspace; choose 16, 32, 64 or 256")};
  }
  if (shape.subspaces == 0 || shape.subspaces > 256 || shape.dim % shape.subspaces != 0) {
    std::string choices;
    for (std::size_t m = 1; m <= shape.dim && m <= 256; ++m) {
      if (shape.dim % m == 0) choices += (choices.empty() ? "" : ", ") + std::to_string(m);
    }
    return Error{Errc::invalid_shape, message("dim ", shape.dim, " does not split into ", shape.subspaces,
                                              " subspaces of equal width (at most 256); choose m from ", choices)};
  }
  return {};
}

class Codebook {
 public:
  /// `centroids`: [subspace][width][centroid], finite, in the coordinates of `space` where one is given. `gains` (keys):
  /// [subspace][centroid], finite, or none: what a score gains per squared length of the query's piece (train/mass.hpp).
  /// Errors: invalid_shape, invalid_data.
  [[nodiscard]] static Result<std::shared_ptr<const Codebook>> make(const CodebookShape& shape,
                                                                    const std::vector<float>& centroids,
                                                                    std::shared_ptr<const CodeSpace> space = nullptr,
                                                                    std::vector<float> gains = {}) {
    if (Status status = check(shape); !status) return status.error();
    if (space != nullptr && space->dim() != shape.dim) {
      return Error{Errc::invalid_shape, message("a codebook of dim ", shape.dim, " in a space of dim ", space->dim())};
    }
    if (centroids.size() != shape.dim * shape.centroids) {
      return Error{Errc::invalid_shape, message("a codebook of dim ", shape.dim, " and ", shape.centroids,
                                                " centroids has ", shape.dim * shape.centroids, " floats, not ",
                                                centroids.size())};
    }
    if (!gains.empty() && gains.size() != shape.subspaces * shape.centroids) {
      return Error{Errc::invalid_shape, message(gains.size(), " gains for ", shape.subspaces, " subspaces of ",
                                                shape.centroids, " centroids")};
    }
    for (std::size_t i = 0; i < gains.size(); ++i) {
      if (!std::isfinite(gains[i])) return Error{Errc::invalid_data, message("gain ", i, " of the codebook is not finite")};
    }
    for (std::size_t i = 0; i < centroids.size(); ++i) {
      if (!std::isfinite(centroids[i])) {
        return Error{Errc::invalid_data, message("centroid element ", i, " of the codebook is not finite")};
      }
    }
    return std::shared_ptr<const Codebook>(new Codebook(shape, centroids, std::move(space), std::move(gains)));
  }

  [[nodiscard]] const CodebookShape& shape() const noexcept { return shape_; }
  /// [width][centroid] of one subspace.
  [[nodiscard]] const float* centroids(std::size_t subspace) const noexcept {
    return centroids_.data() + subspace * shape_.width() * shape_.centroids;
  }
  /// ½‖c‖² of each centroid of one subspace: the nearest centroid to x has the least ½‖c‖² − x·c.
  [[nodiscard]] const float* half_norms(std::size_t subspace) const noexcept {
    return half_norms_.data() + subspace * shape_.centroids;
  }
  /// Mass correction: what a score gains per squared length of the query's piece, [centroid] of one subspace; or nullptr.
  [[nodiscard]] const float* gains(std::size_t subspace) const noexcept {
    return gains_.empty() ? nullptr : gains_.data() + subspace * shape_.centroids;
  }
  /// The coordinates of the centroids; nullptr: those of the rows.
  [[nodiscard]] const std::shared_ptr<const CodeSpace>& space() const noexcept { return space_; }
  /// Equal for equal shape and centroids; stored in files to refuse codes of a foreign codebook.
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  /// Bytes of the centroids and gains themselves.
  [[nodiscard]] std::size_t bytes() const noexcept { return (centroids_.size() + gains_.size()) * sizeof(float); }

 private:
  Codebook(const CodebookShape& shape, const std::vector<float>& centroids, std::shared_ptr<const CodeSpace> space,
           std::vector<float> gains)
      : shape_(shape),
        half_norms_(shape.subspaces * shape.centroids),
        space_(std::move(space)),
        gains_(std::move(gains)) {
    if (!centroids_.grow(centroids.size())) __builtin_trap();
    std::memcpy(centroids_.data(), centroids.data(), centroids.size() * sizeof(float));
    const std::size_t count = shape_.centroids;
    for (std::size_t s = 0; s < shape_.subspaces; ++s) {
      for (std::size_t c = 0; c < count; ++c) {
        double norm = 0;
        for (std::size_t d = 0; d < shape_.width(); ++d) {
          const double x = this->centroids(s)[d * count + c];
          norm += x * x;
        }
        half_norms_[s * count + c] = static_cast<float>(norm / 2);
      }
    }
    Fingerprint fingerprint;
    fingerprint.add(shape_.dim);
    fingerprint.add(shape_.subspaces);
    fingerprint.add(shape_.centroids);
    fingerprint.add(centroids);
    fingerprint.add(gains_);
    id_ = fingerprint.value();
  }

  CodebookShape shape_;
  Buffer<float> centroids_;  // aligned: one centroid dimension of 16 is a cache line
  std::vector<float> half_norms_;
  std::shared_ptr<const CodeSpace> space_;
  std::vector<float> gains_;
  std::uint64_t id_ = 0;
};

}  // namespace pqkv::inline PQKV_ABI
