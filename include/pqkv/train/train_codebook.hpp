// train_codebook: sample rows of one head → Codebook. Layer 3a.
// Subspaces are independent, so they are what an executor's workers share: the result never depends on their number.
#pragma once

#include "pqkv/base/executor.hpp"
#include "pqkv/base/progress.hpp"
#include "pqkv/base/result.hpp"
#include "pqkv/base/rows.hpp"
#include "pqkv/codec/codebook.hpp"
#include "pqkv/train/metric.hpp"
#include "pqkv/train/train_options.hpp"

namespace pqkv::inline PQKV_ABI {

namespace detail {

/// What any training asks of rows, however few.
PQKV_COMPILED_ONCE [[nodiscard]] Status check_rows(FloatRows rows, const CodebookShape& shape, const TrainOptions& options);

PQKV_COMPILED_ONCE [[nodiscard]] Status check_training_rows(FloatRows rows, const CodebookShape& shape,
                                                            const TrainOptions& options);

/// train_codebook for any executor, progress and metric.
PQKV_COMPILED_ONCE [[nodiscard]] Result<TrainedCodebook> train_codebook(FloatRows rows, const CodebookShape& shape,
                                                                        const TrainOptions& options, ExecutorRef executor,
                                                                        ProgressRef progress, MetricRef metric);

}  // namespace detail

/// Trains one codebook: k-means per subspace of `rows` [count × shape.dim], under `metric`. Deterministic for options,
/// rows and instruction set, whatever the executor. `progress` is called after each iteration.
/// Errors: invalid_shape, invalid_parameter, invalid_data, too_few_samples, stopped.
template <Executor E = SerialExecutor, Progress P = NoProgress, Metric M = EuclideanMetric>
[[nodiscard]] Result<TrainedCodebook> train_codebook(FloatRows rows, const CodebookShape& shape,
                                                     const TrainOptions& options = {}, E&& executor = E{},
                                                     P&& progress = P{}, const M& metric = M{}) {
  return detail::train_codebook(rows, shape, options, ExecutorRef(executor), ProgressRef(progress), MetricRef(metric));
}

}  // namespace pqkv::inline PQKV_ABI

#if !defined(PQKV_COMPILED)
#include "pqkv/train/train_codebook_bodies.hpp"
#endif
