// What the commands have in common: the model, texts as chunks of token ids, codebooks, and files of results. Everything
// that a user can get wrong is checked here, before anything is computed.
#pragma once

#include <pqkv/io/npy.hpp>

#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tiny_llm/arguments.hpp"
#include "tiny_llm/calibration.hpp"
#include "tiny_llm/llama2c.hpp"

namespace tiny_llm {

/// What most commands begin with.
struct Session {
  Model model;
  common::Workers workers{1};
  std::uint64_t seed = 1;
};

[[nodiscard]] inline pqkv::Result<Session> open_session(const Arguments& arguments) {
  const auto path = arguments.required("--model");
  if (!path) return path.error();
  const auto threads = arguments.whole("--threads", std::max(1u, std::thread::hardware_concurrency()));
  if (!threads) return threads.error();
  if (*threads < 1 || *threads > 1024) return Arguments::bad("--threads: 1 to 1024");
  const auto seed = arguments.whole("--seed", 1);
  if (!seed) return seed.error();
  auto model = load_model(*path, arguments.text("--tokenizer"));
  if (!model) return model.error();
  return Session{std::move(*model), common::Workers(*threads), *seed};
}

/// Token ids from a .npy file, every one in the vocabulary.
[[nodiscard]] inline pqkv::Result<std::vector<std::uint32_t>> read_tokens(const std::string& path, const Model& model) {
  const auto ids = pqkv::read_npy_integers(path);
  if (!ids) return ids.error();
  std::vector<std::uint32_t> tokens;
  for (const std::int64_t id : *ids) {
    if (id < 0 || static_cast<std::uint64_t>(id) >= model.vocabulary) {
      return pqkv::Error{pqkv::Errc::bad_file, pqkv::message(path, ": token id ", id, " at place ", tokens.size(),
                                                             ", but the vocabulary has ", model.vocabulary)};
    }
    tokens.push_back(static_cast<std::uint32_t>(id));
  }
  return tokens;
}

struct ChunkedText {
  std::vector<std::uint32_t> tokens;
  std::vector<std::span<const std::uint32_t>> chunks;
};

/// --context, or the model's. Errors: invalid_parameter.
[[nodiscard]] inline pqkv::Result<std::size_t> context_of(const Arguments& arguments, const Model& model) {
  const auto context = arguments.whole("--context", model.context);
  if (context && (*context < 2 || *context > model.context)) {
    return Arguments::bad("--context ", *context, " is not in 2..", model.context, ", the model's context");
  }
  return context;
}

[[nodiscard]] inline pqkv::Result<ChunkedText> read_chunks(const Arguments& arguments, const std::string& flag,
                                                           const Model& model, std::size_t default_chunks) {
  const auto path = arguments.required(flag);
  if (!path) return path.error();
  const auto context = context_of(arguments, model);
  if (!context) return context.error();
  const auto count = arguments.whole("--chunks", default_chunks);
  if (!count) return count.error();
  auto tokens = read_tokens(*path, model);
  if (!tokens) return tokens.error();
  ChunkedText text{std::move(*tokens), {}};
  text.chunks = chunks_of(text.tokens, *context, *count);
  if (text.chunks.empty()) {
    return pqkv::Error{pqkv::Errc::bad_file,
                       pqkv::message(*path, ": ", text.tokens.size(), " tokens make no chunk of ", *context)};
  }
  return text;
}

/// Trains what the caches need and `books` lacks. `rows` come from chunks of `context` tokens.
[[nodiscard]] inline pqkv::Status train_books(Books& books, const Session& session, const std::vector<LayerSpecs>& caches,
                                              const CollectedRows& rows,
                                              common::ProgressBar* progress = nullptr) {
  for (const LayerSpecs& specs : caches) {
    if (pqkv::Status status = books.train(session.model, specs, rows, session.seed, session.workers, progress);
        !status) {
      return status;
    }
  }
  return {};
}

/// Codebooks for the caches: from a folder, trained on a text, or none when none are needed.
[[nodiscard]] inline pqkv::Result<Books> find_books(const Arguments& arguments, const Session& session,
                                                    const std::vector<LayerSpecs>& caches) {
  Books books;
  if (arguments.has("--codebooks")) {
    auto loaded = Books::load(arguments.text("--codebooks"));
    if (!loaded) return loaded.error();
    books = std::move(*loaded);
  }
  if (!arguments.has("--calibration")) return books;
  auto tokens = read_tokens(arguments.text("--calibration"), session.model);
  if (!tokens) return tokens.error();
  const auto rows = collect_rows(session.model, chunks_of(*tokens, session.model.context, all_chunks), session.workers, true);
  if (!rows) return rows.error();
  if (pqkv::Status status = train_books(books, session, caches, *rows); !status) return status.error();
  return books;
}

[[nodiscard]] inline pqkv::Result<pqkv::AttendOptions> attend_options(const Arguments& arguments) {
  const std::string waiting = arguments.text("--code-waiting", "0");
  if (waiting != "0" && waiting != "1") return Arguments::bad("--code-waiting ", waiting, ": choose 0 or 1");
  pqkv::AttendOptions options;
  options.code_waiting = waiting == "1";
  return options;
}

/// A spec must make a cache before anything is computed.
[[nodiscard]] inline pqkv::Status check_caches(const Model& model, const std::vector<LayerSpecs>& caches, const Books& books) {
  for (const LayerSpecs& specs : caches) {
    if (auto sequence = make_sequence(model, specs, books.source(), 1, 1); !sequence) {
      return pqkv::Error{sequence.error().code, pqkv::message(specs.front().text, ": ", sequence.error().message)};
    }
  }
  return {};
}

/// Writes `text` to the file that a flag names, if it was given.
[[nodiscard]] inline pqkv::Status write_result(const Arguments& arguments, const std::string& flag, const std::string& text) {
  if (!arguments.has(flag)) return {};
  std::ofstream file(arguments.text(flag), std::ios::binary);
  file << text;
  if (!file.flush()) return Arguments::bad(arguments.text(flag), ": cannot be written");
  return {};
}

}  // namespace tiny_llm
