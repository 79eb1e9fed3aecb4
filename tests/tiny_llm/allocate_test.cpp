// tiny_llm allocate: bits per head by measured divergence and by rule; and codebooks from the prompt.
#include "tiny_llm/program.hpp"

using namespace pqkv::test;
using namespace pqkv::test::llm_program;

namespace {

/// The last line: one spec per head.
std::string specs_of(const Outcome& outcome) {
  const std::string text = outcome.out.substr(0, outcome.out.size() - 1);
  return text.substr(text.rfind('\n') + 1);
}

}  // namespace

TEST_CASE("allocated specs keep to the budget, and perplexity takes them") {
  const Files in;
  const Words ladder = {"--cache", "k=pq4:m=4,v=pq4:m=4,sinks=2,recent=4", "--cache", "k=pq4:m=8,v=int4:g=16,sinks=2,recent=4"};
  const Words by_rule = in.command("allocate") + ladder;
  const Words allocate = by_rule + Words{"--calibration", in.path("calibration.npy"), "--code-waiting", "1"};
  const auto judged = [&](const std::string& specs) {
    const std::string json = in.path("out.json");
    const Outcome scored = tiny(in.command("perplexity", "evaluation.npy") +
                                Words{"--calibration", in.path("calibration.npy"), "--json", json, "--cache", specs});
    INFO(scored.err);
    REQUIRE(scored.code == 0);
    return objects(read(json)).at(0);
  };
  // At 128 tokens with 6 exact ones of f32: 32·6/128 = 1.5 bits and 122/128 of a codec's 1 (pq4:m=4), 2 (m=8) or 6 (int4).
  const double exact = 32 * 6 / 128.0, rest = 122 / 128.0;
  const Outcome outcome = tiny(allocate + Words{"--bits", "3,3.7", "-o", in.path("specs")});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  const std::string lines = read(in.path("specs"));
  const std::size_t line = lines.find('\n');
  CHECK(specs_of(outcome) + "\n" == lines.substr(line + 1));
  CHECK(outcome.out.find(lines.substr(0, line + 1)) != std::string::npos);
  for (const auto& [bits, specs] : {std::pair{3.0, lines.substr(0, line)}, {3.7, specs_of(outcome)}}) {
    CHECK(std::count(specs.begin(), specs.end(), ';') == 3);
    const auto figures = judged(specs);
    CHECK(field(figures, "bits_all_told") <= bits);
    CHECK(field(figures, "bits_all_told") > exact + rest);
  }
  // Measured on two chunks, trained on the other two.
  CHECK(tiny(allocate + Words{"--bits", "3", "--chunks", "2"}).code == 0);
  // The rules, which need no text: keys of both layers and values of the first, 2 and (6 + 1) / 2 bits; or both sides of the first layer, 4 and 1.
  const std::string coarse = "k=pq4:m=4,v=pq4:m=4,sinks=2,recent=4", fine = "k=pq4:m=8,v=int4:g=16,sinks=2,recent=4";
  const std::string keys = "k=pq4:m=8,v=pq4:m=4,sinks=2,recent=4";
  const auto ruled = [&](const char* rule, double bits) {
    const Outcome ruling = tiny(by_rule + Words{"--bits", std::to_string(exact + rest * bits + 1e-5), "--rule", rule});
    INFO(ruling.err);
    REQUIRE(ruling.code == 0);
    return specs_of(ruling);
  };
  CHECK(ruled("asymmetric", 2.75) == fine + ";" + fine + ";" + keys + ";" + keys);
  CHECK(ruled("boundary", 2.5) == fine + ";" + fine + ";" + coarse + ";" + coarse);
  CHECK(specs_of(tiny(by_rule + Words{"--bits", "9", "--rule", "norms"})) == fine + ";" + fine + ";" + fine + ";" + fine);

  refused(allocate + Words{"--bits", "1"}, "1.000000 bits per element for 8 slots: the smallest formats take 2.453125");
  // What is fitted in front of codes takes no bits, and nothing is trained to know.
  const Words fitted = {"--cache", "k=pq4:m=4:run=32:centre=1:rotate=opq,v=pq4:m=4:fit=1,sinks=2,recent=4",
                        "--cache", "k=nuq2:run=32:centre=1,v=int4:g=16:centre=1,sinks=2,recent=4"};
  const Outcome ruling = tiny(in.command("allocate") + fitted + Words{"--rule", "boundary", "--bits", "3"});
  INFO(ruling.err);
  CHECK(ruling.code == 0);
  CHECK(ruling.out.find("2.45") != std::string::npos);

  refused(by_rule + Words{"--bits", "9"}, "--calibration is missing");
  refused(allocate + Words{"--bits", "9", "--rule", "best"}, "--rule best: choose measured, norms, asymmetric or boundary");
  refused(allocate + Words{"--bits", "9", "--chunks", "4"}, "--chunks 4: the calibration text has 4, some of them to train on");
  refused(in.command("allocate") + Words{"--cache", coarse + ";" + coarse, "--bits", "9"}, "a choice is one spec for all heads");
  refused(in.command("perplexity", "evaluation.npy") + Words{"--cache", coarse + ";" + coarse + ";" + coarse,
                                                             "--calibration", in.path("calibration.npy")},
          "3 specs for 2 layers of 2 kv heads; give one, one per layer or one per head");
}

TEST_CASE("codebooks may come from the prompt, alone or after calibration") {
  const Files in;
  const std::string json = in.path("out.json");
  // The second format shares its keys with the first: they are refined once, not twice.
  const Words words = in.command("perplexity", "evaluation.npy") +
                      Words{"--cache", "k=pq4:m=4,v=exact", "--cache", "k=pq4:m=4,v=exact", "--json", json, "--code-waiting", "1"};
  const auto divergence = [&](const Words& more) {
    const Outcome outcome = tiny(words + more);
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    const auto rows = objects(read(json));
    CHECK(field(rows[0], "kld_mean") == field(rows[1], "kld_mean"));
    return field(rows[0], "kld_mean");
  };
  const Words calibration = {"--calibration", in.path("calibration.npy")};
  const double calibrated = divergence(calibration + Words{"--from", "64"});
  const double prompt = divergence({"--prompt-tokens", "64"});
  const double both = divergence(calibration + Words{"--prompt-tokens", "64"});
  CHECK(prompt > 0);
  CHECK(both > 0);
  CHECK(both != calibrated);
  CHECK(both != prompt);
  refused(words + Words{"--prompt-tokens", "8"}, "8 training rows for 16 centroids");
}
