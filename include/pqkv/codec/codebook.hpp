// Codebook: the trained centroids of a product quantiser. Layer 2. Immutable, shared between heads, threads and forks.
//
// Product quantisation (Jégou, Douze, Schmid: Product Quantization for Nearest Neighbor Search, 2011) cuts a row of
// `dim` elements into `subspaces` pieces of `width` elements and keeps, per piece, the index of its nearest centroid.
// With several `stages` a piece is the sum of one centroid of each (additive quantisation: Babenko, Lempitsky, Additive
// Quantization for Extreme Vector Compression, 2014); tables and sums add up as those of more subspaces would.
//
// Centroids lie dimension-major per code, [subspace][stage][width][centroid], because every use streams over centroids:
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

/// dim = subspaces · width; 16, 64 or 256 centroids per code, `stages` codes per subspace; or, where subspaces are single
/// channels, 4 or 8 levels each; or no centroids at all, where a format wants nothing but the space in front (of_space).
struct CodebookShape {
  std::size_t dim = 0;
  std::size_t subspaces = 0;
  std::size_t centroids = 0;
  std::size_t stages = 1;

  /// Of a codebook that is nothing but a CodeSpace, for formats without centroids.
  [[nodiscard]] static constexpr CodebookShape of_space(std::size_t dim) noexcept { return {dim, 1, 0, 1}; }
  [[nodiscard]] constexpr bool is_space() const noexcept { return centroids == 0 && subspaces == 1 && stages == 1; }

  static constexpr std::size_t max_stages = 4, max_codes = 256, max_staged_width = 256;

  [[nodiscard]] std::size_t width() const noexcept { return dim / subspaces; }
  /// Codes per row, [subspace][stage].
  [[nodiscard]] std::size_t codes() const noexcept { return subspaces * stages; }
  /// Of all centroids together.
  [[nodiscard]] std::size_t floats() const noexcept { return dim * stages * centroids; }
  /// Where the piece of a code begins in a row.
  [[nodiscard]] std::size_t first(std::size_t code) const noexcept { return code / stages * width(); }
  [[nodiscard]] bool operator==(const CodebookShape&) const noexcept = default;
};

/// Ok, or why no codebook of that shape can exist and what to choose instead.
[[nodiscard]] inline Status check(const CodebookShape& shape) {
  if (shape.dim == 0 || shape.dim > 4096) {
    return Error{Errc::invalid_shape, message("dim ", shape.dim, " is not in 1..4096")};
  }
  if (shape.is_space()) return {};
  const bool levels = shape.subspaces == shape.dim && shape.stages == 1 && (shape.centroids == 4 || shape.centroids == 8);
  if (!levels && shape.centroids != 16 && shape.centroids != 64 && shape.centroids != 256) {
    return Error{Errc::invalid_shape, message(shape.centroids, " centroids per code; choose 16, 64 or 256")};
  }
  if (shape.stages == 0 || shape.stages > CodebookShape::max_stages) {
    return Error{Errc::invalid_shape, message(shape.stages, " stages; choose 1 to ", std::size_t{CodebookShape::max_stages})};
  }
  if (shape.subspaces == 0 || shape.subspaces > 256 || shape.dim % shape.subspaces != 0) {
    std::string choices;
    for (std::size_t m = 1; m <= shape.dim && m <= 256; ++m) {
      if (shape.dim % m == 0) choices += (choices.empty() ? "" : ", ") + std::to_string(m);
    }
    return Error{Errc::invalid_shape, message("dim ", shape.dim, " does not split into ", shape.subspaces,
                                              " subspaces of equal width (at most 256); choose m from ", choices)};
  }
  if (shape.stages > 1 && (shape.codes() > CodebookShape::max_codes || shape.width() > CodebookShape::max_staged_width)) {
    return Error{Errc::invalid_shape, message(shape.subspaces, " subspaces of ", shape.stages, " stages: at most ",
                                              std::size_t{CodebookShape::max_codes}, " codes per row, in subspaces of at most ",
                                              std::size_t{CodebookShape::max_staged_width}, " elements")};
  }
  return {};
}

class Codebook {
 public:
  /// `centroids`: [code][width][centroid], finite, in the coordinates of `space` where one is given (there must be one where
  /// there are no centroids). `gains` (keys): [code][centroid], finite, or none: what a score gains per squared length of
  /// the query's piece (train/mass.hpp). Errors: invalid_shape, invalid_data.
  [[nodiscard]] static Result<std::shared_ptr<const Codebook>> make(const CodebookShape& shape,
                                                                    const std::vector<float>& centroids,
                                                                    std::shared_ptr<const CodeSpace> space = nullptr,
                                                                    std::vector<float> gains = {}) {
    if (Status status = check(shape); !status) return status.error();
    if (space != nullptr && space->dim() != shape.dim) {
      return Error{Errc::invalid_shape, message("a codebook of dim ", shape.dim, " in a space of dim ", space->dim())};
    }
    if (shape.is_space() && space == nullptr) {
      return Error{Errc::invalid_shape, message("a codebook of dim ", shape.dim, " with neither centroids nor a space")};
    }
    if (centroids.size() != shape.floats()) {
      return Error{Errc::invalid_shape, message("a codebook of dim ", shape.dim, " with ", shape.stages, " stages of ",
                                                shape.centroids, " centroids has ", shape.floats(), " floats, not ",
                                                centroids.size())};
    }
    if (!gains.empty() && gains.size() != shape.codes() * shape.centroids) {
      return Error{Errc::invalid_shape, message(gains.size(), " gains for ", shape.codes(), " codes of ",
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
  /// [width][centroid] of one code.
  [[nodiscard]] const float* centroids(std::size_t code) const noexcept {
    return centroids_.data() + code * shape_.width() * shape_.centroids;
  }
  /// ½‖c‖² of each centroid of one code: the nearest centroid to x has the least ½‖c‖² − x·c.
  [[nodiscard]] const float* half_norms(std::size_t code) const noexcept {
    return half_norms_.data() + code * shape_.centroids;
  }
  /// Mass correction: what a score gains per squared length of the query's piece, [centroid] of one code; or nullptr.
  [[nodiscard]] const float* gains(std::size_t code) const noexcept {
    return gains_.empty() ? nullptr : gains_.data() + code * shape_.centroids;
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
        half_norms_(shape.codes() * shape.centroids),
        space_(std::move(space)),
        gains_(std::move(gains)) {
    if (!centroids_.grow(centroids.size())) __builtin_trap();
    if (!centroids.empty()) std::memcpy(centroids_.data(), centroids.data(), centroids.size() * sizeof(float));
    const std::size_t count = shape_.centroids;
    for (std::size_t s = 0; s < shape_.codes(); ++s) {
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
    fingerprint.add(shape_.stages);
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
