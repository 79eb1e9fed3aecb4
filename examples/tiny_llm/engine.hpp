// The whole engine loop: tokens → logits, with the KV cache and all of attention in pqkv. The reference integration.
//
// What an engine does for pqkv: make one cache per sequence (make_any_cache), rotate queries and keys (RoPE) as its model
// wants, and call extend_layer for a chunk of prompt or, for one token, append_layer and attend_layer (attend_layer_and_collect
// where a format may want to know which tokens matter). Nothing else.
#pragma once

#include <pqkv/spec.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "tiny_llm/model.hpp"

namespace tiny_llm {

/// One sequence: its cache, its position, and scratch memory for each worker.
struct Sequence {
  pqkv::AnyCache cache;
  pqkv::Workspaces<pqkv::AnyKeys, pqkv::AnyValues> workspaces;
  std::size_t position = 0;
};

[[nodiscard]] inline pqkv::CacheShape cache_shape(const Model& model) {
  return {model.layers_count, model.kv_heads, model.dim};
}

/// An empty sequence with room for the model's whole context.
[[nodiscard]] inline pqkv::Result<Sequence> make_sequence(const Model& model, const std::vector<pqkv::CacheSpec>& specs,
                                                          const pqkv::CodebookSource& codebooks, std::size_t workers = 1,
                                                          std::size_t max_tokens = pqkv::unlimited_tokens) {
  auto cache = pqkv::make_any_cache(cache_shape(model), specs, codebooks, max_tokens);
  if (!cache) return cache.error();
  if (pqkv::Status status = cache->reserve(std::min(model.context, max_tokens)); !status) return status.error();
  auto workspaces = pqkv::make_workspaces(*cache, model.group(), workers);
  return Sequence{std::move(*cache), std::move(workspaces), 0};
}

/// Sees the queries [tokens][heads·dim], keys and values [tokens][kv_heads·dim] of a layer, after RoPE.
using Observer = std::function<void(std::size_t layer, const Matrix& queries, const Matrix& keys, const Matrix& values)>;

/// Cosine and sine of every pair of a head, [tokens][pairs], for positions from `position` on.
struct Angles {
  Matrix cosines, sines;

  Angles(const std::vector<float>& frequencies, std::size_t position, std::size_t tokens)
      : cosines(static_cast<Eigen::Index>(tokens), static_cast<Eigen::Index>(frequencies.size())),
        sines(cosines.rows(), cosines.cols()) {
    for (Eigen::Index t = 0; t < cosines.rows(); ++t) {
      for (Eigen::Index i = 0; i < cosines.cols(); ++i) {
        const double angle = static_cast<double>(frequencies[static_cast<std::size_t>(i)]) *
                             static_cast<double>(position + static_cast<std::size_t>(t));
        cosines(t, i) = static_cast<float>(std::cos(angle));
        sines(t, i) = static_cast<float>(std::sin(angle));
      }
    }
  }
};

/// Turns adjacent pairs of each head of each row.
inline void rope(Matrix& rows, std::size_t dim, const Angles& angles) {
  for (Eigen::Index t = 0; t < rows.rows(); ++t) {
    for (Eigen::Index first = 0; first < rows.cols(); first += static_cast<Eigen::Index>(dim)) {
      for (Eigen::Index i = 0; i < angles.cosines.cols(); ++i) {
        float* pair = &rows(t, first + 2 * i);
        const float a = pair[0];
        const float b = pair[1];
        pair[0] = a * angles.cosines(t, i) - b * angles.sines(t, i);
        pair[1] = a * angles.sines(t, i) + b * angles.cosines(t, i);
      }
    }
  }
}

/// rows · weightsᵀ, by the kernel that scores exact keys: it uses what the machine has without any -m flag. A few rows at a
/// time stay in the first-level cache while the weights pass by.
[[nodiscard]] inline Matrix through(const Matrix& weights, const Matrix& rows) {
  constexpr Eigen::Index batch = 16;
  Matrix out(rows.rows(), weights.rows());
  for (Eigen::Index first = 0; first < rows.rows(); first += batch) {
    pqkv::isa::best().dot_f32(weights.data(), static_cast<std::size_t>(weights.rows()), static_cast<std::size_t>(weights.cols()),
                              rows.data() + first * rows.cols(), static_cast<std::size_t>(std::min(batch, rows.rows() - first)),
                              out.data() + first * out.cols(), static_cast<std::size_t>(out.cols()));
  }
  return out;
}

inline Matrix normalised(const Matrix& rows, const Vector& weight, float epsilon) {
  Matrix out = rows;
  for (Eigen::Index t = 0; t < rows.rows(); ++t) {
    const float scale = 1.0f / std::sqrt(rows.row(t).squaredNorm() / static_cast<float>(rows.cols()) + epsilon);
    out.row(t) = rows.row(t).cwiseProduct(weight.transpose()) * scale;
  }
  return out;
}

[[nodiscard]] inline pqkv::FloatRows view(const Matrix& rows) {
  return {rows.data(), static_cast<std::size_t>(rows.rows()), static_cast<std::size_t>(rows.cols())};
}

/// Runs `tokens` behind what the sequence holds: one token as a decoding step, several as a chunk of prompt. Returns the
/// logits of the last token, or of all. Errors: token ids and positions out of range, and those of the cache; nothing is
/// appended then.
template <class Executor = pqkv::SerialExecutor>
[[nodiscard]] pqkv::Result<Matrix> forward(const Model& model, Sequence& sequence, std::span<const std::uint32_t> tokens,
                                           bool all_logits = false, const pqkv::AttendOptions& options = {},
                                           const Observer& observe = {}, const Executor& executor = {}) {
  if (tokens.empty() || sequence.position + tokens.size() > model.context) {
    return pqkv::Error{pqkv::Errc::invalid_parameter,
                       pqkv::message(tokens.size(), " tokens at position ", sequence.position, " of a model with a context of ",
                                     model.context)};
  }
  Matrix x(static_cast<Eigen::Index>(tokens.size()), static_cast<Eigen::Index>(model.width));
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    if (tokens[t] >= model.vocabulary) {
      return pqkv::Error{pqkv::Errc::invalid_parameter, pqkv::message("token id ", tokens[t], " at place ", t,
                                                                      ", but the vocabulary has ", model.vocabulary)};
    }
    x.row(static_cast<Eigen::Index>(t)) = model.embedding.row(static_cast<Eigen::Index>(tokens[t]));
  }
  const std::size_t width = model.heads * model.dim;
  const Angles angles(model.frequencies, sequence.position, tokens.size());
  Matrix attended(x.rows(), static_cast<Eigen::Index>(width));
  for (std::size_t l = 0; l < model.layers_count; ++l) {
    const Layer& layer = model.layers[l];
    const Matrix input = normalised(x, layer.attention_norm, model.norm_epsilon);
    Matrix queries = through(layer.query, input);
    Matrix keys = through(layer.key, input);
    const Matrix values = through(layer.value, input);
    rope(queries, model.dim, angles);
    rope(keys, model.dim, angles);
    if (observe) observe(l, queries, keys, values);

    if (tokens.size() == 1) {  // a decoding step: append, then attend to everything
      if (pqkv::Status status = sequence.cache.append_layer(l, view(keys), view(values)); !status) return status.error();
      pqkv::attend_layer_and_collect(sequence.cache, l, {queries.data(), model.heads, model.dim}, attended.data(), model.dim,
                                     sequence.workspaces, options, executor);
    } else {                   // a chunk of prompt: causal and exact inside, compressed past
      if (pqkv::Status status = pqkv::extend_layer(sequence.cache, l, view(queries), view(keys), view(values),
                                                   attended.data(), width, sequence.workspaces, options, executor);
          !status) {
        return status.error();
      }
    }
    x += through(layer.output, attended);

    const Matrix hidden = normalised(x, layer.feed_forward_norm, model.norm_epsilon);
    const Matrix gate = through(layer.gate, hidden);
    const Matrix up = through(layer.up, hidden);
    const Matrix active = (gate.array() / (1.0f + (-gate.array()).exp()) * up.array()).matrix();
    x += through(layer.down, active);
  }
  sequence.position += tokens.size();
  const Matrix last = normalised(all_logits ? x : Matrix(x.bottomRows(1)), model.output_norm, model.norm_epsilon);
  return through(model.head(), last);
}

}  // namespace tiny_llm
