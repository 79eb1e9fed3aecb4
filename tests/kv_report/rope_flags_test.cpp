// --rope-theta, --rope-pairing and --rope-dims of kv_report.
#include "kv_report/program.hpp"
#include "pqkv/codec/rope.hpp"

using namespace pqkv::test;
using namespace pqkv::test::report_program;

TEST_CASE("the model's RoPE is what the flags say, and policies with runs need it") {
  // Keys that are one row turned to each position: as those flags have it, every run looks the same.
  const Files inputs;
  const std::string json = (inputs.folder / "out.json").string();
  const auto error_with = [&](const std::string& keys, const std::vector<std::string>& flags, const std::string& policy) {
    const std::vector<std::string> rest = {"--policy", policy, "--json", json};
    const Outcome outcome = run(inputs.arguments("q", keys, "v") + flags + rest);
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    return parse(read(json)).at(0).at("output_relative_error");
  };
  const auto write_turned = [&](const std::string& name, const pqkv::Rope& rope) {
    std::vector<float> rows;
    const auto row = normal_floats(16, 8);
    for (std::size_t head = 0; head < 4; ++head) {
      for (std::size_t t = 0; t < 40; ++t) {
        rows.insert(rows.end(), row.begin(), row.end());
        rope.turn(static_cast<double>(t), rows.data() + rows.size() - 16);
      }
    }
    const std::size_t shape[] = {2, 2, 40, 16};
    REQUIRE(pqkv::write_npy(inputs.path(name), shape, rows));
  };
  using Flags = std::vector<std::string>;
  const Flags adjacent = {"--rope-theta", "500"}, half = {"--rope-theta", "500", "--rope-pairing", "half"};
  const Flags partial = {"--rope-theta", "500", "--rope-dims", "8"}, other = {"--rope-theta", "5"};
  write_turned("adjacent", pqkv::Rope::with_base(16, 500));
  write_turned("half", pqkv::Rope::with_base(16, 500, pqkv::RopePairing::half_split));
  write_turned("partial", pqkv::Rope::with_base(8, 500));
  // The mean is all there is to such keys, if and only if they are turned as the model did.
  const std::string policy = "k=pq4:m=1:run=32:centre=1,v=exact:f32";
  for (const auto& [keys, right] : {std::pair{std::string("adjacent"), adjacent}, {"half", half}, {"partial", partial}}) {
    for (const Flags& flags : {adjacent, half, partial, other}) {
      INFO(keys << " as " << flags[1] << (flags.size() > 2 ? flags[3] : ""));
      const double error = error_with(keys, flags, policy);
      if (flags == right) {
        CHECK(error < 2e-2);  // what is left is the term's low rank, 1 % of the mean
      } else {
        CHECK(error > 4e-2);
      }
    }
  }
  CHECK(error_with("adjacent", {"--rope-theta", "500", "--rope-pairing", "adjacent", "--rope-dims", "16"}, policy) ==
        error_with("adjacent", adjacent, policy));

  const auto flags = [&](const Flags& more) { return inputs.arguments() + Flags{"--policy", policy} + more; };
  const Outcome without = run(flags({}));
  CHECK(without.code == 2);
  CHECK(without.err.find("layer 0 head 0: runs of 32 tokens need the model's RoPE, and none was given") != std::string::npos);
  refused(flags({"--rope-theta", "wide"}), "--rope-theta: 'wide' is not a whole number");
  refused(flags({"--rope-theta"}), "--rope-theta needs a value");
  refused(flags({"--rope-theta", "500", "--rope-pairing", "both"}), "--rope-pairing: adjacent or half");
  refused(flags({"--rope-theta", "500", "--rope-dims", "18"}), "--rope-dims 18 of rows of 16");
  refused(flags({"--rope-theta", "500", "--rope-dims", "7"}), "--rope-dims 7 of rows of 16");
  // Values have no metric in a dump.
  const Outcome metric = run(inputs.arguments() + Flags{"--policy", "k=exact:f32,v=pq4:m=4:metric=1"});
  CHECK(metric.code == 2);
  CHECK(metric.err.find("a metric needs calibration queries (keys) or the output projection (values)") != std::string::npos);
}
