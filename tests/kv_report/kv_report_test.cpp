// kv_report as a user runs it, and its figures against an independent computation in double.
#include <cmath>

#include "kv_report/program.hpp"
#include "pqkv/pqkv.hpp"
#include "pqkv/train.hpp"

using namespace pqkv::test;
using namespace pqkv::test::report_program;

namespace {

/// Every metric: what rounding of float tables and sums may move.
constexpr double metric_tolerance = 1e-3;

const std::string data = (files::path(__FILE__).parent_path().parent_path().parent_path() / "examples/data/").string();

/// Means of a head by nothing but the definitions.
struct Plain {
  double cosine = 0, kl = 0, correlation = 0, spearman = 0, top5 = 0, error = 0;
};

double plain_correlation(const std::vector<double>& a, const std::vector<double>& b) {
  double ma = 0, mb = 0, ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) ma += a[i] / double(a.size()), mb += b[i] / double(b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - ma) * (b[i] - mb);
    aa += (a[i] - ma) * (a[i] - ma);
    bb += (b[i] - mb) * (b[i] - mb);
  }
  return aa == 0 ? 1 : bb == 0 ? 0 : ab / std::sqrt(aa * bb);
}

std::vector<double> plain_ranks(const std::vector<double>& x) {
  std::vector<double> rank(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (const double other : x) rank[i] += other < x[i] ? 1.0 : other == x[i] ? 0.5 : 0.0;
  }
  return rank;
}

/// Fewer than five are larger, or equal and earlier.
bool is_top5(const std::vector<double>& x, std::size_t j) {
  std::size_t before = 0;
  for (std::size_t i = 0; i < x.size(); ++i) before += x[i] > x[j] || (x[i] == x[j] && i < j) ? 1 : 0;
  return before < 5;
}

}  // namespace

TEST_CASE("the LOOKAT row equals an independent computation in double") {
  const std::string json = (files::temp_directory_path() / "pqkv_lookat.json").string();
  const Outcome outcome =
      run({"--queries", data + "evaluation_queries.npy", "--keys", data + "evaluation_keys.npy", "--values",
           data + "evaluation_values.npy", "--calibration-keys", data + "calibration_keys.npy", "--calibration-values",
           data + "calibration_values.npy", "--policy", "k=pq8:m=4,v=exact:f32,sinks=0,recent=0", "--seed", "5", "--json",
           json});
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  const auto rows = parse(read(json));
  REQUIRE(rows.size() == 1);
  files::remove(json);

  const auto queries = pqkv::read_npy(data + "evaluation_queries.npy").value();
  const auto keys = pqkv::read_npy(data + "evaluation_keys.npy").value();
  const auto values = pqkv::read_npy(data + "evaluation_values.npy").value();
  const auto calibration = pqkv::read_npy(data + "calibration_keys.npy").value();
  const std::size_t layers = keys.shape[0], kv_heads = keys.shape[1], tokens = keys.shape[2], dim = keys.shape[3];
  const std::size_t heads = queries.shape[1], m = 4, width = dim / m, rows_trained = calibration.shape[2];
  Plain mean;
  double worst_cosine = 2, worst_correlation = 2;
  for (std::size_t lh = 0; lh < layers * heads; ++lh) {
    const std::size_t kv = lh / heads * kv_heads + lh % heads / (heads / kv_heads);
    pqkv::TrainOptions options;
    options.seed = 5;
    const auto codebook =
        pqkv::train_codebook({calibration.data.data() + kv * rows_trained * dim, rows_trained, dim}, {dim, m, 256}, options)
            .value()
            .codebook;
    std::vector<double> decoded(tokens * dim);
    for (std::size_t t = 0; t < tokens; ++t) {
      for (std::size_t s = 0; s < m; ++s) {
        double least = 1e300;
        std::size_t nearest = 0;
        for (std::size_t c = 0; c < 256; ++c) {
          double distance = 0;
          for (std::size_t d = 0; d < width; ++d) {
            const double e = double(keys.data[(kv * tokens + t) * dim + s * width + d]) - double(codebook->centroids(s)[d * 256 + c]);
            distance += e * e;
          }
          if (distance < least) least = distance, nearest = c;
        }
        for (std::size_t d = 0; d < width; ++d) decoded[t * dim + s * width + d] = double(codebook->centroids(s)[d * 256 + nearest]);
      }
    }
    Plain head;
    for (std::size_t t = 0; t < tokens; ++t) {
      const float* query = queries.data.data() + (lh * tokens + t) * dim;
      std::vector<double> a(t + 1), b(t + 1), out_a(dim), out_b(dim);
      double sum_a = 0, sum_b = 0;
      for (std::size_t j = 0; j <= t; ++j) {
        for (std::size_t d = 0; d < dim; ++d) {
          a[j] += double(query[d]) * double(keys.data[(kv * tokens + j) * dim + d]) / 8;
          b[j] += double(query[d]) * decoded[j * dim + d] / 8;
        }
        sum_a += std::exp(a[j]);
        sum_b += std::exp(b[j]);
      }
      double kl = 0;
      for (std::size_t j = 0; j <= t; ++j) {
        const double wa = std::exp(a[j]) / sum_a, wb = std::exp(b[j]) / sum_b;
        kl += wa * std::log(wa / wb);
        for (std::size_t d = 0; d < dim; ++d) {
          out_a[d] += wa * double(values.data[(kv * tokens + j) * dim + d]);
          out_b[d] += wb * double(values.data[(kv * tokens + j) * dim + d]);
        }
      }
      double ab = 0, aa = 0, bb = 0, ee = 0;
      for (std::size_t d = 0; d < dim; ++d) {
        ab += out_a[d] * out_b[d];
        aa += out_a[d] * out_a[d];
        bb += out_b[d] * out_b[d];
        ee += (out_a[d] - out_b[d]) * (out_a[d] - out_b[d]);
      }
      const auto rank_a = plain_ranks(a), rank_b = plain_ranks(b);
      double common = 0;
      for (std::size_t j = 0; j <= t; ++j) {
        common += is_top5(a, j) && is_top5(b, j) ? 1 : 0;
      }
      const double n = double(tokens);
      head.cosine += ab / std::sqrt(aa * bb) / n;
      head.kl += kl / n;
      head.correlation += plain_correlation(a, b) / n;
      head.spearman += plain_correlation(rank_a, rank_b) / n;
      head.top5 += common / double(std::min<std::size_t>(5, t + 1)) / n;
      head.error += std::sqrt(ee / aa) / n;
    }
    const double n = double(layers * heads);
    mean.cosine += head.cosine / n;
    mean.kl += head.kl / n;
    mean.correlation += head.correlation / n;
    mean.spearman += head.spearman / n;
    mean.top5 += head.top5 / n;
    mean.error += head.error / n;
    worst_cosine = std::min(worst_cosine, head.cosine);
    worst_correlation = std::min(worst_correlation, head.correlation);
  }
  const auto check = [&](const char* name, double expected) {
    INFO(name << ": " << rows[0].at(name) << ", expected " << expected);
    CHECK(std::fabs(rows[0].at(name) - expected) < metric_tolerance);
  };
  check("key_bits", 0.5);
  check("value_bits", 32);
  check("codebook_bytes", double(layers * kv_heads * 256 * dim * 4));
  check("cosine_mean", mean.cosine);
  check("cosine_worst", worst_cosine);
  check("kl_mean", mean.kl);
  check("logit_correlation_mean", mean.correlation);
  check("logit_correlation_worst", worst_correlation);
  check("spearman_mean", mean.spearman);
  check("top5_mean", mean.top5);
  check("output_relative_error", mean.error);
  check("tokens", double(tokens));
  check("heads", double(layers * heads));
}

TEST_CASE("exact policies err by nothing, and bits count the exact tokens") {
  const Files inputs;
  const std::string json = (inputs.folder / "out.json").string();
  const Outcome outcome = run(inputs.arguments() + std::vector<std::string>{
      "--policy", "k=exact:f32,v=exact:f32", "--policy", "k=exact:f16,v=int8:g=16,sinks=4,recent=4,window=f16",
      "--policy", "k=pq4:m=4,v=int2:g=16,sinks=100,recent=0", "--json", json});
  REQUIRE(outcome.code == 0);
  const auto rows = parse(read(json));
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].at("output_relative_error") < 1e-6);
  CHECK(rows[0].at("kl_mean") < 1e-10);
  CHECK(rows[0].at("top5_mean") == 1.0);
  CHECK(rows[0].at("key_bits") == 32.0);
  CHECK(rows[1].at("key_bits") == 16.0);
  CHECK(std::fabs(rows[1].at("value_bits") - (8 * 16 + 32 * 10) / 40.0) < 1e-12);  // 8 + 32/16 bits for 32 of 40 tokens
  CHECK(rows[1].at("output_relative_error") < 0.01);
  CHECK(rows[2].at("key_bits") == 32.0);  // everything is a sink
  CHECK(rows[2].at("output_relative_error") < 1e-6);
  CHECK(rows[2].at("codebook_bytes") == 2 * 2 * 16 * 16 * 4);
}

TEST_CASE("the figures do not depend on the number of threads") {
  const Files inputs;
  const std::string one = (inputs.folder / "one.json").string(), two = (inputs.folder / "two.json").string();
  const std::vector<std::string> policy = {"--policy", "k=pq4:m=4,v=pq4:m=4,sinks=1,recent=3"};
  REQUIRE(run(inputs.arguments() + policy + std::vector<std::string>{"--threads", "1", "--json", one}).code == 0);
  REQUIRE(run(inputs.arguments() + policy + std::vector<std::string>{"--threads", "3", "--json", two}).code == 0);
  CHECK(read(one) == read(two));
}

TEST_CASE("several texts are evaluated together") {
  const Files inputs;
  inputs.write("q2", {2, 4, 24, 16}, 4);
  inputs.write("k2", {2, 2, 24, 16}, 5);
  inputs.write("v2", {2, 2, 24, 16}, 6);
  const std::string json = (inputs.folder / "out.json").string();
  REQUIRE(run(inputs.arguments() + inputs.arguments("q2", "k2", "v2") +
              std::vector<std::string>{"--policy", "k=pq4:m=4,v=exact:f32", "--json", json}).code == 0);
  CHECK(parse(read(json))[0].at("tokens") == 64);
  refused(inputs.arguments() + std::vector<std::string>{"--keys", inputs.path("k2")}, "do not match");
}

TEST_CASE("table, CSV and page are written, and the page needs nothing from elsewhere") {
  const Files inputs;
  const std::string csv = (inputs.folder / "out.csv").string(), html = (inputs.folder / "out.html").string();
  const Outcome outcome = run(inputs.arguments() + std::vector<std::string>{"--policy", "k=exact:f16,v=int4:g=16",
                                                                            "--csv", csv, "--html", html});
  REQUIRE(outcome.code == 0);
  CHECK(outcome.out.find("k=exact:f16,v=int4:g=16") != std::string::npos);
  CHECK(outcome.out.find("2 layers, 4 query heads on 2 kv heads, dim 16; 1 text of 40 tokens") != std::string::npos);
  CHECK(outcome.err.empty());  // no progress bar in a pipe
  CHECK(read(csv).starts_with("policy,key_bits,value_bits,codebook_bytes,cosine_mean,cosine_worst,kl_mean,"));
  const std::string page = read(html);
  CHECK(page.find("<svg") != std::string::npos);
  CHECK(page.find("prefers-color-scheme: dark") != std::string::npos);
  CHECK(page.find("http") == std::string::npos);
}

TEST_CASE("bad files are refused with a message of their own and exit code 2") {
  const Files inputs;
  const auto with = [&](const std::string& k) { return inputs.arguments("q", k, "v"); };
  std::ofstream(inputs.path("text")) << "not an array";
  refused(with("text"), "wrong magic");
  refused(with("missing"), "cannot be opened");
  std::string bytes = read(inputs.path("k"));
  std::ofstream(inputs.path("short"), std::ios::binary) << bytes.substr(0, bytes.size() - 10);
  refused(with("short"), "truncated");
  std::string changed = bytes;
  changed.replace(changed.find("False"), 5, "True ");
  std::ofstream(inputs.path("fortran"), std::ios::binary) << changed;
  refused(with("fortran"), "Fortran order");
  changed = bytes;
  changed[changed.find("<f2")] = '>';
  std::ofstream(inputs.path("big"), std::ios::binary) << changed;
  refused(with("big"), "big-endian");
  changed = bytes;
  changed[changed.size() - 1] = '\x7e';  // the last f16 becomes NaN
  std::ofstream(inputs.path("nan"), std::ios::binary) << changed;
  refused(with("nan"), "NaN at layer 1, head 1, token 39, element 15");
  inputs.write("flat", {40, 16}, 7);
  refused(with("flat"), "2 dimensions");
  inputs.write("tokens", {2, 2, 41, 16}, 7);
  refused(with("tokens"), "does not match the keys' [2, 2, 41, 16]");
  inputs.write("three", {2, 3, 40, 16}, 7);
  refused(inputs.arguments("three", "k", "v"), "3 query heads are not 1 to 16 times the 2 kv heads");
  refused(inputs.arguments("tokens", "k", "v"), "only the heads may differ");
  refused(inputs.arguments() + std::vector<std::string>{"--calibration-keys", inputs.path("tokens"),
                                                        "--calibration-values", inputs.path("three")}, "does not match");
}

TEST_CASE("bad arguments and policies are refused by name") {
  const Files inputs;
  refused({}, "no input");
  refused({"--frobnicate"}, "unknown argument '--frobnicate'");
  refused({"--keys"}, "--keys needs a value");
  refused(inputs.arguments() + std::vector<std::string>{"--threads", "0"}, "--threads");
  refused(inputs.arguments() + std::vector<std::string>{"--seed", "x"}, "--seed: 'x' is not a whole number");
  refused(inputs.arguments() + std::vector<std::string>{"--policy", "k=pq5,v=int4"}, "unknown key format 'pq5'");
  refused(inputs.arguments() + std::vector<std::string>{"--policy", "k=pq8:m=5,v=int4"}, "dim 16 does not split into 5");
  const Outcome few = run(inputs.arguments() + std::vector<std::string>{"--policy", "k=pq8:m=4,v=int4:g=16"});
  CHECK(few.code == 2);
  CHECK(few.err.find("40 training rows for 256 centroids") != std::string::npos);
  CHECK(run({"--help"}).out.find("--calibration-keys") != std::string::npos);
  CHECK(run({"--list"}).out.find("pq4") != std::string::npos);
}
