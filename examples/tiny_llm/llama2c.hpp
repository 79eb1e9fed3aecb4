// llama2.c checkpoints (version 0): seven int32 (width, feed-forward, layers, heads, kv heads, vocabulary — negative when
// the output matrix is its own —, context), then all weights in f32. The vocabulary is a file of its own: int32 longest
// token, then per token f32 score, int32 length, bytes.
#pragma once

#include <cstring>
#include <limits>

#include "tiny_llm/model.hpp"

namespace tiny_llm {

namespace detail {

/// Takes matrices one behind the other; the size was checked before.
class FloatStream {
 public:
  explicit FloatStream(const std::byte* data) : data_(data) {}
  Matrix matrix(std::size_t rows, std::size_t columns) {
    Matrix out(static_cast<Eigen::Index>(rows), static_cast<Eigen::Index>(columns));
    std::memcpy(out.data(), data_, rows * columns * sizeof(float));
    skip(rows * columns);
    return out;
  }
  Vector vector(std::size_t size) { return matrix(1, size).transpose(); }
  void skip(std::size_t floats) { data_ += floats * sizeof(float); }

 private:
  const std::byte* data_;
};

}  // namespace detail

/// Loads a checkpoint, and its tokenizer where a path is given. Errors: bad_file with the numbers.
[[nodiscard]] inline pqkv::Result<Model> load_llama2c(const std::string& path, const std::string& tokenizer_path = "") {
  const auto file = MappedFile::open(path);
  if (!file) return file.error();
  const auto bad = [](const std::string& where, const auto&... parts) {
    return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(where, ": ", parts...)};
  };
  std::int32_t header[7] = {};
  const std::size_t bytes = file->bytes().size();
  if (bytes < sizeof header) return bad(path, "is truncated inside its header");
  std::memcpy(header, file->bytes().data(), sizeof header);
  for (int i = 0; i < 7; ++i) {
    const std::int64_t number = i == 5 && header[i] < 0 ? -std::int64_t{header[i]} : header[i];
    if (number <= 0 || number > (1 << 24)) {
      return bad(path, "is neither GGUF nor llama2.c: number ", i, " of its header is ", header[i]);
    }
  }
  Model model;
  model.width = static_cast<std::size_t>(header[0]);
  model.feed_forward = static_cast<std::size_t>(header[1]);
  model.layers_count = static_cast<std::size_t>(header[2]);
  model.heads = static_cast<std::size_t>(header[3]);
  model.kv_heads = static_cast<std::size_t>(header[4]);
  model.vocabulary = static_cast<std::size_t>(std::abs(header[5]));
  model.context = static_cast<std::size_t>(header[6]);
  if (model.width % model.heads != 0) return bad(path, "width ", model.width, " does not divide into ", model.heads, " heads");
  model.dim = model.width / model.heads;
  model.frequencies = detail::rope_frequencies(model.dim, 10000.0, 1.0);
  if (pqkv::Status status = detail::check_shape(model, path); !status) return status.error();

  const std::size_t w = model.width, kv = model.kv_heads * model.dim, f = model.feed_forward, n = model.layers_count;
  const double floats = static_cast<double>(model.vocabulary) * static_cast<double>(w) * (header[5] < 0 ? 2 : 1) +
                        static_cast<double>(n) * static_cast<double>(2 * w + 2 * w * w + 2 * w * kv + 3 * w * f) +
                        static_cast<double>(w + model.context * model.dim);
  if (static_cast<double>(bytes - sizeof header) < floats * 4) {
    return bad(path, "is truncated: ", bytes - sizeof header, " bytes of weights where its header promises ",
               static_cast<std::size_t>(floats) * 4);
  }
  detail::FloatStream stream(file->bytes().data() + sizeof header);
  model.embedding = stream.matrix(model.vocabulary, w);
  model.layers.resize(n);
  for (Layer& layer : model.layers) layer.attention_norm = stream.vector(w);
  for (Layer& layer : model.layers) layer.query = stream.matrix(w, w);
  for (Layer& layer : model.layers) layer.key = stream.matrix(kv, w);
  for (Layer& layer : model.layers) layer.value = stream.matrix(kv, w);
  for (Layer& layer : model.layers) layer.output = stream.matrix(w, w);
  for (Layer& layer : model.layers) layer.feed_forward_norm = stream.vector(w);
  for (Layer& layer : model.layers) layer.gate = stream.matrix(f, w);
  for (Layer& layer : model.layers) layer.down = stream.matrix(w, f);
  for (Layer& layer : model.layers) layer.up = stream.matrix(f, w);
  model.output_norm = stream.vector(w);
  stream.skip(model.context * model.dim);  // tables of cosines and sines
  if (header[5] < 0) model.output = stream.matrix(model.vocabulary, w);
  if (tokenizer_path.empty()) return model;

  const auto names = MappedFile::open(tokenizer_path);
  if (!names) return names.error();
  const std::byte* data = names->bytes().data();
  std::size_t left = names->bytes().size();
  const auto take = [&](void* out, std::size_t size) {
    if (left < size) return false;
    std::memcpy(out, data, size);
    data += size;
    left -= size;
    return true;
  };
  Vocabulary& vocabulary = model.tokens;
  vocabulary.model = "llama";
  vocabulary.bos = 1;
  vocabulary.eos = 2;
  vocabulary.unknown = 0;
  vocabulary.add_bos = true;
  std::int32_t longest = 0;
  bool complete = take(&longest, 4);
  for (std::size_t i = 0; i < model.vocabulary && complete; ++i) {
    float score = 0;
    std::int32_t length = 0;
    complete = take(&score, 4) && take(&length, 4) && length >= 0 && static_cast<std::size_t>(length) <= left;
    if (!complete) break;
    std::string token(static_cast<std::size_t>(length), '\0');
    complete = take(token.data(), token.size());
    // This file writes spaces as they are and control tokens with line breaks around them.
    const bool control = i < 3;
    const bool byte = token.size() == 6 && token.starts_with("<0x") && token.ends_with('>');
    std::string spaced;
    for (const char c : token) spaced += c == ' ' ? std::string("\xe2\x96\x81") : std::string(1, c);
    vocabulary.tokens.push_back(std::move(spaced));
    vocabulary.scores.push_back(score);
    vocabulary.types.push_back(control ? 3 : byte ? 6 : 1);
  }
  if (!complete) return bad(tokenizer_path, "is truncated: token ", vocabulary.tokens.size(), " of ", model.vocabulary);
  return model;
}

/// GGUF by its magic, else llama2.c.
[[nodiscard]] inline pqkv::Result<Model> load_model(const std::string& path, const std::string& tokenizer_path = "") {
  const auto file = MappedFile::open(path);
  if (!file) return file.error();
  const bool gguf = file->bytes().size() >= 4 && std::memcmp(file->bytes().data(), "GGUF", 4) == 0;
  return gguf ? load_gguf(path) : load_llama2c(path, tokenizer_path);
}

}  // namespace tiny_llm
