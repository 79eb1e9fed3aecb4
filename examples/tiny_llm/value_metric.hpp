// How the model feels an error of a value: the metric that value codebooks are trained in.
#pragma once

#include "tiny_llm/model.hpp"

namespace tiny_llm {

/// What reads the stream of activations behind a layer's attention: the feed-forward matrices of this layer and all
/// projections of later ones, the vocabulary, and the stream itself, each alike. [width][width]. A stand-in, from the
/// weights alone, for the curvature of the loss there.
[[nodiscard]] inline Eigen::MatrixXf stream_metric(const Model& model, std::size_t layer) {
  const auto width = static_cast<Eigen::Index>(model.width);
  Eigen::MatrixXf sum = Eigen::MatrixXf::Zero(width, width);
  const auto add = [&](const Matrix& reader, const Vector& norm) {
    const Matrix scaled = reader * norm.asDiagonal();
    const Eigen::MatrixXf product = scaled.transpose() * scaled;
    const float trace = product.trace();
    if (trace > 0) sum += product * (static_cast<float>(width) / trace);
  };
  for (std::size_t l = layer; l < model.layers_count; ++l) {
    const Layer& at = model.layers[l];
    for (const Matrix* reader : {&at.gate, &at.up}) add(*reader, at.feed_forward_norm);
    if (l == layer) continue;
    for (const Matrix* reader : {&at.query, &at.key, &at.value}) add(*reader, at.attention_norm);
  }
  const Matrix& head = model.head();
  add(head.rowwise() - head.colwise().mean(), model.output_norm);  // softmax does not feel what all tokens share
  sum.diagonal().array() += sum.trace() / static_cast<float>(width);
  return sum;
}

/// Σ W_hᵀ·S·W_h over the query heads of a kv head's group, W_h their part of the output projection. [dim][dim]
[[nodiscard]] inline pqkv::RowMatrix value_metric(const Model& model, std::size_t layer, std::size_t head) {
  const auto dim = static_cast<Eigen::Index>(model.dim);
  const Eigen::MatrixXf stream = stream_metric(model, layer);
  pqkv::RowMatrix metric = pqkv::RowMatrix::Zero(dim, dim);
  for (std::size_t q = head * model.group(); q < (head + 1) * model.group(); ++q) {
    const Eigen::MatrixXf part = model.layers[layer].output.middleCols(static_cast<Eigen::Index>(q) * dim, dim);
    metric += part.transpose() * stream * part;
  }
  return metric;
}

}  // namespace tiny_llm
