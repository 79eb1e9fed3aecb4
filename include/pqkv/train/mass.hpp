// Mass correction: what a cloud of keys gains in softmax over its centroid. Layer 3a.
// A centroid c stands for keys c + e, and E[exp(q·(c + e))] exceeds exp(q·c), q the scaled query: to second order by the factor
// exp(½·qᵀΣq), Σ the spread of the cloud. Without it compressed tokens lose weight against exact ones, and wide
// clouds against narrow ones. In the queries' metric Σ is taken to be a multiple of the identity, so that the correction of
// a table entry is one number per centroid times the squared length of the query's piece: nothing at scan time.
// Where clouds are far from Gaussian it overshoots; hence a factor, fitted on calibration texts, 0 turning it off.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "pqkv/codec/codebook.hpp"
#include "pqkv/train/codes.hpp"
#include "pqkv/train/fit_samples.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// ½·(variance per element of the rows about each centroid), [subspaces][centroids]. The variance of a centroid with
/// few rows leans on its subspace's.
[[nodiscard]] inline std::vector<float> mass_gains(const RowMatrix& rows, const Codebook& codebook,
                                                  const std::vector<std::uint8_t>& codes) {
  constexpr double prior_rows = 8;
  const CodebookShape& shape = codebook.shape();
  const auto count = static_cast<std::size_t>(rows.rows());
  std::vector<float> gains(shape.subspaces * shape.centroids);
  for (std::size_t s = 0; s < shape.subspaces; ++s) {
    std::vector<double> squares(shape.centroids), counts(shape.centroids);
    double all = 0;
    for (std::size_t r = 0; r < count; ++r) {
      const std::size_t code = codes[s * count + r];
      const float* row = rows.data() + r * shape.dim + s * shape.width();
      double square = 0;
      for (std::size_t d = 0; d < shape.width(); ++d) {
        const double error = static_cast<double>(row[d] - codebook.centroids(s)[d * shape.centroids + code]);
        square += error * error;
      }
      squares[code] += square;
      counts[code] += 1;
      all += square;
    }
    const double prior = prior_rows * all / static_cast<double>(count);
    for (std::size_t c = 0; c < shape.centroids; ++c) {
      const double variance = (squares[c] + prior) / (counts[c] + prior_rows) / static_cast<double>(shape.width());
      gains[s * shape.centroids + c] = static_cast<float>(0.5 * variance);
    }
  }
  return gains;
}

/// Whole texts among the samples: [first, end) of rows at positions 0, 1, 2, … long enough to judge attention on.
[[nodiscard]] inline std::vector<std::pair<std::size_t, std::size_t>> whole_texts(std::span<const std::int64_t> positions) {
  constexpr std::size_t least = 256;
  std::vector<std::pair<std::size_t, std::size_t>> texts;
  for (std::size_t begin = 0; begin < positions.size();) {
    std::size_t end = begin + 1;
    while (end < positions.size() && positions[end] == positions[end - 1] + 1) ++end;
    if (positions[begin] == 0 && end - begin >= least) texts.emplace_back(begin, end);
    begin = end;
  }
  return texts;
}

}  // namespace detail

/// The factor in 0, ¼ … 1 on `gains` (for factor 1) whose attention weights diverge least from the exact ones on the last
/// whole texts among the samples, with everything compressed and with 4 sinks and 32 recent tokens exact, both counting
/// alike. 0 when there is no text to judge on, or these texts are more than a quarter of the samples: their rows then made
/// the centroids that they would judge. `codes`: of the samples (nearest_codes).
[[nodiscard]] inline float fit_mass_factor(const FitSamples& samples, const Codebook& codebook,
                                           const std::vector<std::uint8_t>& codes, const std::vector<float>& gains) {
  constexpr std::size_t texts_used = 3, query_step = 8, sinks = 4, recent = 32;
  constexpr std::array<float, 5> factors = {0.0f, 0.25f, 0.5f, 0.75f, 1.0f};
  auto texts = detail::whole_texts(samples.positions);
  if (samples.queries.count == 0 || texts.empty()) return 0;
  if (texts.size() > texts_used) texts.erase(texts.begin(), texts.end() - texts_used);
  std::size_t judged = 0;
  for (const auto& [begin, end] : texts) judged += end - begin;
  if (4 * judged > samples.rows.count) return 0;
  const CodebookShape& shape = codebook.shape();
  const CodeSpace* space = codebook.space().get();
  const std::size_t run = space != nullptr && space->turns() ? space->parts().run_tokens : unlimited_tokens;
  const auto dim = static_cast<Eigen::Index>(shape.dim);
  const RowMatrix coded = decoded_rows(codes, codebook);
  std::array<double, factors.size()> divergence{};
  for (const auto& [begin, end] : texts) {
    const std::size_t count = end - begin;
    RowMatrix decoded(static_cast<Eigen::Index>(count), dim);
    for (std::size_t t = 0; t < count; ++t) {
      const float* x = coded.data() + (begin + t) * shape.dim;
      float* row = decoded.data() + t * shape.dim;
      if (space == nullptr) {
        std::copy_n(x, shape.dim, row);
      } else {
        const std::size_t origin = run == unlimited_tokens ? 0 : t / run * run;
        space->row_out(x, {static_cast<std::int64_t>(origin), t - origin}, 0, row);
      }
    }
    std::vector<float> exact(count), coarse(count), gain(count), query(shape.dim), turned(shape.dim), spaced(shape.dim);
    for (std::size_t token = query_step - 1; token < count; token += query_step) {
      for (std::size_t q = 0; q < samples.group; ++q) {
        const float* raw = samples.queries.row((begin + token) * samples.group + q);
        for (std::size_t d = 0; d < shape.dim; ++d) query[d] = samples.scale_of() * raw[d];
        const std::size_t seen = token + 1;
        isa::best().dot_f32(samples.rows.row(begin), seen, shape.dim, query.data(), 1, exact.data(), seen);
        isa::best().dot_f32(decoded.data(), seen, shape.dim, query.data(), 1, coarse.data(), seen);
        std::vector<float> squares(shape.subspaces);
        for (std::size_t t = 0; t < seen; ++t) {
          if (t == 0 || (run != unlimited_tokens && t % run == 0)) {
            spaced = query;
            if (space != nullptr) {
              turned = query;
              if (space->turns()) space->parts().rope.turn(-static_cast<double>(t), turned.data());
              spaced.resize(space->query_width());
              space->queries_in(turned.data(), 1, spaced.data());
            }
            for (std::size_t s = 0; s < shape.subspaces; ++s) {
              squares[s] = 0;
              for (std::size_t d = s * shape.width(); d < (s + 1) * shape.width(); ++d) squares[s] += spaced[d] * spaced[d];
            }
          }
          gain[t] = 0;
          for (std::size_t s = 0; s < shape.subspaces; ++s) {
            gain[t] += squares[s] * gains[s * shape.centroids + codes[s * samples.rows.count + begin + t]];
          }
        }
        // KL(p ‖ p̂) = Σ p·(x − x̂) − log Σ exp x + log Σ exp x̂, in double.
        const auto most = static_cast<double>(*std::max_element(exact.begin(), exact.begin() + static_cast<std::ptrdiff_t>(seen)));
        double all = 0;
        for (std::size_t t = 0; t < seen; ++t) all += std::exp(static_cast<double>(exact[t]) - most);
        for (std::size_t f = 0; f < factors.size(); ++f) {
          for (const bool kept : {false, true}) {
            double shift = 0, sum = 0;
            for (std::size_t t = 0; t < seen; ++t) {
              const bool is_exact = kept && (t < sinks || t + recent > token);
              const double logit = static_cast<double>(exact[t]) - most;
              const double mine = is_exact ? logit : static_cast<double>(coarse[t] + factors[f] * gain[t]) - most;
              shift += std::exp(logit) / all * (logit - mine);
              sum += std::exp(mine);
            }
            divergence[f] += shift - std::log(all) + std::log(sum);
          }
        }
      }
    }
  }
  return factors[static_cast<std::size_t>(std::min_element(divergence.begin(), divergence.end()) - divergence.begin())];
}

}  // namespace pqkv::inline PQKV_ABI
