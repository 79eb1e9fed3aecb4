// Model files of tiny_llm and its forward pass: small random models against an independent computation in double,
// every way in which a file can be wrong, and, where PQKV_MODEL_DIR names a folder, a trained model's reference answers.
#include <cstdlib>
#include <filesystem>

#include "catch.hpp"
#include "pqkv/io/npy.hpp"
#include "tiny_llm/engine.hpp"
#include "tiny_llm/llama2c.hpp"
#include "tiny_llm/model_files.hpp"

using namespace pqkv::test;
using tiny_llm::TensorType;
namespace files = std::filesystem;

namespace {

/// Every logit: what rounding to float may move.
constexpr double logit_tolerance = 1e-4;

struct Folder {
  files::path path = files::temp_directory_path() / "pqkv_tiny_llm_model_test";
  Folder() { files::create_directories(path); }
  ~Folder() { files::remove_all(path); }
  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path / name, std::ios::binary) << bytes;
    return (path / name).string();
  }
};

tiny_llm::Model load(const std::string& path) {
  auto model = tiny_llm::load_model(path);
  INFO((model ? "" : model.error().message));
  REQUIRE(model.has_value());
  return std::move(*model);
}

tiny_llm::Sequence exact_sequence(const tiny_llm::Model& model) {
  return tiny_llm::make_sequence(model, {*pqkv::parse_cache_spec("k=exact:f32,v=exact:f32")}, {}).value();
}

std::vector<std::uint32_t> random_tokens(std::size_t count, std::size_t vocabulary, std::uint64_t seed = 9) {
  pqkv::Random random(seed);
  std::vector<std::uint32_t> tokens(count);
  for (std::uint32_t& token : tokens) token = static_cast<std::uint32_t>(random.below(vocabulary));
  return tokens;
}

double largest_difference(const tiny_llm::Matrix& logits, const Rows64& expected, std::size_t first) {
  double most = 0;
  for (Eigen::Index t = 0; t < logits.rows(); ++t) {
    const auto& row = expected.at(first + static_cast<std::size_t>(t));
    REQUIRE(static_cast<std::size_t>(logits.cols()) == row.size());
    for (std::size_t v = 0; v < row.size(); ++v) {
      const double difference = std::fabs(static_cast<double>(logits(t, static_cast<Eigen::Index>(v))) - row[v]);
      if (!(difference <= most)) most = difference;
    }
  }
  return most;
}

/// Prompt in one piece, in two, and token by token.
void check_logits(const tiny_llm::Model& model, const RandomModel& reference) {
  using tiny_llm::forward;
  const auto tokens = random_tokens(40, reference.vocabulary);
  const Rows64 expected = reference_logits(reference, tokens);
  auto whole = exact_sequence(model), pieces = exact_sequence(model), steps = exact_sequence(model);
  CHECK(largest_difference(forward(model, whole, tokens, true).value(), expected, 0) < logit_tolerance);
  const std::span<const std::uint32_t> all(tokens);
  CHECK(largest_difference(forward(model, pieces, all.first(7), true).value(), expected, 0) < logit_tolerance);
  const auto last = forward(model, pieces, all.subspan(7)).value();
  CHECK(last.rows() == 1);
  CHECK(largest_difference(last, expected, 39) < logit_tolerance);
  double most = 0;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const double difference = largest_difference(forward(model, steps, all.subspan(t, 1)).value(), expected, t);
    if (!(difference <= most)) most = difference;
  }
  CHECK(most < logit_tolerance);
  CHECK(steps.position == 40);
}

/// A model without a vocabulary whose file has a few thousand bytes.
RandomModel tiny_model() {
  RandomModel model{.width = 8, .layers = 1, .heads = 2, .kv_heads = 1, .dim = 4, .rotary = 4, .feed_forward = 6,
                    .vocabulary = 5, .context = 8};
  model.draw();
  return model;
}

void refused(const std::string& path, const std::string& text) {
  const auto model = tiny_llm::load_model(path);
  REQUIRE_FALSE(model.has_value());
  INFO(model.error().message);
  CHECK(model.error().code == pqkv::Errc::bad_file);
  CHECK(model.error().message.find(path) != std::string::npos);
  CHECK(model.error().message.find(text) != std::string::npos);
}

}  // namespace

TEST_CASE("logits equal a forward pass in double from the definition") {
  const Folder folder;
  const auto check = [&](const char* name, RandomModel model) {
    INFO(name);
    model.draw();
    const auto loaded = load(folder.write("model.gguf", model.gguf().file()));
    CHECK(loaded.context == 128);
    check_logits(loaded, model);
  };
  check("as it is", {});
  check("untied output", {.tied = false});
  check("key_length: heads · dim is not the width", {.width = 32});
  check("one kv head per query head", {.kv_heads = 4});
  check("one kv head for all", {.kv_heads = 1});
  check("partial RoPE", {.rotary = 8});
  check("linear scaling and another base", {.base = 500, .factor = 4});
  check("a large epsilon", {.epsilon = 0.1f});
}

TEST_CASE("prompts and steps leave with tokens that wait how much they were attended to, where values ask for it") {
  const Folder folder;
  RandomModel random{.layers = 1};
  random.draw();
  const auto model = load(folder.write("model.gguf", random.gguf().file()));
  const auto spec = *pqkv::parse_cache_spec("k=exact:f32,v=turbo2:heavy=4,recent=40");
  const auto tokens = random_tokens(60, random.vocabulary);
  const std::span<const std::uint32_t> all(tokens);
  auto prompt = tiny_llm::make_sequence(model, {spec}, {}).value(), steps = tiny_llm::make_sequence(model, {spec}, {}).value();
  REQUIRE(tiny_llm::forward(model, prompt, all));
  for (std::size_t t = 0; t < tokens.size(); ++t) REQUIRE(tiny_llm::forward(model, steps, all.subspan(t, 1)));
  for (std::size_t h = 0; h < model.kv_heads; ++h) {
    const auto &one = prompt.cache.head(0, h).recent(), &other = steps.cache.head(0, h).recent();
    for (std::size_t i = 0; i < 60; ++i) {
      REQUIRE((one.saliency(i) > 0) == (i < 32));
      REQUIRE(std::fabs(static_cast<double>(one.saliency(i) - other.saliency(i))) < logit_tolerance);
    }
  }
}

TEST_CASE("every tensor type is read as it is defined") {
  const Folder folder;
  for (const TensorType type : {TensorType::f32, TensorType::f16, TensorType::bf16, TensorType::q8_0,
                                TensorType::q4_0}) {
    INFO("type " << static_cast<int>(type));
    RandomModel model{.tied = false, .type = type};
    model.draw();
    const std::string path = folder.write("model.gguf", model.gguf().file());
    const auto gguf = tiny_llm::Gguf::open(path).value();
    for (const char* name : {"token_embd.weight", "blk.1.ffn_down.weight", "output_norm.weight"}) {
      REQUIRE(gguf.tensor(name) != nullptr);
      CHECK(gguf.floats(*gguf.tensor(name)) == model.weight(name));
    }
    check_logits(load(path), model);
  }
}

TEST_CASE("a llama2.c checkpoint gives the logits of the GGUF file of the same weights") {
  const Folder folder;
  for (const bool tied : {true, false}) {
    RandomModel model{.tied = tied};
    model.draw();
    const auto checkpoint = load(folder.write("model.bin", model.checkpoint()));
    check_logits(checkpoint, model);
    const auto gguf = load(folder.write("model.gguf", model.gguf().file()));
    const auto tokens = random_tokens(20, model.vocabulary);
    auto one = exact_sequence(checkpoint), other = exact_sequence(gguf);
    CHECK(tiny_llm::forward(checkpoint, one, tokens, true).value() ==
          tiny_llm::forward(gguf, other, tokens, true).value());
  }
}

TEST_CASE("a llama2.c vocabulary") {
  const Folder folder;
  RandomModel model{.vocabulary = 261};
  model.draw();
  std::string bytes;
  put(bytes, std::int32_t{6});
  const auto add = [&bytes](const std::string& token, float score) {
    put(bytes, score);
    put(bytes, static_cast<std::int32_t>(token.size()));
    bytes += token;
  };
  for (const char* token : {"<unk>", "\n<s>\n", "\n</s>\n"}) add(token, 0);
  for (int byte = 0; byte < 256; ++byte) {
    char token[8];
    std::snprintf(token, sizeof token, "<0x%02X>", static_cast<unsigned>(byte));
    add(token, 0);
  }
  add(" a", -1);
  add("a", -2);
  const std::string path = folder.write("model.bin", model.checkpoint());
  const auto loaded = tiny_llm::load_model(path, folder.write("tokenizer.bin", bytes)).value();
  const auto tokenizer = tiny_llm::Tokenizer::make(loaded.tokens).value();
  CHECK(tokenizer.decode(259) == " a");
  CHECK(tokenizer.encode("aa") == std::vector<std::uint32_t>{259, 260});
  CHECK(tokenizer.add_bos());
  for (std::size_t length = 1; length < bytes.size(); length += 7) {
    const auto cut = tiny_llm::load_model(path, folder.write("tokenizer.bin", bytes.substr(0, length)));
    REQUIRE_FALSE(cut.has_value());
    CHECK(cut.error().message.find("tokenizer.bin: is truncated: token") != std::string::npos);
  }
}

TEST_CASE("every prefix of a model file is refused, and no damaged byte does harm") {
  const Folder folder;
  const RandomModel model = tiny_model();
  for (const std::string& bytes : {model.gguf().file(), model.checkpoint()}) {
    const std::string path = folder.write("model", bytes);
    CHECK(tiny_llm::load_model(path).has_value());
    for (std::size_t length = bytes.size(); length-- > 0;) {
      // A GGUF file's last tensor may be followed by padding.
      if (bytes.starts_with("GGUF") && length >= bytes.size() - 31) continue;
      files::resize_file(path, length);
      const auto cut = tiny_llm::load_model(path);
      INFO(length << " of " << bytes.size());
      REQUIRE_FALSE(cut.has_value());
      REQUIRE(cut.error().message.find("model: ") != std::string::npos);
    }
    pqkv::Random random(3);
    for (int i = 0; i < 3000; ++i) {
      std::string damaged = bytes;
      for (int changes = i % 3; changes >= 0; --changes) {
        damaged[random.below(std::min<std::size_t>(bytes.size(), 2000))] = static_cast<char>(random.below(256));
      }
      (void)tiny_llm::load_model(folder.write("model", damaged));
    }
  }
}

TEST_CASE("files that are something else are refused, each with its reason") {
  const Folder folder;
  const RandomModel model = tiny_model();
  const auto gguf = [&](const GgufWriter& writer) { return folder.write("model.gguf", writer.file()); };
  refused((folder.path / "missing").string(), "cannot be opened");
  refused(folder.write("text", "once upon a time there was no model in this file"), "is neither GGUF nor llama2.c");
  const std::string text = folder.write("text", "once upon a time there was no model in this file");
  CHECK(tiny_llm::load_gguf(text).error().message.find("wrong magic") != std::string::npos);
  refused(folder.write("model.gguf", model.gguf().file(1)), "has GGUF version 1; known are 2 and 3");
  refused(gguf(model.gguf("gemma")), "has architecture 'gemma'; can run 'llama'");
  refused(gguf(GgufWriter()), "has architecture 'none'");

  const auto with_tensor = [&](const std::string& name, const auto& change) {
    RandomModel changed = model;
    change(changed.weights[name]);
    return gguf(changed.gguf());
  };
  refused(with_tensor("blk.0.attn_q.weight", [](StoredTensor& t) { t.type = 12; }),
          "tensor blk.0.attn_q.weight has type 12; can read F32, F16, BF16, Q8_0 and Q4_0");
  refused(with_tensor("blk.0.attn_q.weight", [](StoredTensor& t) { t.type = 8; }), "in blocks of 32");
  refused(with_tensor("blk.0.attn_q.weight", [](StoredTensor& t) { t.shape = {8, 4}; }),
          "tensor blk.0.attn_q.weight has 32 elements where 8 × 8 are needed");
  refused(with_tensor("blk.0.attn_k.weight", [](StoredTensor& t) { t.shape = {4, 8}; }), "blk.0.attn_k.weight");
  refused(with_tensor("blk.0.attn_k.weight", [](StoredTensor& t) { t.shape = {1, 1, 1, 1, 32}; }), "5 dimensions");
  refused(with_tensor("blk.0.attn_k.weight", [](StoredTensor& t) { t.shape = {8, std::size_t{1} << 60}; }),
          "larger than memory");
  refused(with_tensor("blk.0.attn_k.weight", [](StoredTensor& t) { t.shape = {8, 1u << 20}; }), "is truncated");
  RandomModel without = model;
  without.weights.erase("blk.0.ffn_up.weight");
  refused(gguf(without.gguf()), "has no tensor blk.0.ffn_up.weight");

  const auto with = [&](const auto& change) {
    GgufWriter writer = model.gguf();
    change(writer);  // what is added last counts
    return gguf(writer);
  };
  refused(with([](GgufWriter& w) { w.number("llama.block_count", 0); }), "llama.block_count is 0");
  refused(with([](GgufWriter& w) { w.number("llama.attention.head_count_kv", 3); }), "");
  refused(with([](GgufWriter& w) { w.number("llama.attention.value_length", 8); }),
          "values of 8 elements beside keys of 4");
  refused(with([](GgufWriter& w) { w.number("llama.rope.dimension_count", 8); }), "RoPE turns 8 of 4 elements");
  refused(with([](GgufWriter& w) { w.text("llama.rope.scaling.type", "yarn"); }),
          "scales RoPE by 'yarn'; can do 'linear'");
  refused(with([](GgufWriter& w) { w.texts("tokenizer.ggml.tokens", {"a", "b"}); }),
          "2 tokens in the vocabulary, 5 in");

  std::string header = model.checkpoint();
  header[4] = 0;
  refused(folder.write("model.bin", header), "number 1 of its header is 0");
  header = model.checkpoint();
  header[12] = 3;
  refused(folder.write("model.bin", header), "width 8 does not divide into 3 heads");
}

TEST_CASE("a step that cannot be computed is refused before anything is appended") {
  const Folder folder;
  const auto model = load(folder.write("model", tiny_model().gguf().file()));
  auto sequence = exact_sequence(model);
  const std::vector<std::uint32_t> good(8, 1), long_text(9, 1), strange = {1, 5};
  CHECK(tiny_llm::forward(model, sequence, long_text).error().message.find("context of 8") != std::string::npos);
  CHECK(tiny_llm::forward(model, sequence, strange).error().message ==
        "token id 5 at place 1, but the vocabulary has 5");
  CHECK_FALSE(tiny_llm::forward(model, sequence, {}).has_value());
  CHECK(sequence.cache.tokens() == 0);
  CHECK(tiny_llm::forward(model, sequence, good).has_value());
  CHECK_FALSE(tiny_llm::forward(model, sequence, {good.data(), 1}).has_value());
  CHECK(sequence.cache.tokens() == 8);
}

TEST_CASE("a trained model answers as its reference says", "[model]") {
  const char* folder = std::getenv("PQKV_MODEL_DIR");
  if (folder == nullptr) {
    WARN("skipped: PQKV_MODEL_DIR is not set");
    return;
  }
  const std::string in = std::string(folder) + "/";
  const auto model = load(in + "books-3m-f16.gguf");
  for (const std::string name : {"reference_evaluation", "reference_evaluation2"}) {
    INFO(name);
    std::vector<std::uint32_t> tokens;
    const auto ids = pqkv::read_npy_integers(in + name + "_tokens.npy").value();
    for (const std::int64_t id : ids) tokens.push_back(static_cast<std::uint32_t>(id));
    auto sequence = exact_sequence(model);
    const auto logits = tiny_llm::forward(model, sequence, tokens, true).value();
    const auto expected = pqkv::read_npy(in + name + "_logits.npy").value().data;
    double most = 0;
    std::size_t row = 0;
    const auto positions = pqkv::read_npy_integers(in + name + "_positions.npy").value();
    for (const std::int64_t position : positions) {
      for (std::size_t v = 0; v < model.vocabulary; ++v) {
        const double here = static_cast<double>(logits(position, static_cast<Eigen::Index>(v)));
        most = std::max(most, std::fabs(here - static_cast<double>(expected.at(row * model.vocabulary + v))));
      }
      ++row;
    }
    CHECK(row == 11);
    CHECK(most < 2e-3);
    const auto nll = pqkv::read_npy(in + name + "_nll.npy").value().data;
    double difference = 0;
    for (std::size_t t = 0; t < nll.size(); ++t) {
      const auto here = logits.row(static_cast<Eigen::Index>(t)).cast<double>();
      const double top = here.maxCoeff();
      const double log_sum = top + std::log((here.array() - top).exp().sum());
      difference += log_sum - here(static_cast<Eigen::Index>(tokens[t + 1])) - static_cast<double>(nll[t]);
    }
    CHECK(std::fabs(difference) / static_cast<double>(nll.size()) < 1e-4);
  }
}
