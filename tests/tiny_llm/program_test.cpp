// tiny_llm from a model's file to its figures: calibrate → perplexity → generate → dump (read back by kv_report), and every
// argument that is refused.
#include "kv_report/program.hpp"
#include "tiny_llm/program.hpp"

using namespace pqkv::test;
using namespace pqkv::test::llm_program;

TEST_CASE("a model from its file to its figures") {
  const Files in;
  const std::string books = in.path("books"), json = in.path("out.json");
  const Words specs = {"--cache", "k=exact:f32,v=exact:f32",
                       "--cache", "k=pq4:m=8,v=int8:g=16,sinks=2,recent=8,window=f16",
                       "--cache", "k=pq8:m=2,v=pq4:m=4"};
  const Outcome calibrated = tiny(in.command("calibrate", "calibration.npy") + specs + Words{"-o", books});
  INFO(calibrated.err);
  REQUIRE(calibrated.code == 0);
  // pq4 keys, pq8 keys, pq4 values × 2 layers × 2 heads
  CHECK(calibrated.out == "12 codebooks from 512 tokens in " + books + "\n");

  const Words perplexity = in.command("perplexity", "evaluation.npy") + specs + Words{"--json", json};
  const Outcome judged = tiny(perplexity + Words{"--codebooks", books});
  INFO(judged.err);
  REQUIRE(judged.code == 0);
  CHECK(judged.out.find("3 chunks of 128 tokens, scored from position 0") == 0);
  CHECK(judged.err.empty());
  const std::string first_json = read(json);
  const auto rows = objects(first_json);
  REQUIRE(rows.size() == 3);
  const Words names = {"policy", "mean_nll", "perplexity", "perplexity_stderr", "perplexity_change", "kld_mean",
                       "kld_p99", "top1_equal", "key_bits", "value_bits", "bits_all_told", "decode_tokens_per_s",
                       "cache_bytes"};
  for (std::size_t row = 0; row < rows.size(); ++row) {
    Words here;
    for (const auto& [name, value] : rows[row]) here.push_back(name);
    CHECK(here == names);
    CHECK(rows[row][0].second == "\"" + specs[2 * row + 1] + "\"");
    for (std::size_t i = 1; i < names.size(); ++i) CHECK(std::isfinite(field(rows[row], names[i])));
    CHECK(std::fabs(std::exp(field(rows[row], "mean_nll")) / field(rows[row], "perplexity") - 1) < 1e-12);
  }
  CHECK(field(rows[0], "kld_mean") < 1e-9);
  CHECK(std::fabs(field(rows[0], "perplexity_change")) < 1e-4 * field(rows[0], "perplexity"));
  CHECK(field(rows[0], "top1_equal") == 1);
  CHECK(field(rows[0], "bits_all_told") == 32);
  for (std::size_t row = 1; row < 3; ++row) {
    CHECK(field(rows[row], "kld_mean") > 0);
    CHECK(field(rows[row], "kld_p99") > field(rows[row], "kld_mean"));
    CHECK(field(rows[row], "top1_equal") < 1);
  }
  CHECK(field(rows[1], "kld_mean") < field(rows[2], "kld_mean"));
  CHECK(field(rows[1], "key_bits") == (10 * 16 + 118 * 2) / 128.0);
  CHECK(field(rows[2], "key_bits") == 1);
  CHECK(field(rows[2], "value_bits") == 1);
  CHECK(field(rows[2], "cache_bytes") > 0);

  // Codebooks trained there and then are those of the folder; one thread gives the figures of two.
  REQUIRE(tiny(perplexity + Words{"--calibration", in.path("calibration.npy")}).code == 0);
  const auto again = objects(read(json));
  for (const char* name : {"mean_nll", "kld_mean", "kld_p99", "key_bits"}) {
    CHECK(field(again[2], name) == field(rows[2], name));
  }
}

TEST_CASE("perplexity is that of the definition, and of the positions asked for") {
  const Files in;
  const std::string json = in.path("out.json");
  RandomModel model{.type = tiny_llm::TensorType::f16};
  model.draw();
  const auto ids = pqkv::read_npy_integers(in.path("evaluation.npy")).value();
  double sum = 0;
  for (std::size_t chunk = 0; chunk < 2; ++chunk) {
    const std::vector<std::uint32_t> tokens(ids.begin() + static_cast<std::ptrdiff_t>(chunk * 50),
                                            ids.begin() + static_cast<std::ptrdiff_t>(chunk * 50 + 50));
    const Rows64 logits = reference_logits(model, tokens);
    for (std::size_t t = 10; t + 1 < tokens.size(); ++t) {
      double all = 0;
      for (const double logit : logits[t]) all += std::exp(logit);
      sum += std::log(all) - logits[t][tokens[t + 1]];
    }
  }
  const Words words = in.command("perplexity", "evaluation.npy") +
                      Words{"--cache", "k=exact:f32,v=exact:f32;k=exact:f16,v=exact:f16", "--context", "50", "--chunks",
                            "2", "--from", "10", "--json", json};
  REQUIRE(tiny(words).code == 0);
  const auto rows = objects(read(json));
  REQUIRE(rows.size() == 1);
  CHECK(std::fabs(field(rows[0], "mean_nll") - sum / (2 * 39)) < 1e-3);
  CHECK(field(rows[0], "bits_all_told") == 24);  // one spec per layer
  // With every token waiting for its block, code-waiting 0 is exact and 1 is not.
  const Words short_text = in.command("perplexity", "evaluation.npy") +
                           Words{"--cache", "k=pq4:m=4,v=exact:f32", "--context", "31", "--calibration",
                                 in.path("calibration.npy"), "--json", json};
  REQUIRE(tiny(short_text).code == 0);
  CHECK(field(objects(read(json)).at(0), "kld_mean") < 1e-9);
  REQUIRE(tiny(short_text + Words{"--code-waiting", "1"}).code == 0);
  CHECK(field(objects(read(json)).at(0), "kld_mean") > 1e-3);
}

TEST_CASE("text is generated, and temperature 0 repeats itself") {
  const Files in;
  const Words words = in.command("generate") + Words{"--prompt", "then on the", "-n", "20", "--cache",
                                                     "k=exact:f16,v=int4:g=16,sinks=2,recent=4"};
  const auto text_of = [](const Outcome& outcome) { return outcome.out.substr(0, outcome.out.rfind("\n\nprefill ")); };
  const Outcome first = tiny(words + Words{"--temperature", "0"});
  INFO(first.err);
  REQUIRE(first.code == 0);
  CHECK(first.out.starts_with("then on the"));
  CHECK(first.out.find("prefill 6 tokens, ") != std::string::npos);  // the|n| |on| |the, by the model's merges
  CHECK(first.out.find(" tokens/s; decode 20 tokens, ") != std::string::npos);
  CHECK(first.out.find(" bytes (2 layers × 2 kv heads × dim 16, k=exact:f16,v=int4") != std::string::npos);
  CHECK(text_of(tiny(words + Words{"--temperature", "0"})) == text_of(first));
  const Words hot = words + Words{"--temperature", "3", "--seed", "5"};
  CHECK(text_of(tiny(hot)) == text_of(tiny(hot)));
  CHECK(text_of(tiny(hot)) != text_of(first));
  std::ofstream(in.path("prompt.txt")) << "then on the";
  const Words from_file = in.command("generate") + Words{"--prompt-file", in.path("prompt.txt"), "-n", "0"};
  CHECK(text_of(tiny(from_file)) == "then on the");
  // It ends where the context does, if it does not end by itself.
  const Outcome long_run = tiny(in.command("generate") + Words{"--prompt", "then on the", "-n", "1000"});
  CHECK(long_run.code == 0);
  CHECK(std::stoul(long_run.out.substr(long_run.out.rfind("decode ") + 7)) <= 122);
}

TEST_CASE("kv_report reads what dump writes") {
  const Files in;
  const std::string folder = in.path("dumped");
  const Words dump = in.command("dump", "evaluation.npy") + Words{"-o", folder, "--chunks", "2", "--context", "64"};
  REQUIRE(tiny(dump).code == 0);
  const auto queries = pqkv::read_npy(folder + "/queries.npy").value();
  CHECK(queries.shape == std::vector<std::size_t>{2, 4, 64, 16});
  CHECK(pqkv::read_npy(folder + "/values_1.npy").value().shape == std::vector<std::size_t>{2, 2, 64, 16});
  const Outcome report = report_program::run({"--queries", folder + "/queries.npy", "--keys", folder + "/keys.npy",
                                              "--values", folder + "/values.npy", "--policy", "k=pq4:m=4,v=int8:g=16"});
  INFO(report.err);
  CHECK(report.code == 0);
  CHECK(report.out.find("2 layers, 4 query heads on 2 kv heads, dim 16; 1 text of 64 tokens") != std::string::npos);
}

TEST_CASE("arguments that cannot be used are refused with exit code 2 before anything is printed") {
  const Files in;
  const Words exact = {"--cache", "k=exact:f32,v=exact:f32"};
  const Words perplexity = in.command("perplexity", "evaluation.npy");
  CHECK(tiny({"--help"}).code == 0);
  CHECK(tiny({"--help"}).out.find("tiny_llm perplexity") != std::string::npos);
  CHECK(tiny({}).code == 2);
  refused({"train"}, "unknown command 'train'");
  refused({"generate", "--modle", "x"}, "unknown argument '--modle' here; it takes --model");
  refused({"generate", "--model"}, "--model needs a value");
  refused({"generate", "--prompt", "a"}, "--model is missing");
  refused({"generate", "--model", in.path("nothing"), "--prompt", "a"}, "nothing: cannot be opened");
  refused({"generate", "--model", in.path("model.bin"), "--prompt", "a"}, "unknown tokenizer model");
  refused(in.command("generate"), "no prompt");
  refused(in.command("generate") + Words{"--prompt", std::string(500, 'q')},
          "500 tokens leave no room in a context of 128");
  refused(in.command("generate") + Words{"--prompt", "a", "-n", "many"}, "'many' is not a number");
  refused(in.command("generate") + Words{"--prompt", "a", "--temperature", "-1"},
          "--temperature: '-1' is not a number ≥ 0");
  refused(in.command("generate") + Words{"--prompt", "a", "--threads", "3"}, "--threads is given twice");
  refused(perplexity, "--cache is missing");
  refused(perplexity + Words{"--cache", "k=magic,v=exact"}, "unknown key format 'magic'");
  refused(perplexity + Words{"--cache", "k=exact"}, "has no value format");
  refused(perplexity + Words{"--cache", "k=pq4:m=4,v=exact"},
          "needs a codebook of dim 16 with 4 subspaces of 16 centroids");
  refused(perplexity + Words{"--cache", "k=pq4:m=3,v=exact"}, "pq4");
  refused(perplexity + exact + Words{"--codebooks", in.path("nothing")}, "nothing: cannot be read");
  refused(perplexity + exact + Words{"--codebooks", in.folder.string()}, "holds no codebooks");
  refused(perplexity + exact + Words{"--context", "129"}, "--context 129 is not in 2..128, the model's context");
  refused(perplexity + exact + Words{"--from", "127"}, "--from 127 leaves nothing to score");
  refused(in.command("perplexity") + exact, "--tokens is missing");
  refused(perplexity + exact + Words{"--code-waiting", "yes"}, "--code-waiting yes: choose 0 or 1");
  const Words speed = in.command("speed", "evaluation.npy") + exact;
  refused(speed + Words{"--fake-history", "x"}, "'x' is not a number for --fake-history");
  refused(speed + Words{"--fake-history", "64,"}, "'' is not a number for --fake-history");
  refused(speed + Words{"--fake-history", "64,0"}, "--fake-history 0: choose 1 to 16777216 tokens");
  refused(speed + Words{"--fake-history", "99999999"}, "--fake-history 99999999: choose 1 to 16777216 tokens");
  refused(speed + Words{"-n", "0"}, "-n 0");
  refused(in.command("speed", "evaluation.npy") + Words{"--cache", "k=pq4:m=3,v=exact"}, "does not split into 3");
  refused(in.command("retrieve", "evaluation.npy") + exact + Words{"--trials", "0"}, "--trials 0");
  in.write_tokens("few.npy", 100, 1, 262);
  refused(in.command("perplexity", "few.npy") + exact, "100 tokens make no chunk of 128");
  in.write_tokens("strange.npy", 500, 1, 400);
  for (const char* command : {"perplexity", "calibrate", "dump", "retrieve", "speed"}) {
    Words words = in.command(command, "strange.npy");
    if (words[0] != "dump") words = words + exact;
    if (words[0] == "calibrate" || words[0] == "dump") words = words + Words{"-o", in.path("books")};
    refused(words, ", but the vocabulary has 263");
  }
  std::string negative = read(in.path("strange.npy"));
  negative.replace(negative.find("<u2"), 3, "<i4");
  negative.replace(negative.find("(500,)"), 6, "(250,)");
  negative.replace(negative.size() - 4, 4, std::string("\xfe\xff\xff\xff"));
  for (std::size_t i = negative.size() - 1000; i + 4 < negative.size(); ++i) negative[i] = 0;
  std::ofstream(in.path("negative.npy"), std::ios::binary) << negative;
  refused(in.command("perplexity", "negative.npy") + exact, "token id -2 at place 249, but the vocabulary has 263");
  in.write_tokens("short.npy", 90, 1, 262);
  refused(in.command("retrieve", "short.npy") + exact, "a text of 90 tokens or a context of 128 is too short");
  CHECK_FALSE(files::exists(in.path("books")));
}
