// Trains a policy's codebooks, replays every head of every text through it, and adds up the figures.
#pragma once

#include <pqkv/measure/bits.hpp>
#include <pqkv/measure/evaluate.hpp>
#include <pqkv/spec.hpp>
#include <pqkv/train.hpp>

#include <algorithm>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/workers.hpp"
#include "kv_report/inputs.hpp"
#include "kv_report/policies.hpp"

namespace kv_report {

/// One row of the report. Worst heads are the least means over a query head's queries (all texts).
struct PolicyResult {
  std::string policy;
  std::string_view group{};  ///< of the default list; empty for policies named by arguments
  double key_bits = 0;    ///< per element of K, with codes, scales, sinks and recent tokens counted
  double value_bits = 0;  ///< per element of V
  std::size_t codebook_bytes = 0;  ///< of all layers and heads, keys and values
  pqkv::Quality mean;
  double cosine_worst = 0;
  double logit_correlation_worst = 0;
  std::size_t tokens = 0;  ///< over all texts
  std::size_t heads = 0;   ///< layers × query heads
};

/// Bits per element over all texts.
[[nodiscard]] inline double mean_bits(const std::vector<Text>& texts, const pqkv::CacheOptions& options,
                                      std::size_t block_bytes, std::size_t run_tokens) {
  double bits = 0, tokens = 0;
  for (const Text& text : texts) {
    const Shape& shape = text.keys.shape;
    bits += static_cast<double>(shape.tokens) *
            pqkv::bits_per_element(shape.tokens, shape.dim, options, block_bytes, run_tokens);
    tokens += static_cast<double>(shape.tokens);
  }
  return bits / tokens;
}

/// The rows of one head in all texts, one behind the other.
[[nodiscard]] inline std::vector<float> gather(const std::vector<Text>& texts, Tensor Text::*side, std::size_t layer,
                                               std::size_t head) {
  std::vector<float> rows;
  for (const Text& text : texts) {
    const Tensor& tensor = text.*side;
    const float* first = tensor.head(layer, head);
    rows.insert(rows.end(), first, first + tensor.shape.tokens * tensor.shape.dim);
  }
  return rows;
}

/// What training and evaluation of all policies share.
struct Training {
  const std::vector<Text>& texts;
  pqkv::Rope rope;  ///< none: formats with runs are refused
  std::uint64_t seed = 1;
};

/// The queries of one kv head in all texts, [token][group][dim]; empty when a text has none.
[[nodiscard]] inline std::vector<float> gather_queries(const std::vector<Text>& texts, std::size_t layer, std::size_t head) {
  std::vector<float> rows;
  for (const Text& text : texts) {
    if (text.queries.data.empty()) return {};
    const auto queries = text.queries_of(layer, head);
    for (std::size_t t = 0; t < queries.tokens; ++t) {
      for (std::size_t q = 0; q < queries.group; ++q) {
        rows.insert(rows.end(), queries.row(t, q), queries.row(t, q) + text.queries.shape.dim);
      }
    }
  }
  return rows;
}

/// A codebook for one head and side where the format asks for one. Positions are token indices within each text.
[[nodiscard]] inline pqkv::Result<std::shared_ptr<const pqkv::Codebook>> train_side(
    const Training& training, Tensor Text::*side, std::size_t layer, std::size_t head,
    const std::optional<pqkv::CodebookRequest>& request) {
  if (!request) return std::shared_ptr<const pqkv::Codebook>();
  const std::size_t dim = request->shape.dim;
  const std::vector<float> rows = gather(training.texts, side, layer, head);
  const std::vector<float> queries = gather_queries(training.texts, layer, head);
  std::vector<std::int64_t> positions;
  for (const Text& text : training.texts) {
    for (std::size_t t = 0; t < text.keys.shape.tokens; ++t) positions.push_back(static_cast<std::int64_t>(t));
  }
  pqkv::FitSamples samples;
  samples.rows = {rows.data(), rows.size() / dim, dim};
  samples.positions = positions;
  const pqkv::FloatRows query_rows(queries.data(), queries.size() / dim, dim);
  const std::size_t group = queries.empty() ? 1 : training.texts.front().group();
  if (side == &Text::keys) {
    samples.queries = query_rows;
    samples.group = group;
    samples.rope = training.rope;
  }
  std::vector<float> importance;
  if (request->fit.importance && !queries.empty()) {
    const std::vector<float> keys = gather(training.texts, &Text::keys, layer, head);
    auto weights = pqkv::attention_importance(query_rows, group, {keys.data(), keys.size() / dim, dim}, positions);
    if (!weights) return weights.error();
    importance = std::move(*weights);
    samples.importance = importance;
  }
  pqkv::TrainOptions options;
  options.seed = training.seed;
  auto trained = pqkv::train_fitted(samples, request->fit, request->shape, options);
  if (!trained) {
    return pqkv::Error{trained.error().code,
                       pqkv::message("layer ", layer, " head ", head, ": ", trained.error().message)};
  }
  return trained->codebook;
}

/// Evaluates one policy on all texts. Heads are shared among the workers; the result does not depend on their number.
[[nodiscard]] inline pqkv::Result<PolicyResult> evaluate_policy(const Policy& policy, const std::vector<Text>& texts,
                                                                const Training& training, const common::Workers& workers,
                                                                common::ProgressBar& progress) {
  const pqkv::CacheSpec& spec = policy.spec;
  const Shape& shape = texts.front().keys.shape;
  const std::size_t group = texts.front().group();
  const auto key_request = pqkv::key_codebook_request(spec.keys, shape.dim);
  if (!key_request) return key_request.error();
  const auto value_request = pqkv::value_codebook_request(spec.values, shape.dim);
  if (!value_request) return value_request.error();

  PolicyResult result;
  result.policy = spec.text;
  result.group = policy.group;
  std::vector<pqkv::Quality> heads(shape.layers * shape.heads * group);
  std::optional<pqkv::Error> failure;
  std::mutex mutex;
  workers.run(shape.layers * shape.heads, [&](std::size_t index, std::size_t /*worker*/) {
    const std::size_t layer = index / shape.heads;
    const std::size_t head = index % shape.heads;
    const auto fail = [&](const pqkv::Error& error) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = error;
    };
    const auto key_codebook = train_side(training, &Text::keys, layer, head, *key_request);
    if (!key_codebook) return fail(key_codebook.error());
    const auto value_codebook = train_side(training, &Text::values, layer, head, *value_request);
    if (!value_codebook) return fail(value_codebook.error());
    const auto keys = pqkv::make_keys(spec.keys, shape.dim, *key_codebook);
    if (!keys) return fail(keys.error());
    const auto values = pqkv::make_values(spec.values, shape.dim, *value_codebook);
    if (!values) return fail(values.error());
    for (const Text& text : texts) {
      const auto qualities = pqkv::evaluate_head(*keys, *values, spec.options, text.queries_of(layer, head),
                                                 text.keys.rows(layer, head), text.values.rows(layer, head));
      if (!qualities) return fail(qualities.error());
      for (std::size_t q = 0; q < group; ++q) heads[index * group + q].merge((*qualities)[q]);
    }
    {
      const std::lock_guard lock(mutex);
      result.codebook_bytes += keys->codebook_bytes() + values->codebook_bytes();
      result.key_bits = mean_bits(texts, spec.options, keys->block_bytes(), keys->run_tokens());
      result.value_bits = mean_bits(texts, spec.options, values->block_bytes(), keys->run_tokens());
    }
    progress.advance(spec.text);
  });
  if (failure) return *failure;

  result.cosine_worst = heads.front().cosine;
  result.logit_correlation_worst = heads.front().logit_correlation;
  for (const pqkv::Quality& head : heads) {
    result.mean.merge(head);
    result.cosine_worst = std::min(result.cosine_worst, head.cosine);
    result.logit_correlation_worst = std::min(result.logit_correlation_worst, head.logit_correlation);
  }
  for (const Text& text : texts) result.tokens += text.keys.shape.tokens;
  result.heads = heads.size();
  return result;
}

}  // namespace kv_report
