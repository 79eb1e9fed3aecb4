// The rows that kv_report reads: .npy files checked against each other.
#pragma once

#include <pqkv/attend.hpp>
#include <pqkv/io/npy.hpp>

#include <cmath>
#include <string>
#include <vector>

#include "kv_report/options.hpp"

namespace kv_report {

/// [layers, heads, tokens, dim]
struct Shape {
  std::size_t layers = 0;
  std::size_t heads = 0;
  std::size_t tokens = 0;
  std::size_t dim = 0;
};

[[nodiscard]] inline std::string text_of(const Shape& shape) {
  return pqkv::message("[", shape.layers, ", ", shape.heads, ", ", shape.tokens, ", ", shape.dim, "]");
}

struct Tensor {
  Shape shape;
  std::vector<float> data;

  [[nodiscard]] const float* head(std::size_t layer, std::size_t head) const noexcept {
    return data.data() + (layer * shape.heads + head) * shape.tokens * shape.dim;
  }
  [[nodiscard]] pqkv::FloatRows rows(std::size_t layer, std::size_t head_index) const noexcept {
    return {head(layer, head_index), shape.tokens, shape.dim};
  }
};

/// One text: queries (empty where calibration has none), keys and values.
struct Text {
  Tensor queries;
  Tensor keys;
  Tensor values;

  [[nodiscard]] std::size_t group() const noexcept { return queries.shape.heads / keys.shape.heads; }
  /// The queries that share kv head `head`.
  [[nodiscard]] pqkv::ChunkRows<const float> queries_of(std::size_t layer, std::size_t head) const noexcept {
    const Shape& shape = queries.shape;
    return {queries.head(layer, head * group()), shape.tokens, group(), shape.dim, shape.tokens * shape.dim};
  }
};

[[nodiscard]] inline pqkv::Result<Tensor> load_tensor(const std::string& path) {
  auto array = pqkv::read_npy(path);
  if (!array) return array.error();
  const auto bad = [&path](const auto&... parts) {
    return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(path, ": ", parts...)};
  };
  const std::vector<std::size_t>& shape = array->shape;
  if (shape.size() != 4) return bad("has ", shape.size(), " dimensions; need [layers, heads, tokens, dim]");
  for (const std::size_t size : shape) {
    if (size == 0) return bad("is empty: ", text_of({shape[0], shape[1], shape[2], shape[3]}));
  }
  for (std::size_t i = 0; i < array->data.size(); ++i) {
    if (std::isfinite(array->data[i])) continue;
    const std::size_t row = i / shape[3];
    return bad(std::isnan(array->data[i]) ? "NaN" : "an infinite number", " at layer ", row / shape[2] / shape[1],
               ", head ", row / shape[2] % shape[1], ", token ", row % shape[2], ", element ", i % shape[3]);
  }
  return Tensor{{shape[0], shape[1], shape[2], shape[3]}, std::move(array->data)};
}

/// Loads one text and checks that its three files belong together.
[[nodiscard]] inline pqkv::Result<Text> load_text(const TextFiles& files) {
  Text text;
  for (const auto& [path, tensor] : {std::pair{&files.queries, &text.queries}, {&files.keys, &text.keys},
                                     {&files.values, &text.values}}) {
    if (path->empty()) continue;
    auto loaded = load_tensor(*path);
    if (!loaded) return loaded.error();
    *tensor = std::move(*loaded);
  }
  const auto mismatch = [](const auto&... parts) {
    return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(parts...)};
  };
  const Shape& keys = text.keys.shape;
  const Shape& values = text.values.shape;
  const Shape& queries = text.queries.shape;
  if (keys.layers != values.layers || keys.heads != values.heads || keys.tokens != values.tokens || keys.dim != values.dim) {
    return mismatch(files.values, ": shape ", text_of(values), " does not match the keys' ", text_of(keys), " in ", files.keys);
  }
  if (files.queries.empty()) return text;
  if (queries.layers != keys.layers || queries.tokens != keys.tokens || queries.dim != keys.dim) {
    return mismatch(files.queries, ": shape ", text_of(queries), " does not match the keys' ", text_of(keys), " in ",
                    files.keys, " (only the heads may differ)");
  }
  if (queries.heads % keys.heads != 0 || queries.heads / keys.heads > pqkv::max_group) {
    return mismatch(files.queries, ": ", queries.heads, " query heads are not 1 to 16 times the ", keys.heads, " kv heads of ",
                    files.keys);
  }
  return text;
}

/// Loads several texts of one model.
[[nodiscard]] inline pqkv::Result<std::vector<Text>> load_texts(const std::vector<TextFiles>& files) {
  std::vector<Text> texts;
  for (const TextFiles& one : files) {
    auto text = load_text(one);
    if (!text) return text.error();
    texts.push_back(std::move(*text));
    const Shape& first = texts.front().keys.shape;
    const Shape& last = texts.back().keys.shape;
    const bool same_group = texts.front().queries.shape.heads == texts.back().queries.shape.heads;
    if (first.layers != last.layers || first.heads != last.heads || first.dim != last.dim || !same_group) {
      return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(one.keys, ": keys of ", text_of(last), " and those of ",
                                                             files.front().keys, ", ", text_of(first),
                                                             ", are not of one model")};
    }
  }
  return texts;
}

}  // namespace kv_report
