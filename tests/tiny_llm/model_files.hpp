// Small random llama models for the tests of tiny_llm: their weights, GGUF files and llama2.c checkpoints of them, and
// their logits by a forward pass in double that is written from the definition and shares no code with the engine.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "pqkv/base/half.hpp"
#include "support/data.hpp"
#include "tiny_llm/gguf.hpp"
#include "tiny_llm/tokenizer.hpp"

namespace pqkv::test {

/// A tensor as a file holds it: bytes, and the floats that they stand for.
struct StoredTensor {
  std::vector<std::size_t> shape;  ///< shape[0] varies fastest
  std::uint32_t type = 0;
  std::string bytes;
  std::vector<float> floats;
};

template <class T>
void put(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// Encodes by the definitions of the formats; blocks are of 32 elements.
inline StoredTensor stored(std::vector<std::size_t> shape, const std::vector<float>& floats,
                           tiny_llm::TensorType type) {
  StoredTensor tensor{std::move(shape), static_cast<std::uint32_t>(type), {}, {}};
  const auto put_half = [&](float x) {
    const f16 half = to_f16(x);
    put(tensor.bytes, half);
    return to_float(half);
  };
  const std::size_t per_block = type == tiny_llm::TensorType::q8_0 || type == tiny_llm::TensorType::q4_0 ? 32 : 1;
  for (std::size_t first = 0; first < floats.size(); first += per_block) {
    const float* in = floats.data() + first;
    float most = 0;
    for (std::size_t i = 0; i < per_block; ++i) most = std::max(most, std::fabs(in[i]));
    if (type == tiny_llm::TensorType::f32) {
      put(tensor.bytes, *in);
      tensor.floats.push_back(*in);
    } else if (type == tiny_llm::TensorType::f16) {
      tensor.floats.push_back(put_half(*in));
    } else if (type == tiny_llm::TensorType::bf16) {
      std::uint32_t word;
      std::memcpy(&word, in, 4);
      word &= 0xffff0000u;
      put(tensor.bytes, static_cast<std::uint16_t>(word >> 16));
      std::memcpy(&tensor.floats.emplace_back(), &word, 4);
    } else if (type == tiny_llm::TensorType::q8_0) {
      const float scale = put_half(most / 127);
      for (std::size_t i = 0; i < 32; ++i) {
        const auto code = static_cast<std::int8_t>(std::clamp(std::lround(in[i] / scale), -127l, 127l));
        put(tensor.bytes, code);
        tensor.floats.push_back(scale * static_cast<float>(code));
      }
    } else {
      const float scale = put_half(most / 7);
      std::uint8_t codes[32];
      for (std::size_t i = 0; i < 32; ++i) {
        codes[i] = static_cast<std::uint8_t>(std::clamp(std::lround(in[i] / scale) + 8, 0l, 15l));
        tensor.floats.push_back(scale * static_cast<float>(codes[i] - 8));
      }
      for (std::size_t i = 0; i < 16; ++i) put(tensor.bytes, static_cast<std::uint8_t>(codes[i] | codes[i + 16] << 4));
    }
  }
  return tensor;
}

/// Metadata and tensors in the order of adding.
class GgufWriter {
 public:
  void text(const std::string& key, const std::string& value) { entry(key, 8), put_text(metadata_, value); }
  void number(const std::string& key, std::uint32_t value) { entry(key, 4), put(metadata_, value); }
  void real(const std::string& key, float value) { entry(key, 6), put(metadata_, value); }
  void boolean(const std::string& key, bool value) { entry(key, 7), put(metadata_, static_cast<std::uint8_t>(value)); }
  void texts(const std::string& key, const std::vector<std::string>& list) {
    start_array(key, 8, list.size());
    for (const std::string& value : list) put_text(metadata_, value);
  }
  void numbers(const std::string& key, const std::vector<std::int32_t>& list) {
    start_array(key, 5, list.size());
    for (const std::int32_t value : list) put(metadata_, value);
  }
  void tensor(const std::string& name, const StoredTensor& stored) {
    put_text(list_, name);
    put(list_, static_cast<std::uint32_t>(stored.shape.size()));
    for (const std::size_t size : stored.shape) put(list_, static_cast<std::uint64_t>(size));
    put(list_, stored.type);
    put(list_, static_cast<std::uint64_t>(data_.size()));
    data_ += stored.bytes;
    data_.resize((data_.size() + 31) / 32 * 32);
    ++tensors_;
  }
  [[nodiscard]] std::string file(std::uint32_t version = 3) const {
    std::string bytes = "GGUF";
    put(bytes, version);
    put(bytes, tensors_);
    put(bytes, values_);
    bytes += metadata_ + list_;
    bytes.resize((bytes.size() + 31) / 32 * 32);
    return bytes + data_;
  }

 private:
  static void put_text(std::string& bytes, const std::string& text) {
    put(bytes, static_cast<std::uint64_t>(text.size()));
    bytes += text;
  }
  void entry(const std::string& key, std::uint32_t type) {
    put_text(metadata_, key);
    put(metadata_, type);
    ++values_;
  }
  void start_array(const std::string& key, std::uint32_t element, std::size_t size) {
    entry(key, 9);
    put(metadata_, element);
    put(metadata_, static_cast<std::uint64_t>(size));
  }
  std::string metadata_, list_, data_;
  std::uint64_t tensors_ = 0, values_ = 0;
};

/// A model's shape, and its weights by GGUF names.
struct RandomModel {
  std::size_t width = 64, layers = 2, heads = 4, kv_heads = 2, dim = 16, rotary = 16, feed_forward = 96;
  std::size_t vocabulary = 263, context = 128;
  double base = 10000, factor = 1;
  float epsilon = 1e-5f;
  bool tied = true;
  tiny_llm::TensorType type = tiny_llm::TensorType::f32;
  std::map<std::string, StoredTensor> weights = {};

  /// Weights from the fields above.
  void draw(std::uint64_t seed = 1) {
    const auto add = [&](const std::string& name, std::size_t rows, std::size_t columns, double scale,
                         double centre = 0) {
      std::vector<float> floats = normal_floats(rows * columns, seed++);
      for (float& x : floats) x = static_cast<float>(centre + scale * static_cast<double>(x));
      const bool matrix = rows > 1;
      weights[name] = stored(matrix ? std::vector{columns, rows} : std::vector{columns}, floats,
                             matrix ? type : tiny_llm::TensorType::f32);
    };
    const auto root = [](std::size_t inputs) { return 1 / std::sqrt(static_cast<double>(inputs)); };
    add("token_embd.weight", vocabulary, width, 0.3);
    if (!tied) add("output.weight", vocabulary, width, 0.3);
    add("output_norm.weight", 1, width, 0.1, 1);
    for (std::size_t l = 0; l < layers; ++l) {
      const std::string block = "blk." + std::to_string(l) + ".";
      add(block + "attn_norm.weight", 1, width, 0.1, 1);
      add(block + "attn_q.weight", heads * dim, width, 1.5 * root(width));
      add(block + "attn_k.weight", kv_heads * dim, width, 1.5 * root(width));
      add(block + "attn_v.weight", kv_heads * dim, width, root(width));
      add(block + "attn_output.weight", width, heads * dim, root(heads * dim));
      add(block + "ffn_norm.weight", 1, width, 0.1, 1);
      add(block + "ffn_gate.weight", feed_forward, width, root(width));
      add(block + "ffn_up.weight", feed_forward, width, root(width));
      add(block + "ffn_down.weight", width, feed_forward, root(feed_forward));
    }
  }
  [[nodiscard]] const std::vector<float>& weight(const std::string& name) const { return weights.at(name).floats; }

  /// The metadata of a llama model; without a vocabulary unless there is room for bytes and an end token.
  [[nodiscard]] GgufWriter gguf(const std::string& architecture = "llama") const {
    GgufWriter file;
    file.text("general.architecture", architecture);
    const auto number = [&](const char* key, std::size_t value) {
      file.number(key, static_cast<std::uint32_t>(value));
    };
    number("llama.block_count", layers);
    number("llama.embedding_length", width);
    number("llama.feed_forward_length", feed_forward);
    number("llama.context_length", context);
    number("llama.attention.head_count", heads);
    number("llama.attention.head_count_kv", kv_heads);
    if (dim * heads != width) number("llama.attention.key_length", dim);
    if (rotary != dim) number("llama.rope.dimension_count", rotary);
    file.real("llama.attention.layer_norm_rms_epsilon", epsilon);
    file.real("llama.rope.freq_base", static_cast<float>(base));
    if (factor != 1) {
      file.text("llama.rope.scaling.type", "linear");
      file.real("llama.rope.scaling.factor", static_cast<float>(factor));
    }
    if (vocabulary >= 257) add_vocabulary(file);
    for (const auto& [name, tensor] : weights) file.tensor(name, tensor);
    return file;
  }

  /// A llama2.c checkpoint; its fields must be those that the format has.
  [[nodiscard]] std::string checkpoint() const {
    std::string bytes;
    const auto number = [&bytes](std::size_t size, int sign = 1) {
      put(bytes, sign * static_cast<std::int32_t>(size));
    };
    for (const std::size_t size : {width, feed_forward, layers, heads, kv_heads}) number(size);
    number(vocabulary, tied ? 1 : -1);
    number(context);
    const auto add = [&](const std::string& name) {
      for (const float x : weight(name)) put(bytes, x);
    };
    add("token_embd.weight");
    for (const char* name : {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate",
                             "ffn_down", "ffn_up"}) {
      for (std::size_t l = 0; l < layers; ++l) add("blk." + std::to_string(l) + "." + name + ".weight");
    }
    add("output_norm.weight");
    bytes.resize(bytes.size() + context * dim * 4);  // tables of cosines and sines, which are not read
    if (!tied) add("output.weight");
    return bytes;
  }

 private:
  /// Bytes, merges as far as there is room, and an end token.
  void add_vocabulary(GgufWriter& file) const {
    std::vector<std::string> tokens, merges;
    for (const std::string& character : tiny_llm::bpe::byte_characters()) tokens.push_back(character);
    for (const char* merge : {"t h", "th e", "a n", "i n", "e r", "o n"}) {
      if (tokens.size() + 1 == vocabulary) break;
      merges.emplace_back(merge);
      std::string token = merge;
      tokens.push_back(token.erase(token.find(' '), 1));
    }
    std::vector<std::int32_t> types(tokens.size(), 1);
    tokens.emplace_back("<|end|>");
    types.push_back(3);
    file.text("tokenizer.ggml.model", "gpt2");
    file.texts("tokenizer.ggml.tokens", tokens);
    file.numbers("tokenizer.ggml.token_type", types);
    file.texts("tokenizer.ggml.merges", merges);
    file.number("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(tokens.size()) - 1);
    file.boolean("tokenizer.ggml.add_bos_token", false);
  }
};

using Rows64 = std::vector<std::vector<double>>;

namespace detail {

/// [outputs][inputs] · x
inline std::vector<double> product(const std::vector<float>& matrix, const std::vector<double>& x) {
  std::vector<double> out(matrix.size() / x.size());
  for (std::size_t o = 0; o < out.size(); ++o) {
    for (std::size_t i = 0; i < x.size(); ++i) out[o] += static_cast<double>(matrix[o * x.size() + i]) * x[i];
  }
  return out;
}

inline std::vector<double> rms_norm(const std::vector<double>& x, const std::vector<float>& weight, double epsilon) {
  double squares = 0;
  for (const double element : x) squares += element * element;
  std::vector<double> out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    out[i] = x[i] / std::sqrt(squares / static_cast<double>(x.size()) + epsilon) * static_cast<double>(weight[i]);
  }
  return out;
}

}  // namespace detail

/// The logits behind every token.
inline Rows64 reference_logits(const RandomModel& model, const std::vector<std::uint32_t>& tokens) {
  using detail::product;
  using detail::rms_norm;
  const auto epsilon = static_cast<double>(model.epsilon);
  const auto turn = [&](std::vector<double>& row, std::size_t position) {
    for (std::size_t head = 0; head < row.size(); head += model.dim) {
      for (std::size_t i = 0; i < model.rotary; i += 2) {
        const double exponent = -static_cast<double>(i) / static_cast<double>(model.rotary);
        const double angle = static_cast<double>(position) / model.factor * std::pow(model.base, exponent);
        const double a = row[head + i], b = row[head + i + 1];
        row[head + i] = a * std::cos(angle) - b * std::sin(angle);
        row[head + i + 1] = a * std::sin(angle) + b * std::cos(angle);
      }
    }
  };
  std::vector<Rows64> keys(model.layers), values(model.layers);
  Rows64 logits;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const float* embedded = model.weight("token_embd.weight").data() + tokens[t] * model.width;
    std::vector<double> x(embedded, embedded + model.width);
    const auto add = [&x](const std::vector<double>& y) {
      for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    };
    for (std::size_t l = 0; l < model.layers; ++l) {
      const auto weight = [&](const char* name) -> const std::vector<float>& {
        return model.weight("blk." + std::to_string(l) + "." + name + ".weight");
      };
      const std::vector<double> input = rms_norm(x, weight("attn_norm"), epsilon);
      std::vector<double> query = product(weight("attn_q"), input);
      turn(query, t);
      turn(keys[l].emplace_back(product(weight("attn_k"), input)), t);
      values[l].push_back(product(weight("attn_v"), input));
      std::vector<double> attended(query.size());
      for (std::size_t h = 0; h < model.heads; ++h) {
        const std::size_t q = h * model.dim, kv = h / (model.heads / model.kv_heads) * model.dim;
        std::vector<double> weights;
        double sum = 0;
        for (std::size_t j = 0; j <= t; ++j) {
          double score = 0;
          for (std::size_t d = 0; d < model.dim; ++d) score += query[q + d] * keys[l][j][kv + d];
          sum += weights.emplace_back(std::exp(score / std::sqrt(static_cast<double>(model.dim))));
        }
        for (std::size_t j = 0; j <= t; ++j) {
          for (std::size_t d = 0; d < model.dim; ++d) attended[q + d] += weights[j] / sum * values[l][j][kv + d];
        }
      }
      add(product(weight("attn_output"), attended));
      const std::vector<double> hidden = rms_norm(x, weight("ffn_norm"), epsilon);
      std::vector<double> gate = product(weight("ffn_gate"), hidden);
      const std::vector<double> up = product(weight("ffn_up"), hidden);
      for (std::size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
      add(product(weight("ffn_down"), gate));
    }
    const std::vector<double> last = rms_norm(x, model.weight("output_norm.weight"), epsilon);
    logits.push_back(product(model.weight(model.tied ? "token_embd.weight" : "output.weight"), last));
  }
  return logits;
}

}  // namespace pqkv::test
