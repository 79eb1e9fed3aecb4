// The retention report as a user runs it: on the sample data, and on small files against an independent computation.
#include <cmath>
#include <filesystem>
#include <sstream>

#include "catch.hpp"
#include "retention/run.hpp"
#include "support/data.hpp"
#include "support/program.hpp"

using namespace pqkv::test;
namespace files = std::filesystem;

namespace {

constexpr double printed = 6e-4;  // three decimals, and f32 sums

const std::string data = (files::path(__FILE__).parent_path().parent_path().parent_path() / "examples/data/").string();

Outcome run(const Words& words) { return pqkv::test::run(retention_report::run, words); }

/// The numbers of a row, of the table that follows `title` in the section of `spec`.
std::vector<double> row(const std::string& text, const std::string& spec, const std::string& title, const std::string& name) {
  std::size_t at = text.find("### `" + spec + "`");
  REQUIRE(at != std::string::npos);
  at = text.find("| " + title + " |", at);
  REQUIRE(at != std::string::npos);
  at = text.find("| " + name + " | ", at);
  REQUIRE(at != std::string::npos);
  at = text.find(" | ", at + 3 + name.size()) + 2;
  std::istringstream line(text.substr(at, text.find('\n', at) - at));
  std::vector<double> numbers;
  for (std::string piece; std::getline(line, piece, '|');) {
    if (piece.find_first_of("0123456789") != std::string::npos) numbers.push_back(std::stod(piece));
  }
  return numbers;
}

}  // namespace

TEST_CASE("on the sample data attention-based policies beat the control") {
  const auto outcome = run({"--evaluation", data + "evaluation", "--calibration", data + "calibration", "--new", "32",
                            "--window", "8", "--threads", "2"});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  for (const std::string spec : {"k=exact,v=exact", "k=pq4,v=int4"}) {
    for (const std::string name : {"accumulated attention", "observation window", "window, chunks of 10", "window, by head"}) {
      const auto control = row(outcome.out, spec, "output error", "random");
      const auto error = row(outcome.out, spec, "output error", name);
      const auto control_recall = row(outcome.out, spec, "recall of the top 32", "random");
      const auto recall = row(outcome.out, spec, "recall of the top 32", name);
      REQUIRE(error.size() == 5);
      for (std::size_t i = 0; i < 3; ++i) {
        INFO(spec << ", " << name << ", ratio " << i);
        CHECK(error[i] < control[i] + 0.003);
        CHECK(recall[i] > control_recall[i]);
      }
    }
    CHECK(row(outcome.out, spec, "recall of the top 32", "query filter")[0] >
          row(outcome.out, spec, "recall of the top 32", "random")[0]);
  }
  // Of another kind: the more channels or tokens, the better; best by codes is better than by clusters.
  const auto other = [&](const std::string& name, const std::string& source, const std::string& knob) {
    const std::string line = "| " + name + " | " + source + " | " + knob + " |";
    const std::size_t at = outcome.out.find(line);
    REQUIRE(at != std::string::npos);
    std::istringstream numbers(outcome.out.substr(at + line.size()));
    std::vector<double> figures(3);
    char bar = 0;
    for (double& figure : figures) numbers >> figure >> bar;
    return figures;
  };
  std::vector<double> before(3);
  for (const std::string knob : {"51 of 64 channels", "38 of 64 channels", "32 of 64 channels", "25 of 64 channels"}) {
    const auto figures = other("pruned channels of keys", "ThinK", knob);
    CHECK((figures[0] > before[0] && figures[1] > before[1] && figures[2] < 1));
    before = figures;
  }
  for (const std::string knob : {"32 tokens", "64 tokens", "128 tokens"}) {
    const auto by_codes = other("recalled tokens, best by pq4 codes", "PQCache", knob);
    const auto by_clusters = other("recalled clusters", "ClusterKV", knob);
    CHECK((by_codes[0] < by_clusters[0] && by_codes[1] < by_clusters[1] && by_codes[2] > by_clusters[2]));
  }
  CHECK(other("recalled tokens, best by pq4 codes", "PQCache", "256 tokens")[0] <
        other("recalled tokens, best by pq4 codes", "PQCache", "64 tokens")[0]);
  const auto everything = row(outcome.out, "k=exact,v=exact", "takes what it needs", "everything");
  REQUIRE(everything.size() == 4);
  CHECK(everything[0] == 100);
  CHECK(everything[1] < printed);
  CHECK(everything[2] < printed);
  CHECK(everything[3] > 1 - printed);
}

TEST_CASE("figures of sinks + recent equal an independent computation in double") {
  constexpr std::size_t tokens = 168, fresh = 8, dim = 16, sinks = 2;
  const files::path folder = files::temp_directory_path() / "pqkv_retention_test";
  files::create_directories(folder);
  const auto path = [&](const std::string& name) { return (folder / name).string(); };
  const auto queries = normal_floats(2 * tokens * dim, 1), keys = normal_floats(tokens * dim, 2),
             values = normal_floats(tokens * dim, 3);
  const auto write = [&](const char* name, std::size_t heads, const std::vector<float>& rows) {
    const std::vector<std::size_t> shape{1, heads, tokens, dim};
    REQUIRE(pqkv::write_npy(path(name), shape, rows, pqkv::ScalarType::f32));
  };
  write("t_queries.npy", 2, queries);
  write("t_keys.npy", 1, keys);
  write("t_values.npy", 1, values);
  const auto outcome = run({"--evaluation", path("t"), "--calibration", path("t"), "--new", "8", "--sinks", "2", "--window",
                            "3", "--formats", "k=exact,v=exact", "--threads", "1"});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  const auto short_text = run({"--evaluation", path("t"), "--calibration", path("t"), "--new", "9", "--sinks", "2", "--window", "3"});
  CHECK(short_text.code == 2);
  CHECK(short_text.err.find("a text of 168 tokens, 9 of them new, is too short") != std::string::npos);
  files::remove_all(folder);

  std::vector<double> errors, divergences, recalls;
  for (const std::size_t ratio : {2, 4, 8, 16, 32}) {
    const std::size_t budget = (tokens - fresh) / ratio;
    double error = 0, divergence = 0, recall = 0, count = 0;
    for (std::size_t t = tokens - fresh; t < tokens; ++t) {
      for (std::size_t q = 0; q < 2; ++q) {
        std::vector<double> weights, left;
        double all = 0, kept = 0;
        for (std::size_t i = 0; i <= t; ++i) {
          const bool stays = i < sinks || i + budget - sinks >= tokens - fresh;
          weights.push_back(std::exp(dot(&queries[(q * tokens + t) * dim], &keys[i * dim], dim) / 4));
          left.push_back(stays ? weights.back() : 0);
          all += weights.back();
          kept += left.back();
        }
        double difference = 0, norm = 0;
        for (std::size_t d = 0; d < dim; ++d) {
          double exact = 0, out = 0;
          for (std::size_t i = 0; i <= t; ++i) {
            exact += weights[i] / all * double(values[i * dim + d]);
            out += left[i] / kept * double(values[i * dim + d]);
          }
          difference += (exact - out) * (exact - out);
          norm += exact * exact;
        }
        const auto rank = [](const std::vector<double>& x, std::size_t i) {
          return std::count_if(x.begin(), x.end(), [&](double other) { return other > x[i]; });
        };
        double both = 0;
        for (std::size_t i = 0; i <= t; ++i) both += left[i] > 0 && rank(left, i) < 32 && rank(weights, i) < 32 ? 1 : 0;
        error += std::sqrt(difference / norm);
        divergence += std::log(all / kept);
        recall += both / 32;
        ++count;
      }
    }
    errors.push_back(error / count);
    divergences.push_back(divergence / count);
    recalls.push_back(recall / count);
  }
  const auto require_near = [](const std::vector<double>& a, const std::vector<double>& b) {
    REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) CHECK(std::fabs(a[i] - b[i]) < printed);
  };
  require_near(row(outcome.out, "k=exact,v=exact", "output error", "sinks + recent"), errors);
  require_near(row(outcome.out, "k=exact,v=exact", "KL", "sinks + recent"), divergences);
  require_near(row(outcome.out, "k=exact,v=exact", "recall of the top 32", "sinks + recent"), recalls);
}

TEST_CASE("the report refuses what it cannot use") {
  CHECK(run({}).err == "retention: give --evaluation and --calibration; see --help\n");
  CHECK(run({"--new", "0"}).err == "retention: --new: 1 to 1000000, not 0\n");
  CHECK(run({"--what"}).err == "retention: unknown argument '--what'; see --help\n");
  CHECK(run({"--new"}).err == "retention: --new needs a value; see --help\n");
  CHECK(run({"--help"}).code == 0);
  CHECK(run({"--evaluation", "/none", "--calibration", "/none"}).code == 2);
}
