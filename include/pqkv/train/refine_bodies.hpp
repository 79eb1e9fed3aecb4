// Bodies of train/refine.hpp.
#pragma once

#include <utility>

#include "pqkv/codec/nearest_sums.hpp"
#include "pqkv/train/refine.hpp"
#include "pqkv/train/rotation.hpp"

namespace pqkv::inline PQKV_ABI {

PQKV_COMPILED_ONCE [[nodiscard]] Result<std::shared_ptr<const Codebook>> refine_codebook(const Codebook& start, const FitSamples& samples,
                                                                                         const RefineOptions& options) {
  const CodebookShape& shape = start.shape();
  TrainOptions checked;
  checked.iterations = options.iterations;
  checked.weights = samples.importance;
  const CodeSpace* space = start.space().get();
  if (!(options.prior_rows >= 0)) return Error{Errc::invalid_parameter, message(options.prior_rows, " prior rows")};
  if (Status status = detail::check_rows(samples.rows, shape, checked); !status) return status.error();
  if (space != nullptr && space->turns() && samples.positions.size() != samples.rows.count) {
    return Error{Errc::invalid_parameter, message(samples.positions.size(), " positions for ", samples.rows.count, " rows")};
  }
  CodeSpaceParts plain;
  plain.dim = shape.dim;
  RowMatrix rows = detail::turned_rows(samples, space != nullptr ? space->parts() : plain);
  if (space != nullptr && !space->parts().forward.empty()) {
    const auto dim = static_cast<Eigen::Index>(shape.dim);
    rows = rows_through(Eigen::Map<const RowMatrix>(space->parts().forward.data(), dim, dim), rows);
  }
  const auto count = samples.rows.count;
  std::vector<float> weights(samples.importance.begin(), samples.importance.end());
  if (space != nullptr && space->parts().unit_length) detail::to_unit_length(rows, weights);
  double mass = 0;
  for (const float weight : weights) mass += static_cast<double>(weight);
  const auto weight = [&](std::size_t r) {  // 1 on average
    return weights.empty() || mass <= 0 ? 1.0 : static_cast<double>(weights[r]) * static_cast<double>(count) / mass;
  };

  const float* first = start.centroids(0);
  const std::vector<float> anchor(first, first + shape.floats());
  const std::vector<float> gains = start.gains(0) == nullptr
                                       ? std::vector<float>{}
                                       : std::vector<float>(start.gains(0), start.gains(0) + shape.codes() * shape.centroids);
  std::vector<float> centroids = anchor;
  Result<std::shared_ptr<const Codebook>> book = Codebook::make(shape, centroids, start.space(), gains);
  std::vector<std::uint8_t> codes(shape.stages * count);
  const std::size_t iterations = shape.is_space() ? 0 : options.iterations;
  for (std::size_t iteration = 0; book && iteration < iterations; ++iteration) {
    for (std::size_t subspace = 0; subspace < shape.subspaces; ++subspace) {
      const std::size_t code = subspace * shape.stages;
      nearest_sums(CentroidStages(**book, code), rows.data() + shape.first(code), count, shape.dim, codes.data(), count);
      const auto place = [&](std::size_t stage, std::size_t d, std::size_t centroid) {
        return ((code + stage) * shape.width() + d) * shape.centroids + centroid;
      };
      for (std::size_t stage = 0; stage < shape.stages; ++stage) {
        std::vector<double> sums(shape.width() * shape.centroids), masses(shape.centroids);
        for (std::size_t r = 0; r < count; ++r) {
          const std::size_t mine = codes[stage * count + r];
          masses[mine] += weight(r);
          for (std::size_t d = 0; d < shape.width(); ++d) {
            double left = static_cast<double>(rows.data()[r * shape.dim + shape.first(code) + d]);
            for (std::size_t other = 0; other < shape.stages; ++other) {
              if (other != stage) left -= static_cast<double>(centroids[place(other, d, codes[other * count + r])]);
            }
            sums[d * shape.centroids + mine] += weight(r) * left;
          }
        }
        for (std::size_t c = 0; c < shape.centroids; ++c) {
          if (masses[c] + options.prior_rows <= 0) continue;
          for (std::size_t d = 0; d < shape.width(); ++d) {
            const double held = options.prior_rows * static_cast<double>(anchor[place(stage, d, c)]);
            centroids[place(stage, d, c)] =
                static_cast<float>((held + sums[d * shape.centroids + c]) / (masses[c] + options.prior_rows));
          }
        }
      }
    }
    book = Codebook::make(shape, centroids, start.space(), gains);
  }
  return book;
}

}  // namespace pqkv::inline PQKV_ABI
