// Trainers: what they find, that they repeat it, and what they refuse.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <set>
#include <thread>

#include "catch.hpp"
#include "pqkv/train.hpp"
#include "support/data.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

/// `count` rows around 16 far-apart points per subspace of width 2.
std::vector<float> clustered_rows(std::size_t count, std::size_t dim) {
  Random random(11);
  std::vector<float> rows(count * dim);
  for (std::size_t r = 0; r < count; ++r) {
    for (std::size_t s = 0; s < dim / 2; ++s) {
      const std::size_t point = random.below(16);
      rows[r * dim + 2 * s] = static_cast<float>(10.0 * static_cast<double>(point % 4) + 0.1 * random.normal());
      rows[r * dim + 2 * s + 1] = static_cast<float>(10.0 * static_cast<double>(point / 4) + 0.1 * random.normal());
    }
  }
  return rows;
}

struct Threads {
  std::size_t workers() const noexcept { return 4; }
  template <class Task>
  void run(std::size_t count, const Task& task) const {
    std::atomic<std::size_t> next{0};
    std::vector<std::thread> threads;
    for (std::size_t worker = 0; worker < 4; ++worker) {
      threads.emplace_back([&, worker] {
        for (std::size_t i = next++; i < count; i = next++) task(i, worker);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
};

/// The second element of each subspace counts a hundred times as much.
struct SecondElementMatters {
  void to_euclidean(std::size_t, RowMatrix& rows) const { rows.col(1) *= 10.0f; }
  void from_euclidean(std::size_t, RowMatrix& centroids) const { centroids.col(1) /= 10.0f; }
};

double mean_error(const Codebook& codebook, const std::vector<float>& rows, std::size_t element) {
  const auto [dim, subspaces, centroids, stages] = codebook.shape();
  REQUIRE(stages == 1);
  const std::size_t width = dim / subspaces;
  double sum = 0;
  for (std::size_t r = 0; r < rows.size() / dim; ++r) {
    for (std::size_t s = 0; s < subspaces; ++s) {
      double least = 1e300, part = 0;
      for (std::size_t c = 0; c < centroids; ++c) {
        double distance = 0, wanted = 0;
        for (std::size_t d = 0; d < width; ++d) {
          const double e = static_cast<double>(rows[r * dim + s * width + d]) -
                           static_cast<double>(codebook.centroids(s)[d * centroids + c]);
          distance += e * e;
          if (element == width || element == d) wanted += e * e;
        }
        if (distance < least) {
          least = distance;
          part = wanted;
        }
      }
      sum += part;
    }
  }
  return sum / static_cast<double>(rows.size() / dim);
}

}  // namespace

TEST_CASE("k-means finds clusters that are there, from either initialisation") {
  const std::size_t dim = 8;
  const auto rows = clustered_rows(2000, dim);
  const FloatRows view(rows.data(), 2000, dim);
  const auto trained = train_codebook(view, {dim, 4, 16}).value();
  // Every cluster found: the error left is the spread inside, 2 · 0.01 per subspace.
  CHECK(mean_error(*trained.codebook, rows, 2) < 4 * 0.02 * 1.2);
  TrainOptions random;
  random.initialisation = Initialisation::random;
  const auto other = train_codebook(view, {dim, 4, 16}, random).value();
  CHECK(mean_error(*other.codebook, rows, 2) < 4 * 25.0);  // random starts may merge neighbours, never everything
  CHECK(other.codebook->id() != trained.codebook->id());
  for (const SubspaceReport& report : trained.subspaces) {
    REQUIRE(report.objective.size() >= 2);
    for (std::size_t i = 1; i < report.objective.size(); ++i) {
      if (report.repaired == 0) REQUIRE(report.objective[i] <= report.objective[i - 1] * (1 + 1e-6));
    }
    CHECK(report.converged);
    CHECK(report.samples_per_centroid == 125.0);
    CHECK(report.imbalance >= 1.0);
    CHECK(report.imbalance < 1.2);
    CHECK(report.smallest_cluster > 60);
    CHECK(report.largest_cluster < 250);
  }
}

TEST_CASE("batches find the same clusters in parts of the rows") {
  const std::size_t dim = 8, count = 4000;
  const auto rows = clustered_rows(count, dim);
  const FloatRows view(rows.data(), count, dim);
  TrainOptions options;
  options.batch = 200;
  options.iterations = 60;
  const auto trained = train_codebook(view, {dim, 4, 16}, options).value();
  CHECK(mean_error(*trained.codebook, rows, 2) < 4 * 0.02 * 1.2);
  double sum = 0;
  for (const SubspaceReport& report : trained.subspaces) {
    CHECK(report.objective.size() == 61);  // of each batch, and of all rows in the end
    CHECK(report.smallest_cluster > 150);
    CHECK(report.largest_cluster < 350);
    CHECK(report.imbalance < 1.2);
    sum += report.objective.back();
  }
  CHECK(std::fabs(sum - mean_error(*trained.codebook, rows, 2)) < 1e-4 * sum);
  CHECK(trained.codebook->id() == train_codebook(view, {dim, 4, 16}, options, Threads{}).value().codebook->id());

  // What the first batch did not hold is learned from later ones, and what is forgotten is what came first: on noise five
  // passes come within 5 % of the error of full iterations, and one batch does not.
  const auto noise = normal_floats(8192 * 4, 5);
  const FloatRows noise_view(noise.data(), 8192, 4);
  const double full = mean_error(*train_codebook(noise_view, {4, 1, 256}).value().codebook, noise, 4);
  options = {};
  options.batch = 512;
  options.iterations = 80;
  const double passes = mean_error(*train_codebook(noise_view, {4, 1, 256}, options).value().codebook, noise, 4);
  options.iterations = 1;
  const double one = mean_error(*train_codebook(noise_view, {4, 1, 256}, options).value().codebook, noise, 4);
  CHECK(passes < 1.05 * full);
  CHECK(one > 1.05 * full);

  // Rows that weigh nothing do not count, and identical rows do no harm.
  std::vector<float> weights(count);
  for (std::size_t r = 0; r < count; ++r) weights[r] = rows[r * dim] > 15.0f ? 1.0f : 0.0f;
  options.iterations = 60;
  options.weights = weights;
  const auto weighed = train_codebook(view, {dim, 4, 16}, options).value().codebook;
  for (std::size_t c = 0; c < 16; ++c) CHECK(weighed->centroids(0)[c] > 15.0f);
  const std::vector<float> same(1000 * 4, 0.5f);
  options.weights = {};
  const auto alike = train_codebook({same.data(), 1000, 4}, {4, 1, 256}, options).value();
  CHECK(alike.subspaces.front().objective.back() == 0.0);
}

TEST_CASE("the report's last objective is the error of the codebook that was returned") {
  const auto rows = normal_floats(3000 * 8, 3);
  for (const std::size_t iterations : {1, 3, 25}) {
    TrainOptions options;
    options.iterations = iterations;
    const auto trained = train_codebook({rows.data(), 3000, 8}, {8, 4, 16}, options).value();
    double sum = 0;
    for (const SubspaceReport& report : trained.subspaces) sum += report.objective.back();
    CHECK(std::fabs(sum - mean_error(*trained.codebook, rows, 2)) < 1e-4 * sum);
  }
}

TEST_CASE("training repeats itself for a seed with any executor") {
  const auto rows = normal_floats(2000 * 16, 4);
  const FloatRows view(rows.data(), 2000, 16);
  for (const Initialisation initialisation : {Initialisation::plus_plus, Initialisation::random}) {
    TrainOptions options;
    options.initialisation = initialisation;
    options.max_rows = 1500;
    const auto one = train_codebook(view, {16, 4, 256}, options).value();
    const auto two = train_codebook(view, {16, 4, 256}, options, Threads{}).value();
    CHECK(one.codebook->id() == two.codebook->id());
    options.seed = 2;
    CHECK(one.codebook->id() != train_codebook(view, {16, 4, 256}, options).value().codebook->id());
  }
}

TEST_CASE("rows may be strided, and only their own elements count") {
  const auto wide = normal_floats(600 * 24, 5);
  std::vector<float> narrow;
  for (std::size_t r = 0; r < 600; ++r) narrow.insert(narrow.end(), wide.begin() + static_cast<std::ptrdiff_t>(r * 24),
                                                      wide.begin() + static_cast<std::ptrdiff_t>(r * 24 + 16));
  const auto strided = train_codebook(FloatRows(wide.data(), 600, 16, 24), {16, 4, 16}).value();
  const auto dense = train_codebook(FloatRows(narrow.data(), 600, 16), {16, 4, 16}).value();
  CHECK(strided.codebook->id() == dense.codebook->id());
}

TEST_CASE("empty clusters are repaired, and identical rows do no harm") {
  // 600 rows on one point and 40 scattered ones: random initialisation puts most centroids on the one point.
  std::vector<float> rows(640 * 2, 1.0f);
  const auto scattered = normal_floats(40 * 2, 6);
  for (std::size_t i = 0; i < 80; ++i) rows[i] = 100.0f * scattered[i];
  TrainOptions options;
  options.initialisation = Initialisation::random;
  options.iterations = 50;
  const auto trained = train_codebook({rows.data(), 640, 2}, {2, 1, 16}, options).value();
  CHECK(trained.subspaces[0].repaired > 0);
  CHECK(trained.subspaces[0].smallest_cluster > 0);

  const std::vector<float> flat(300 * 2, 3.0f);
  const auto same = train_codebook({flat.data(), 300, 2}, {2, 1, 256}).value();
  CHECK(same.subspaces[0].objective.back() == 0.0);
  CHECK(same.codebook->centroids(0)[0] == 3.0f);
}

TEST_CASE("weights and metrics move the codebook to where errors count") {
  const auto rows = normal_floats(4000 * 2, 7);
  const FloatRows view(rows.data(), 4000, 2);
  std::vector<float> weights(4000);
  for (std::size_t r = 0; r < 4000; ++r) weights[r] = rows[2 * r] > 1.0f ? 50.0f : 0.02f;
  TrainOptions weighted;
  weighted.weights = weights;
  std::vector<float> important;
  for (std::size_t r = 0; r < 4000; ++r) {
    if (rows[2 * r] > 1.0f) important.insert(important.end(), {rows[2 * r], rows[2 * r + 1]});
  }
  const auto plain = train_codebook(view, {2, 1, 16}).value();
  const auto focused = train_codebook(view, {2, 1, 16}, weighted).value();
  CHECK(mean_error(*focused.codebook, important, 2) < 0.6 * mean_error(*plain.codebook, important, 2));

  const auto second = train_codebook(view, {2, 1, 16}, {}, SerialExecutor{}, NoProgress{}, SecondElementMatters{}).value();
  CHECK(mean_error(*second.codebook, rows, 1) < 0.6 * mean_error(*plain.codebook, rows, 1));
}

TEST_CASE("progress sees every iteration and can stop") {
  const auto rows = normal_floats(1000 * 4, 8);
  std::vector<std::size_t> seen;
  TrainOptions options;
  options.tolerance = -1;  // never converges
  options.iterations = 5;
  const auto watched = train_codebook({rows.data(), 1000, 4}, {4, 2, 16}, options, SerialExecutor{},
                                      [&](std::size_t done, std::size_t total) {
                                        REQUIRE(total == 5);
                                        seen.push_back(done);
                                        return true;
                                      });
  REQUIRE(watched);
  CHECK(seen == std::vector<std::size_t>{1, 2, 3, 4, 5});
  const auto stopped = train_codebook({rows.data(), 1000, 4}, {4, 2, 16}, options, SerialExecutor{},
                                      [](std::size_t done, std::size_t) { return done < 2; });
  REQUIRE_FALSE(stopped);
  CHECK(stopped.error().code == Errc::stopped);
  CHECK(stopped.error().message.find("2 of 5") != std::string::npos);
}

TEST_CASE("training goes on from centroids that it is given") {
  const auto rows = normal_floats(2000 * 8, 12);
  const FloatRows view(rows.data(), 2000, 8);
  const auto first = train_codebook(view, {8, 2, 16}).value();
  std::vector<float> start(8 * 16);  // [subspace][centroid][width]
  for (std::size_t i = 0; i < start.size(); ++i) {
    start[i] = first.codebook->centroids(i / 64)[i % 4 * 16 + i / 4 % 16];
  }
  TrainOptions options;
  options.start = start;
  options.iterations = 1;
  const auto second = train_codebook(view, {8, 2, 16}, options).value();
  for (std::size_t s = 0; s < 2; ++s) {
    CHECK(second.subspaces[s].objective.front() == Approx(first.subspaces[s].objective.back()).epsilon(1e-6));
  }
  // Stages: the first one starts there.
  const auto staged = train_codebook(view, {8, 2, 16, 2}, options).value();
  CHECK(staged.codebook->id() != train_codebook(view, {8, 2, 16, 2}).value().codebook->id());
  start.pop_back();
  options.start = start;
  const auto short_of = train_codebook(view, {8, 2, 16}, options);
  REQUIRE(!short_of);
  CHECK(short_of.error().message == "127 numbers to start from, but 16 centroids of dim 8 have 128");
}

TEST_CASE("what cannot be trained is refused with the numbers") {
  auto rows = normal_floats(300 * 8, 9);
  const FloatRows view(rows.data(), 300, 8);
  const auto code_of = [](const auto& result) { return result ? Errc::stopped : result.error().code; };
  const auto few = train_codebook(view.slice(0, 255), {8, 2, 256});
  CHECK(code_of(few) == Errc::too_few_samples);
  CHECK(few.error().message.find("255 training rows for 256 centroids") != std::string::npos);
  TrainOptions options;
  options.max_rows = 10;
  CHECK(code_of(train_codebook(view, {8, 2, 16}, options)) == Errc::too_few_samples);
  CHECK(code_of(train_codebook(view, {8, 3, 16})) == Errc::invalid_shape);
  CHECK(code_of(train_codebook(view, {16, 2, 16})) == Errc::invalid_shape);
  CHECK(code_of(train_codebook(view, {8, 2, 17})) == Errc::invalid_shape);
  options = {};
  options.iterations = 0;
  CHECK(code_of(train_codebook(view, {8, 2, 16}, options)) == Errc::invalid_parameter);
  options = {};
  options.batch = 15;
  const auto small = train_codebook(view, {8, 2, 16}, options);
  CHECK(code_of(small) == Errc::invalid_parameter);
  CHECK(small.error().message.find("batches of 15 rows for 16 centroids") != std::string::npos);
  options.batch = 64;
  CHECK(code_of(train_codebook(view, {8, 2, 16, 2}, options)) == Errc::invalid_parameter);
  std::vector<float> weights(299, 1.0f);
  options = {};
  options.weights = weights;
  CHECK(code_of(train_codebook(view, {8, 2, 16}, options)) == Errc::invalid_shape);
  weights.assign(300, 1.0f);
  weights[7] = -1.0f;
  options.weights = weights;
  CHECK(code_of(train_codebook(view, {8, 2, 16}, options)) == Errc::invalid_data);
  rows[8 * 123 + 5] = NAN;
  const auto nan = train_codebook(view, {8, 2, 16});
  CHECK(code_of(nan) == Errc::invalid_data);
  CHECK(nan.error().message.find("element 5 of training row 123") != std::string::npos);
}
