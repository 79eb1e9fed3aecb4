// A llama-family decoder's shape and weights, from a GGUF file or a llama2.c checkpoint. Weights become floats on load.
#pragma once

#include <Eigen/Core>

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "pqkv/policy.hpp"
#include "tiny_llm/gguf.hpp"
#include "tiny_llm/tokenizer.hpp"

namespace tiny_llm {

/// Row-major: a weight is [outputs][inputs], activations are [tokens][width].
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::VectorXf;

struct Layer {
  Vector attention_norm, feed_forward_norm;
  Matrix query, key, value, output;
  Matrix gate, up, down;
};

struct Model {
  std::size_t width = 0, layers_count = 0, heads = 0, kv_heads = 0, dim = 0, feed_forward = 0, vocabulary = 0, context = 0;
  float norm_epsilon = 1e-5f;
  std::vector<float> frequencies;  ///< RoPE: angle per position of each adjacent pair; shorter than dim / 2 if partial
  Matrix embedding;                ///< [vocabulary][width]
  std::vector<Layer> layers;
  Vector output_norm;
  Matrix output;  ///< empty: tied to the embedding
  Vocabulary tokens;

  [[nodiscard]] const Matrix& head() const noexcept { return output.size() == 0 ? embedding : output; }
  [[nodiscard]] std::size_t group() const noexcept { return heads / kv_heads; }
};

namespace detail {

[[nodiscard]] inline std::vector<float> rope_frequencies(std::size_t rotary, double base, double factor) {
  std::vector<float> frequencies(rotary / 2);
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = static_cast<float>(std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(rotary)) / factor);
  }
  return frequencies;
}

/// What any loader must have found before attention can run.
[[nodiscard]] inline pqkv::Status check_shape(const Model& model, const std::string& path) {
  const auto bad = [&path](const auto&... parts) {
    return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(path, ": ", parts...)};
  };
  if (model.heads % model.kv_heads != 0 || model.group() > pqkv::max_group) {
    return bad(model.heads, " query heads are not 1 to 16 times ", model.kv_heads, " kv heads");
  }
  if (model.frequencies.size() * 2 > model.dim) {
    return bad("RoPE turns ", model.frequencies.size() * 2, " of ", model.dim, " elements");
  }
  return {};
}

/// Reads one tensor of a GGUF file as a matrix [rows][columns], or says why not.
class GgufTensors {
 public:
  explicit GgufTensors(const Gguf& file) : file_(file) {}
  [[nodiscard]] Matrix matrix(const std::string& name, std::size_t rows, std::size_t columns) {
    const TensorInfo* tensor = file_.tensor(name);
    if (tensor == nullptr) {
      fail("has no tensor ", name);
      return {};
    }
    const bool fits = tensor->elements == rows * columns && !tensor->shape.empty() && tensor->shape[0] == columns;
    if (!fits) {
      fail("tensor ", name, " has ", tensor->elements, " elements where ", rows, " × ", columns, " are needed");
      return {};
    }
    const std::vector<float> floats = file_.floats(*tensor);
    return Eigen::Map<const Matrix>(floats.data(), static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns));
  }
  [[nodiscard]] Vector vector(const std::string& name, std::size_t size) {
    const Matrix row = matrix(name, 1, size);
    return Eigen::Map<const Vector>(row.data(), row.size());
  }
  [[nodiscard]] const pqkv::Status& status() const noexcept { return status_; }

 private:
  template <class... Parts>
  void fail(const Parts&... parts) {
    if (status_) status_ = file_.error(parts...);
  }
  const Gguf& file_;
  pqkv::Status status_;
};

[[nodiscard]] inline Vocabulary read_vocabulary(const Gguf& file) {
  Vocabulary vocabulary;
  const auto take = [&file](const char* key, auto& out) {
    if (const auto* value = file.find<std::remove_reference_t<decltype(out)>>(std::string("tokenizer.ggml.") + key)) out = *value;
  };
  take("model", vocabulary.model);
  take("tokens", vocabulary.tokens);
  take("merges", vocabulary.merges);
  take("bos_token_id", vocabulary.bos);
  take("eos_token_id", vocabulary.eos);
  take("unknown_token_id", vocabulary.unknown);
  take("add_bos_token", vocabulary.add_bos);
  take("add_space_prefix", vocabulary.add_space_prefix);
  std::vector<double> scores;
  std::vector<std::int64_t> types;
  take("scores", scores);
  take("token_type", types);
  vocabulary.scores.assign(scores.begin(), scores.end());
  vocabulary.types.assign(types.begin(), types.end());
  return vocabulary;
}

/// The numbers under "llama.…"; fills everything but weights.
[[nodiscard]] inline pqkv::Status read_shape(const Gguf& file, Model& model) {
  const auto* architecture = file.find<std::string>("general.architecture");
  if (architecture == nullptr || *architecture != "llama") {
    return file.error("has architecture '", architecture == nullptr ? "none" : *architecture, "'; can run 'llama'");
  }
  for (const auto& [key, out] : {std::pair{"llama.block_count", &model.layers_count}, {"llama.embedding_length", &model.width},
                                 {"llama.feed_forward_length", &model.feed_forward},
                                 {"llama.attention.head_count", &model.heads}, {"llama.context_length", &model.context}}) {
    const auto number = file.positive(key);
    if (!number) return number.error();
    *out = *number;
  }
  const auto optional = [&file](const char* key, std::size_t fallback) {
    return file.find<std::int64_t>(key) == nullptr ? pqkv::Result<std::size_t>(fallback) : file.positive(key);
  };
  const auto kv_heads = optional("llama.attention.head_count_kv", model.heads);
  if (!kv_heads) return kv_heads.error();
  const auto dim = optional("llama.attention.key_length", model.width / model.heads);
  if (!dim) return dim.error();
  const auto value_dim = optional("llama.attention.value_length", *dim);
  if (!value_dim) return value_dim.error();
  if (*value_dim != *dim) return file.error("values of ", *value_dim, " elements beside keys of ", *dim);
  const auto rotary = optional("llama.rope.dimension_count", *dim);
  if (!rotary) return rotary.error();
  model.kv_heads = *kv_heads;
  model.dim = *dim;
  if (const auto* epsilon = file.find<double>("llama.attention.layer_norm_rms_epsilon")) {
    model.norm_epsilon = static_cast<float>(*epsilon);
  }
  double factor = 1;
  if (const auto* scaling = file.find<std::string>("llama.rope.scaling.type"); scaling != nullptr && *scaling != "none") {
    if (*scaling != "linear") return file.error("scales RoPE by '", *scaling, "'; can do 'linear'");
    if (const auto* number = file.find<double>("llama.rope.scaling.factor")) factor = *number;
  }
  const auto* base = file.find<double>("llama.rope.freq_base");
  model.frequencies = rope_frequencies(*rotary, base == nullptr ? 10000.0 : *base, factor);
  return {};
}

}  // namespace detail

/// Loads a GGUF file of architecture llama. Errors: bad_file, naming what is missing or does not fit.
[[nodiscard]] inline pqkv::Result<Model> load_gguf(const std::string& path) {
  const auto file = Gguf::open(path);
  if (!file) return file.error();
  Model model;
  if (pqkv::Status status = detail::read_shape(*file, model); !status) return status.error();
  const TensorInfo* embedding = file->tensor("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) return file->error("has no tensor token_embd.weight");
  model.vocabulary = embedding->shape[1];
  model.tokens = detail::read_vocabulary(*file);
  if (!model.tokens.tokens.empty() && model.tokens.tokens.size() != model.vocabulary) {
    return file->error(model.tokens.tokens.size(), " tokens in the vocabulary, ", model.vocabulary, " in the embedding");
  }
  detail::GgufTensors tensors(*file);
  const std::size_t width = model.width, kv_width = model.kv_heads * model.dim, query_width = model.heads * model.dim;
  model.embedding = tensors.matrix("token_embd.weight", model.vocabulary, width);
  for (std::size_t l = 0; l < model.layers_count && tensors.status(); ++l) {
    const std::string block = pqkv::message("blk.", l, ".");
    Layer& layer = model.layers.emplace_back();
    layer.attention_norm = tensors.vector(block + "attn_norm.weight", width);
    layer.query = tensors.matrix(block + "attn_q.weight", query_width, width);
    layer.key = tensors.matrix(block + "attn_k.weight", kv_width, width);
    layer.value = tensors.matrix(block + "attn_v.weight", kv_width, width);
    layer.output = tensors.matrix(block + "attn_output.weight", width, query_width);
    layer.feed_forward_norm = tensors.vector(block + "ffn_norm.weight", width);
    layer.gate = tensors.matrix(block + "ffn_gate.weight", model.feed_forward, width);
    layer.up = tensors.matrix(block + "ffn_up.weight", model.feed_forward, width);
    layer.down = tensors.matrix(block + "ffn_down.weight", width, model.feed_forward);
  }
  model.output_norm = tensors.vector("output_norm.weight", width);
  if (file->tensor("output.weight") != nullptr) model.output = tensors.matrix("output.weight", model.vocabulary, width);
  if (!tensors.status()) return tensors.status().error();
  if (pqkv::Status status = detail::check_shape(model, path); !status) return status.error();
  return model;
}

}  // namespace tiny_llm
