// Bodies of train/fit_samples.hpp: what fitting demands of samples.
#pragma once

#include "pqkv/train/fit_samples.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

PQKV_COMPILED_ONCE [[nodiscard]] Status check_fit(const FitSamples& samples, const FitOptions& options, std::size_t dim) {
  const auto bad = [](const auto&... parts) { return Error{Errc::invalid_parameter, message(parts...)}; };
  if (options.run_tokens != 0) {
    if (samples.rope.pairs() == 0) return bad("runs of ", options.run_tokens, " tokens need the model's RoPE, and none was given");
    if (2 * samples.rope.pairs() > dim) return bad("RoPE turns ", 2 * samples.rope.pairs(), " of ", dim, " elements");
    if (samples.positions.size() != samples.rows.count) {
      return bad(samples.positions.size(), " positions for ", samples.rows.count, " rows");
    }
    for (std::size_t r = 0; r < samples.rows.count; ++r) {
      if (samples.positions[r] < 0) return bad("row ", r, " is at position ", samples.positions[r]);
    }
    if (options.run_tokens > longest_run) {
      return bad("runs of ", options.run_tokens, " tokens; choose at most ", longest_run, ", or 0 for rows as they come");
    }
  }
  if (options.importance && samples.importance.size() != samples.rows.count) {
    return bad(samples.importance.size(), " weights of importance for ", samples.rows.count, " rows");
  }
  if (options.mass && (samples.queries.count == 0 || samples.positions.size() != samples.rows.count)) {
    return bad("a mass correction needs calibration queries and positions, and got ", samples.queries.count, " and ",
               samples.positions.size(), " for ", samples.rows.count, " rows");
  }
  const bool reads_queries = options.mass || (options.metric && samples.value_metric.size() == 0);
  const RowMatrix& given = samples.value_metric;
  if (options.metric && given.size() != 0 && (given.rows() != static_cast<Eigen::Index>(dim) || given.cols() != given.rows())) {
    return bad("a metric of ", given.rows(), " × ", given.cols(), " for rows of ", dim, " elements");
  }
  if (!reads_queries) return {};
  if (samples.queries.count == 0) {
    return bad("a metric needs calibration queries (keys) or the output projection (values)");
  }
  // A query's position is that of its row.
  const bool counts = samples.positions.empty() || samples.queries.count == samples.rows.count * samples.group;
  if (samples.queries.dim != dim || !counts) {
    return bad(samples.queries.count, " queries of ", samples.queries.dim, " elements for ", samples.rows.count, " rows of ", dim,
               " in groups of ", samples.group);
  }
  return {};
}

}  // namespace detail

}  // namespace pqkv::inline PQKV_ABI
