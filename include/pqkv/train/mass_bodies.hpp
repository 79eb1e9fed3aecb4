// Bodies of train/mass.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "pqkv/isa/select.hpp"
#include "pqkv/train/codes.hpp"
#include "pqkv/train/mass.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

PQKV_COMPILED_ONCE [[nodiscard]] std::vector<float> mass_gains(const RowMatrix& rows, const Codebook& codebook,
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
PQKV_WHEN_CALLED [[nodiscard]] std::vector<std::pair<std::size_t, std::size_t>> whole_texts(std::span<const std::int64_t> positions) {
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

PQKV_COMPILED_ONCE [[nodiscard]] float fit_mass_factor(const FitSamples& samples, const Codebook& codebook,
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
