// Searches for near centroids on every instruction set that runs here, against references in double.
#include <algorithm>
#include <cmath>

#include "isa/sets.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

/// Squared distances and costs below 100, in float sums of up to 16 terms.
constexpr double distance_tolerance = 1e-5;

/// Random centroids, the last one a twin of the third, and rows, the first of which is that twin.
struct Search {
  std::size_t width, count, rows, stride;
  std::vector<float> centroids, half_norms, data;

  Search(std::size_t width_, std::size_t count_, std::size_t rows_)
      : width(width_),
        count(count_),
        rows(rows_),
        stride(width + 5),
        centroids(normal_floats(width * count, 5)),
        half_norms(count),
        data(normal_floats((rows - 1) * stride + width, 6)) {
    for (std::size_t d = 0; d < width; ++d) {
      data[d] = centroids[d * count + count - 1] = centroids[d * count + 2];
    }
    const std::vector<float> origin(width, 0.0f);
    for (std::size_t c = 0; c < count; ++c) half_norms[c] = static_cast<float>(distance(origin.data(), c) / 2);
  }

  [[nodiscard]] double distance(const float* row, std::size_t c) const {
    double sum = 0;
    for (std::size_t d = 0; d < width; ++d) {
      const double difference = static_cast<double>(row[d]) - static_cast<double>(centroids[d * count + c]);
      sum += difference * difference;
    }
    return sum;
  }
  [[nodiscard]] double distance(std::size_t row, std::size_t c) const { return distance(data.data() + row * stride, c); }
};

template <class F>
void for_each_search(F&& check) {
  for (const std::size_t width : {1, 2, 4, 8, 16}) {
    for (const std::size_t count : {16, 64, 256}) {
      for (const std::size_t rows : {1, 3, 4, 8, 13, 32}) check(Search(width, count, rows));
    }
  }
}

}  // namespace

TEST_CASE("the nearest centroid is nearest, and the first of equals, on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for_each_search([&](const Search& search) {
      std::vector<std::uint8_t> codes(search.rows);
      kernels.nearest_centroid(search.data.data(), search.rows, search.stride, search.width, search.centroids.data(),
                               search.half_norms.data(), search.count, codes.data());
      REQUIRE(codes[0] == 2);
      for (std::size_t r = 0; r < search.rows; ++r) {
        double least = 1e300;
        for (std::size_t c = 0; c < search.count; ++c) least = std::min(least, search.distance(r, c));
        REQUIRE(search.distance(r, codes[r]) <= least + distance_tolerance);
      }
    });
  });
}

TEST_CASE("of each part the nearest centroid and its cost, and the first of equals, on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for_each_search([&](Search search) {
      // Twins in the same part: 8 and 16 places on, so that they meet in other lanes, or later in the same one.
      for (std::size_t c = 0; c + 8 < search.count; ++c) {
        if (c / 8 % 4 != 1) continue;
        const std::size_t twin = c + 16 < search.count && c % 2 == 0 ? c + 16 : c + 8;
        for (std::size_t d = 0; d < search.width; ++d) {
          search.centroids[d * search.count + twin] = search.centroids[d * search.count + c];
        }
        search.half_norms[twin] = search.half_norms[c];
      }
      std::vector<std::uint8_t> codes(search.rows * 8 + 1, 77);
      std::vector<float> costs(search.rows * 8 + 1, 7.0f);
      kernels.nearest_of_parts(search.data.data(), search.rows, search.stride, search.width, search.centroids.data(),
                               search.half_norms.data(), search.count, costs.data(), codes.data());
      for (std::size_t r = 0; r < search.rows; ++r) {
        const float* row = search.data.data() + r * search.stride;
        double square = 0;
        for (std::size_t d = 0; d < search.width; ++d) square += static_cast<double>(row[d]) * static_cast<double>(row[d]);
        for (std::size_t part = 0; part < 8; ++part) {
          const std::size_t code = codes[r * 8 + part];
          REQUIRE(code % 8 == part);
          double least = 1e300;
          for (std::size_t c = part; c < search.count; c += 8) least = std::min(least, search.distance(r, c));
          REQUIRE(search.distance(r, code) <= least + distance_tolerance);
          REQUIRE(std::fabs(2 * static_cast<double>(costs[r * 8 + part]) + square - least) <= distance_tolerance);
          for (std::size_t c = part; c < code; c += 8) REQUIRE(search.distance(r, c) != search.distance(r, code));
        }
      }
      REQUIRE(codes.back() == 77);
      REQUIRE(costs.back() == 7.0f);
    });
  });
}
