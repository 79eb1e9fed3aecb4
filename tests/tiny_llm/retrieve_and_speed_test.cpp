// What retrieve and speed measure, and what they print and write.
#include "tiny_llm/llama2c.hpp"
#include "tiny_llm/program.hpp"
#include "tiny_llm/retrieve.hpp"

using namespace pqkv::test;
using namespace pqkv::test::llm_program;

TEST_CASE("speed is measured behind histories that were never run") {
  const Files in;
  const std::string json = in.path("speed.json"), markdown = in.path("speed.md"), svg = in.path("speed.svg");
  const std::string exact = "k=exact:f16,v=exact:f16,window=f16";
  const std::string coded = "k=pq4:m=4:run=32:centre=1,v=pq4:m=4,recent=8,window=f16";  // codebooks come from --tokens
  const Outcome outcome = tiny(in.command("speed", "calibration.npy") +
                               Words{"--cache", exact, "--cache", coded, "--fake-history", "20000,64,64", "-n", "4",
                                     "--json", json, "--markdown", markdown, "--svg", svg});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK(outcome.out.find(" history  cache") == 0);
  const auto rows = objects(read(json));
  REQUIRE(rows.size() == 4);  // ascending histories, each once; every cache behind each
  const Words names = {"policy", "history", "decode_tokens_per_s", "cache_bytes"};
  for (std::size_t row = 0; row < 4; ++row) {
    Words here;
    for (const auto& [name, value] : rows[row]) here.push_back(name);
    CHECK(here == names);
    CHECK(rows[row][0].second == "\"" + (row % 2 == 0 ? exact : coded) + "\"");
    CHECK(field(rows[row], "history") == (row < 2 ? 64 : 20000));
    CHECK(field(rows[row], "decode_tokens_per_s") > 0);
  }
  // 2 layers × 2 heads × 20,000 tokens: 2 × 16 elements of 2 bytes, or 2 × 4 codes of half a byte.
  CHECK(field(rows[2], "cache_bytes") > 4 * 20000 * 64);
  CHECK(field(rows[3], "cache_bytes") > 4 * 20000 * 4);
  CHECK(field(rows[3], "cache_bytes") < 0.2 * field(rows[2], "cache_bytes"));
  CHECK(field(rows[0], "cache_bytes") < field(rows[2], "cache_bytes"));
  const std::string table = read(markdown);
  CHECK(table.starts_with("| # | cache | 64 | 20000 |\n|---|---|---|---|\n| 1 | `" + exact + "` | "));
  CHECK(std::count(table.begin(), table.end(), '\n') == 4);
  CHECK(read(svg).find("aria-label=\"Decoding speed over context\"") != std::string::npos);
}

TEST_CASE("retrieval goes through every length and depth, for every cache") {
  CHECK(tiny_llm::retrieval_lengths(128) == std::vector<std::size_t>{32, 64, 128});
  CHECK(tiny_llm::retrieval_lengths(1024) == std::vector<std::size_t>{256, 512, 1024});
  CHECK(tiny_llm::retrieval_lengths(6000) == std::vector<std::size_t>{1024, 2048, 4096, 6000});
  const Files in;
  const Outcome outcome = tiny(in.command("retrieve", "evaluation.npy") +
                               Words{"--cache", "k=exact:f32,v=exact:f32", "--cache", "k=pq4:m=4,v=int2:g=16", "--calibration",
                                     in.path("calibration.npy"), "--trials", "2", "--markdown", in.path("retrieve.md")});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  // Only 128 tokens have room for a plant: a line per depth under each cache.
  std::istringstream lines(outcome.out);
  std::vector<std::string> numbers;
  for (const char* policy : {"k=exact:f32,v=exact:f32", "k=pq4:m=4,v=int2:g=16"}) {
    std::string line;
    std::getline(lines, line);
    CHECK(line == policy);
    for (const char* depth : {" 10 %", " 50 %", " 90 %"}) {
      std::getline(lines, line);
      INFO(line);
      CHECK(line.starts_with("    104 tokens, depth " + std::string(depth) + ": right token's probability "));
      double probability = 0, rank = -1, gain = 0;
      const char* figures = line.c_str() + line.find("probability");
      CHECK(std::sscanf(figures, "probability %lf, median rank %lf; %lf nats", &probability, &rank, &gain) == 3);
      CHECK((probability > 0 && probability < 1));
      CHECK((rank >= 0 && rank < 263));
      CHECK(gain != 0);
      numbers.push_back(line);
    }
  }
  for (std::size_t i = 0; i < 3; ++i) CHECK(numbers[i] != numbers[i + 3]);
  const std::string table = read(in.path("retrieve.md"));
  CHECK(std::count(table.begin(), table.end(), '\n') == 2 + 6);
  CHECK(table.find("\n| `k=pq4:m=4,v=int2:g=16` | 104 | 90 % | 0.") != std::string::npos);
}

TEST_CASE("rank and probability of the right token are those of the definition") {
  // Of a text that is one token over and over, every plant and every question is the same.
  const Files in;
  RandomModel reference{.type = tiny_llm::TensorType::f16};
  reference.draw();
  const auto model = tiny_llm::load_model(in.path("model.gguf")).value();
  const std::vector<std::uint32_t> text(300, 7);
  const auto cases = tiny_llm::measure_retrieval(model, text, {*pqkv::parse_cache_spec("k=exact:f32,v=exact:f32")}, {}, 1, 1,
                                                 {}, common::Workers(1)).value();
  REQUIRE(cases.size() == 3);
  const auto logits = reference_logits(reference, std::vector<std::uint32_t>(text.begin(), text.begin() + 104 + 23));
  double log_probability = 0;
  std::vector<double> ranks;
  for (std::size_t t = 104 + 11; t < 104 + 23; ++t) {
    double sum = 0, rank = 0;
    for (const double logit : logits[t]) {
      sum += std::exp(logit);
      rank += logit > logits[t][7] ? 1 : 0;
    }
    log_probability += (logits[t][7] - std::log(sum)) / 12;
    ranks.push_back(rank);
  }
  std::sort(ranks.begin(), ranks.end());
  for (const tiny_llm::Retrieval& one : cases) {
    CHECK(std::fabs(one.probability / std::exp(log_probability) - 1) < 1e-3);
    CHECK(one.median_rank == ranks[6]);
    CHECK(std::fabs(one.gain) < 1e-6);
  }
}
