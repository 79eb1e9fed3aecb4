// The commands of tiny_llm, from arguments to exit code.
#pragma once

#include <pqkv/io/npy.hpp>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "common/instruction_set.hpp"
#include "tiny_llm/allocate.hpp"
#include "tiny_llm/retrieve.hpp"
#include "tiny_llm/sampling.hpp"
#include "tiny_llm/session.hpp"
#include "tiny_llm/speed.hpp"

namespace tiny_llm {

inline constexpr int exit_ok = 0;
inline constexpr int exit_bad_input = 2;

[[nodiscard]] inline pqkv::Status generate(const Arguments& arguments, std::FILE* out) {
  const auto session = open_session(arguments);
  if (!session) return session.error();
  const Model& model = session->model;
  const auto caches = arguments.caches("k=exact:f16,v=exact:f16");
  if (!caches) return caches.error();
  const auto books = find_books(arguments, *session, *caches);
  if (!books) return books.error();
  const auto count = arguments.whole("-n", 100);
  const auto temperature = arguments.real("--temperature", 0.8);
  const auto top_p = arguments.real("--top-p", 0.95);
  for (const pqkv::Error* error : {count ? nullptr : &count.error(), temperature ? nullptr : &temperature.error(),
                                   top_p ? nullptr : &top_p.error()}) {
    if (error != nullptr) return *error;
  }
  std::string prompt = arguments.text("--prompt");
  if (arguments.has("--prompt-file")) {
    std::ifstream file(arguments.text("--prompt-file"), std::ios::binary);
    if (!file) return Arguments::bad(arguments.text("--prompt-file"), ": cannot be opened");
    std::stringstream text;
    text << file.rdbuf();
    prompt = text.str();
  }
  if (prompt.empty()) return Arguments::bad("no prompt: give --prompt or --prompt-file");
  const auto tokenizer = Tokenizer::make(model.tokens);
  if (!tokenizer) return tokenizer.error();
  std::vector<std::uint32_t> tokens = tokenizer->encode(prompt);
  if (tokenizer->add_bos() && tokenizer->bos() >= 0) tokens.insert(tokens.begin(), static_cast<std::uint32_t>(tokenizer->bos()));
  if (tokens.size() >= model.context) {
    return Arguments::bad("the prompt's ", tokens.size(), " tokens leave no room in a context of ", model.context);
  }
  auto sequence = make_sequence(model, caches->front(), books->source(), session->workers.workers());
  if (!sequence) return sequence.error();

  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); };
  std::fputs(prompt.c_str(), out);
  auto start = Clock::now();
  auto logits = forward(model, *sequence, tokens, false, {}, {}, session->workers);
  if (!logits) return logits.error();
  const double prefill = seconds_since(start);
  pqkv::Random random(session->seed);
  start = Clock::now();
  std::size_t made = 0;
  while (made < *count && sequence->position < model.context) {
    const std::uint32_t next = sample(logits->data(), model.vocabulary, *temperature, *top_p, random);
    if (static_cast<std::int64_t>(next) == tokenizer->eos()) break;
    std::fputs(tokenizer->decode(next).c_str(), out);
    std::fflush(out);
    ++made;
    logits = forward(model, *sequence, {&next, 1});
    if (!logits) return logits.error();
  }
  const double decode = seconds_since(start);
  fmt::print(out, "\n\nprefill {} tokens, {:.0f} tokens/s; decode {} tokens, {:.0f} tokens/s; cache {} bytes ({})\n",
             tokens.size(), static_cast<double>(tokens.size()) / prefill, made,
             static_cast<double>(made) / std::max(decode, 1e-9), sequence->cache.bytes(), sequence->cache.describe());
  return {};
}

[[nodiscard]] inline pqkv::Status perplexity(const Arguments& arguments, std::FILE* out) {
  const auto caches = arguments.caches();
  if (!caches) return caches.error();
  const auto prompt = arguments.whole("--prompt-tokens", 0);
  if (!prompt) return prompt.error();
  const auto from = arguments.whole("--from", *prompt);
  if (!from) return from.error();
  const auto options = attend_options(arguments);
  if (!options) return options.error();
  const auto session = open_session(arguments);
  if (!session) return session.error();
  const auto text = read_chunks(arguments, "--tokens", session->model, 40);
  if (!text) return text.error();
  if (*from + 1 >= text->chunks.front().size()) {
    return Arguments::bad("--from ", *from, " leaves nothing to score in chunks of ", text->chunks.front().size());
  }
  const auto books = find_books(arguments, *session, *caches);
  if (!books) return books.error();
  const bool waits = *prompt != 0 && books->size() == 0;  // for each text to train its own
  if (pqkv::Status status = waits ? pqkv::Status() : check_caches(session->model, *caches, *books); !status) return status;
  common::ProgressBar progress(text->chunks.size() * caches->size());
  const auto results = measure_perplexity(session->model, text->chunks, *caches, *books, *prompt, *from, *options,
                                          session->workers, &progress);
  if (!results) return results.error();
  fmt::print(out, "{} chunks of {} tokens, scored from position {}\n\n{}", text->chunks.size(),
             text->chunks.front().size(), *from, table_text(*results));
  if (pqkv::Status status = write_result(arguments, "--json", json_text(*results)); !status) return status;
  if (pqkv::Status status = write_result(arguments, "--markdown", markdown_text(*results)); !status) return status;
  return write_result(arguments, "--svg", plot_of(*results).file());
}

[[nodiscard]] inline pqkv::Status calibrate(const Arguments& arguments, std::FILE* out) {
  const auto folder = arguments.required("-o");
  if (!folder) return folder.error();
  const auto caches = arguments.caches();
  if (!caches) return caches.error();
  const auto session = open_session(arguments);
  if (!session) return session.error();
  const auto text = read_chunks(arguments, "--tokens", session->model, all_chunks);
  if (!text) return text.error();
  const auto rows = collect_rows(session->model, text->chunks, session->workers, true);
  if (!rows) return rows.error();
  Books books;
  common::ProgressBar progress(caches->size() * 2 * session->model.layers_count * session->model.kv_heads);
  const std::size_t context = text->chunks.front().size();
  if (pqkv::Status status = train_books(books, *session, *caches, *rows, &progress); !status) return status;
  if (pqkv::Status status = books.save(*folder); !status) return status;
  fmt::print(out, "{} codebooks from {} tokens in {}\n", books.size(), text->chunks.size() * context, *folder);
  return {};
}

/// The ladder's slots with what each choice causes on the last chunks of the calibration text; the others train its codebooks.
[[nodiscard]] inline pqkv::Result<Slots> measured_slots(const Arguments& arguments, const Session& session,
                                                        const std::vector<LayerSpecs>& ladder, std::size_t context) {
  const auto path = arguments.required("--calibration");
  if (!path) return path.error();
  const auto count = arguments.whole("--chunks", 1);
  if (!count) return count.error();
  const auto options = attend_options(arguments);
  if (!options) return options.error();
  const Model& model = session.model;
  const auto tokens = read_tokens(*path, model);
  if (!tokens) return tokens.error();
  const auto chunks = chunks_of(*tokens, context, all_chunks);
  if (*count == 0 || *count >= chunks.size()) {
    return Arguments::bad("--chunks ", *count, ": the calibration text has ", chunks.size(), ", some of them to train on");
  }
  const auto split = chunks.end() - static_cast<std::ptrdiff_t>(*count);
  const auto rows = collect_rows(model, {chunks.begin(), split}, session.workers, true);
  if (!rows) return rows.error();
  Books books;
  common::ProgressBar training(ladder.size() * 2 * model.layers_count * model.kv_heads);
  if (pqkv::Status status = train_books(books, session, ladder, *rows, &training); !status) return status.error();
  auto slots = slots_of(model, ladder, books.source(), context);
  if (!slots) return slots.error();
  common::ProgressBar measuring(slots->size() * ladder.size() * *count);
  const pqkv::Status status =
      measure_slots(model, {split, chunks.end()}, ladder, books, *options, session.workers, &measuring, *slots);
  if (!status) return status.error();
  return slots;
}

[[nodiscard]] inline pqkv::Status allocate(const Arguments& arguments, std::FILE* out) {
  const auto ladder = arguments.caches();
  if (!ladder) return ladder.error();
  const auto budgets = arguments.reals("--bits");
  if (!budgets) return budgets.error();
  const std::string rule = arguments.text("--rule", "measured");
  for (const LayerSpecs& specs : *ladder) {
    if (specs.size() != 1) return Arguments::bad("--cache ", text_of(specs), ": a choice is one spec for all heads");
  }
  const auto session = open_session(arguments);
  if (!session) return session.error();
  const Model& model = session->model;
  const auto context = context_of(arguments, model);
  if (!context) return context.error();
  const auto slots = rule == "measured" ? measured_slots(arguments, *session, *ladder, *context)
                                        : slots_of(model, *ladder, untrained_codebooks(model), *context);
  if (!slots) return slots.error();
  std::string lines;
  for (const double bits : *budgets) {
    const auto chosen = rule == "measured" ? pqkv::allocate_bits(*slots, bits) : allocate_by_rule(model, *slots, rule, bits);
    if (!chosen) return chosen.error();
    const std::string specs = allocated_text(*ladder, *chosen);
    fmt::print(out, "{}\n{}\n", table_text(model, *slots, *chosen), specs);
    lines += specs + "\n";
  }
  return write_result(arguments, "-o", lines);
}

/// queries.npy, keys.npy and values.npy, [layers, heads, tokens, dim], f16, of one chunk; chunk c > 0 as queries_c.npy …
[[nodiscard]] inline pqkv::Status dump(const Arguments& arguments, std::FILE* out) {
  const auto folder = arguments.required("-o");
  if (!folder) return folder.error();
  const auto session = open_session(arguments);
  if (!session) return session.error();
  const auto text = read_chunks(arguments, "--tokens", session->model, 1);
  if (!text) return text.error();
  std::error_code error;
  std::filesystem::create_directories(*folder, error);
  if (error) return Arguments::bad(*folder, ": cannot be created");
  const Model& model = session->model;
  for (std::size_t c = 0; c < text->chunks.size(); ++c) {
    const auto rows = collect_rows(model, {text->chunks[c]}, session->workers);
    if (!rows) return rows.error();
    const std::size_t tokens = text->chunks[c].size();
    const auto write = [&](const std::string& name, std::size_t heads_per_head, std::vector<float> HeadRows::*side) {
      std::vector<float> data;
      for (const HeadRows& head : rows->heads) {
        for (std::size_t h = 0; h < heads_per_head; ++h) {
          for (std::size_t t = 0; t < tokens; ++t) {
            const float* row = (head.*side).data() + (t * heads_per_head + h) * model.dim;
            data.insert(data.end(), row, row + model.dim);
          }
        }
      }
      const std::size_t shape[] = {model.layers_count, model.kv_heads * heads_per_head, tokens, model.dim};
      const std::string suffix = c == 0 ? "" : pqkv::message("_", c);
      return pqkv::write_npy(*folder + "/" + name + suffix + ".npy", shape, data, pqkv::ScalarType::f16);
    };
    if (pqkv::Status status = write("queries", model.group(), &HeadRows::queries); !status) return status;
    if (pqkv::Status status = write("keys", 1, &HeadRows::keys); !status) return status;
    if (pqkv::Status status = write("values", 1, &HeadRows::values); !status) return status;
  }
  fmt::print(out, "{} × queries, keys and values of {} tokens in {}\n", text->chunks.size(), text->chunks.front().size(),
             *folder);
  return {};
}

[[nodiscard]] inline pqkv::Status retrieve(const Arguments& arguments, std::FILE* out) {
  const auto caches = arguments.caches();
  if (!caches) return caches.error();
  const auto trials = arguments.whole("--trials", 8);
  if (!trials) return trials.error();
  if (*trials == 0) return Arguments::bad("--trials 0");
  const auto options = attend_options(arguments);
  if (!options) return options.error();
  const auto session = open_session(arguments);
  if (!session) return session.error();
  const auto path = arguments.required("--tokens");
  if (!path) return path.error();
  const auto tokens = read_tokens(*path, session->model);
  if (!tokens) return tokens.error();
  const auto books = find_books(arguments, *session, *caches);
  if (!books) return books.error();
  if (pqkv::Status status = check_caches(session->model, *caches, *books); !status) return status;
  std::vector<std::pair<std::string, std::vector<Retrieval>>> results;
  for (const LayerSpecs& specs : *caches) {
    auto cases = measure_retrieval(session->model, *tokens, specs, books->source(), *trials, session->seed, *options,
                                   session->workers);
    if (!cases) return cases.error();
    fmt::print(out, "{}", table_text(short_text_of(specs), *cases));
    std::fflush(out);
    results.emplace_back(short_text_of(specs), std::move(*cases));
  }
  return write_result(arguments, "--markdown", markdown_text(results));
}

[[nodiscard]] inline pqkv::Status speed(const Arguments& arguments, std::FILE* out) {
  const auto caches = arguments.caches();
  if (!caches) return caches.error();
  const auto count = arguments.whole("-n", 20);
  if (!count) return count.error();
  if (*count == 0) return Arguments::bad("-n 0");
  std::vector<std::size_t> histories;
  const std::string list = arguments.text("--fake-history", "4096,16384,65536,262144");
  for (const std::string_view text : pqkv::detail::split(list, ',')) {
    const auto history = pqkv::parse_number(text, "--fake-history");
    if (!history) return history.error();
    if (*history < 1 || *history > most_fake_tokens) {
      return Arguments::bad("--fake-history ", *history, ": choose 1 to ", most_fake_tokens, " tokens");
    }
    histories.push_back(*history);
  }
  const auto session = open_session(arguments);
  if (!session) return session.error();
  const auto text = read_chunks(arguments, "--tokens", session->model, 16);
  if (!text) return text.error();
  const auto rows = collect_rows(session->model, text->chunks, session->workers, true);
  if (!rows) return rows.error();
  auto books = find_books(arguments, *session, *caches);
  if (!books) return books.error();
  if (!arguments.has("--codebooks")) {
    const pqkv::Status status = train_books(*books, *session, *caches, *rows);
    if (!status) return status;
  }
  if (pqkv::Status status = check_caches(session->model, *caches, *books); !status) return status;
  common::ProgressBar progress(histories.size() * caches->size());
  const auto results = measure_speed(session->model, *rows, *caches, books->source(), histories, *count, session->seed,
                                     session->workers, &progress);
  if (!results) return results.error();
  fmt::print(out, "{}", table_text(*results));
  if (pqkv::Status status = write_result(arguments, "--json", json_text(*results)); !status) return status;
  if (pqkv::Status status = write_result(arguments, "--markdown", markdown_text(*results)); !status) return status;
  return write_result(arguments, "--svg", plot_of(*results).file());
}

/// The whole program.
[[nodiscard]] inline int run(const std::vector<std::string>& words, std::FILE* out, std::FILE* err) {
  common::say_unmet_instruction_set(err);
  struct Command {
    std::string_view name;
    std::string_view flags;
    pqkv::Status (*call)(const Arguments&, std::FILE*);
  };
  static constexpr Command commands[] = {
      {"generate", "--model --tokenizer --prompt --prompt-file --cache --codebooks --calibration -n --temperature --top-p --seed "
                   "--threads", generate},
      {"perplexity", "--model --tokens --cache --codebooks --calibration --context --chunks --from --prompt-tokens --json --markdown --svg "
                     "--code-waiting --seed --threads", perplexity},
      {"allocate", "--model --calibration --cache --bits --rule --context --chunks --code-waiting -o --seed --threads", allocate},
      {"calibrate", "--model --tokens --cache -o --context --chunks --seed --threads", calibrate},
      {"dump", "--model --tokens -o --context --chunks --seed --threads", dump},
      {"retrieve", "--model --tokens --cache --codebooks --calibration --trials --code-waiting --markdown --seed --threads",
       retrieve},
      {"speed", "--model --tokens --cache --codebooks --fake-history -n --context --chunks --json --markdown --svg --seed "
                "--threads", speed},
  };
  if (words.empty() || words[0] == "--help" || words[0] == "-h") {
    std::fputs(std::string(usage).c_str(), words.empty() ? err : out);
    return words.empty() ? exit_bad_input : exit_ok;
  }
  for (const Command& command : commands) {
    if (command.name != words[0]) continue;
    const auto arguments = Arguments::parse({words.begin() + 1, words.end()}, command.flags);
    const pqkv::Status status = arguments ? command.call(*arguments, out) : arguments.error();
    if (status) return exit_ok;
    std::fprintf(err, "tiny_llm %s: %s\n", words[0].c_str(), status.error().message.c_str());
    return exit_bad_input;
  }
  std::fprintf(err, "tiny_llm: unknown command '%s'; see --help\n", words[0].c_str());
  return exit_bad_input;
}

}  // namespace tiny_llm
