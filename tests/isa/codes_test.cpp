// Kernels of product quantisation on every instruction set that runs here, against references in double.
#include <algorithm>
#include <cmath>

#include "isa/sets.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

/// One multiplication and one addition, with or without contraction; relative to |product| + |bias|.
constexpr double scale_and_bias_tolerance = 2e-7;

}  // namespace

TEST_CASE("products with centroids on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for (const std::size_t width : {1, 2, 3, 4, 8, 16, 31}) {
      for (const std::size_t count : {16, 256}) {
        const auto centroids = normal_floats(width * count, 1);
        const auto query = normal_floats(3 * width, 2);
        const auto books = normal_floats(3 * width * count, 7), gains = normal_floats(3 * count, 8);
        for (const float* gain : {static_cast<const float*>(nullptr), gains.data()}) {
          std::vector<float> table(3 * count, -7.0f);
          kernels.centroid_dots(query.data(), 3, width, books.data(), gain, count, table.data());
          for (std::size_t i = 0; i < table.size(); ++i) {
            double sum = 0;
            for (std::size_t d = i / count * width; d < (i / count + 1) * width; ++d) {
              const auto x = static_cast<double>(query[d]);
              sum += x * static_cast<double>(books[d * count + i % count]);
              if (gain != nullptr) sum += x * x * static_cast<double>(gain[i]);
            }
            REQUIRE(std::fabs(static_cast<double>(table[i]) - sum) <= float_sum_tolerance * 20 * static_cast<double>(width));
          }
        }
        const auto queries = normal_floats(3 * (width + 2) + width, 4);
        std::vector<float> quads(count * 4);
        kernels.centroid_dots4(queries.data(), width + 2, width, centroids.data(), count, quads.data());
        for (std::size_t i = 0; i < quads.size(); ++i) {
          double sum = 0;
          for (std::size_t d = 0; d < width; ++d) {
            sum += static_cast<double>(queries[i % 4 * (width + 2) + d]) * static_cast<double>(centroids[d * count + i / 4]);
          }
          REQUIRE(std::fabs(static_cast<double>(quads[i]) - sum) <= float_sum_tolerance * 10 * static_cast<double>(width));
        }
        const auto buckets = positive_floats(count, 3);
        std::vector<float> row(width, 1.0f);
        kernels.centroid_sum(buckets.data(), width, centroids.data(), count, row.data());
        for (std::size_t d = 0; d < width; ++d) {
          double sum = 1;
          for (std::size_t c = 0; c < count; ++c) {
            sum += static_cast<double>(buckets[c]) * static_cast<double>(centroids[d * count + c]);
          }
          REQUIRE(std::fabs(static_cast<double>(row[d]) - sum) <= float_sum_tolerance * static_cast<double>(count));
        }
      }
    }
  });
}

TEST_CASE("4-bit scores are exact sums of table bytes on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for (const std::size_t subspaces : {1, 2, 3, 4, 5, 6, 7, 16, 31, 32, 256}) {
      for (const std::size_t blocks : {1, 2, 5}) {
        for (const std::size_t queries : {1, 2, 3, 4, 6, 16}) {
          const auto codes = random_bytes(blocks * 16 * subspaces, subspaces);
          auto tables = random_bytes(queries * subspaces * 16, 8);
          if (subspaces == 256) std::fill(tables.begin(), tables.end(), std::uint8_t{255});  // the largest sum there is
          std::vector<float> scale(queries, 1.0f), bias(queries, 0.0f);
          const std::size_t stride = blocks * 32;
          std::vector<float> scores(queries * stride);
          kernels.pq4_score(codes.data(), blocks, subspaces, tables.data(), queries, scale.data(), bias.data(),
                            scores.data(), stride, 0);
          std::vector<std::uint32_t> sums(queries * stride);
          for (std::size_t q = 0; q < queries; ++q) {
            for (std::size_t t = 0; t < stride; ++t) {
              for (std::size_t s = 0; s < subspaces; ++s) {
                const std::uint8_t pair = codes[(t / 32 * subspaces + s) * 16 + t % 16];
                sums[q * stride + t] += tables[(q * subspaces + s) * 16 + (t % 32 < 16 ? pair & 15 : pair >> 4)];
              }
              REQUIRE(static_cast<std::uint32_t>(scores[q * stride + t]) == sums[q * stride + t]);
            }
          }
          for (std::size_t q = 0; q < queries; ++q) {
            scale[q] = 0.013f * static_cast<float>(q + 1);
            bias[q] = 5.0f - static_cast<float>(q);
          }
          kernels.pq4_score(codes.data(), blocks, subspaces, tables.data(), queries, scale.data(), bias.data(),
                            scores.data(), stride, 0);
          for (std::size_t i = 0; i < scores.size(); ++i) {
            const double product = static_cast<double>(scale[i / stride]) * sums[i];
            const double shift = static_cast<double>(bias[i / stride]);
            REQUIRE(std::fabs(static_cast<double>(scores[i]) - product - shift) <=
                    scale_and_bias_tolerance * (std::fabs(product) + std::fabs(shift)));
          }
        }
      }
    }
  });
}

TEST_CASE("6-bit scores are exact sums of table bytes on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for (const std::size_t subspaces : {1, 2, 3, 16, 256}) {
      for (const std::size_t blocks : {1, 3}) {
        for (const std::size_t queries : {1, 2, 4, 7}) {
          const auto codes = random_bytes(blocks * 24 * subspaces, subspaces);
          auto tables = random_bytes(queries * subspaces * 64, 8);
          if (subspaces == 256) std::fill(tables.begin(), tables.end(), std::uint8_t{255});
          const std::vector<float> scale(queries, 1.0f), bias(queries, 0.0f);
          const std::size_t stride = blocks * 32;
          std::vector<float> scores(queries * stride);
          kernels.pq6_score(codes.data(), blocks, subspaces, tables.data(), queries, scale.data(), bias.data(), scores.data(),
                            stride, 0);
          for (std::size_t i = 0; i < scores.size(); ++i) {
            const std::size_t q = i / stride, t = i % stride % 32;
            std::uint32_t sum = 0;
            for (std::size_t s = 0; s < subspaces; ++s) {
              const std::uint8_t* mine = codes.data() + (i % stride / 32 * subspaces + s) * 24;
              const unsigned low = t < 16 ? mine[t] & 15u : mine[t - 16] >> 4u;
              const unsigned high = mine[16 + t % 8] >> (2 * (t / 8)) & 3u;
              sum += tables[(q * subspaces + s) * 64 + high * 16 + low];
            }
            REQUIRE(static_cast<std::uint32_t>(scores[i]) == sum);
          }
        }
      }
    }
  });
}

TEST_CASE("tables as bytes are within half a step on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for (const std::size_t count : {16, 32, 64}) {
      for (const std::size_t subspaces : {1, 3, 4, 16, 256}) {
        for (const float spread : {0.0f, 1.0f, 1e6f}) {
          auto table = normal_floats(subspaces * count, count);
          for (float& x : table) x *= spread;
          std::vector<std::uint8_t> bytes(table.size());
          float scale = -1, bias = -1;
          const std::uint32_t largest = kernels.byte_table(table.data(), subspaces, count, bytes.data(), &scale, &bias);
          double widest = 0, sum = 0;
          std::uint32_t expected_largest = 0;
          for (std::size_t s = 0; s < subspaces; ++s) {
            const auto [least, most] = std::minmax_element(table.begin() + static_cast<std::ptrdiff_t>(s * count),
                                                           table.begin() + static_cast<std::ptrdiff_t>((s + 1) * count));
            widest = std::max(widest, static_cast<double>(*most) - static_cast<double>(*least));
            sum += static_cast<double>(*least);
            expected_largest += *std::max_element(bytes.begin() + static_cast<std::ptrdiff_t>(s * count),
                                                  bytes.begin() + static_cast<std::ptrdiff_t>((s + 1) * count));
            for (std::size_t i = s * count; i < (s + 1) * count; ++i) {
              const double error =
                  static_cast<double>(*least) + static_cast<double>(scale) * bytes[i] - static_cast<double>(table[i]);
              REQUIRE(std::fabs(error) <= 0.501 * static_cast<double>(scale));
            }
          }
          REQUIRE(largest == expected_largest);
          REQUIRE(std::fabs(static_cast<double>(scale) - widest / 255) <= 1e-6 * widest);
          REQUIRE(std::fabs(static_cast<double>(bias) - sum) <= 1e-5 * std::fabs(sum) + 1e-5 * static_cast<double>(spread));
        }
      }
    }
  });
}

TEST_CASE("8-bit scores and buckets follow the codes on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for (const std::size_t subspaces : {1, 2, 3, 8, 16, 33}) {
      for (const std::size_t blocks : {1, 3}) {
        const std::size_t tokens = blocks * 32;
        const auto codes = random_bytes(tokens * subspaces, 4);
        const auto code = [&](std::size_t t, std::size_t s) {
          return codes[t / 8 * 8 * subspaces + s * 8 + t % 8];
        };
        const auto table = normal_floats(subspaces * 256 * 4, 5);
        std::vector<float> scores(tokens), four(4 * (tokens + 1));
        kernels.pq8_score(codes.data(), blocks, subspaces, table.data(), scores.data(), 0);
        kernels.pq8_score4(codes.data(), blocks, subspaces, table.data(), four.data(), tokens + 1, 0);
        for (std::size_t t = 0; t < tokens; ++t) {
          double one = 0, interleaved[4] = {};
          for (std::size_t s = 0; s < subspaces; ++s) {
            one += static_cast<double>(table[s * 256 + code(t, s)]);
            for (std::size_t q = 0; q < 4; ++q) interleaved[q] += static_cast<double>(table[(s * 256 + code(t, s)) * 4 + q]);
          }
          const double tolerance = float_sum_tolerance * 5 * static_cast<double>(subspaces);
          REQUIRE(std::fabs(static_cast<double>(scores[t]) - one) <= tolerance);
          for (std::size_t q = 0; q < 4; ++q) {
            REQUIRE(std::fabs(static_cast<double>(four[q * (tokens + 1) + t]) - interleaved[q]) <= tolerance);
          }
        }
        const std::size_t stride = tokens + 1;
        const auto weights = positive_floats(4 * stride, 6);
        std::vector<float> one(subspaces * 256), quads(subspaces * 1024);
        kernels.pq8_fill(codes.data(), blocks, subspaces, weights.data(), one.data(), 0);
        kernels.pq8_fill4(codes.data(), blocks, subspaces, weights.data(), stride, quads.data(), 0);
        std::vector<double> expected(subspaces * 1024);
        for (std::size_t t = 0; t < tokens; ++t) {
          for (std::size_t s = 0; s < subspaces; ++s) {
            for (std::size_t q = 0; q < 4; ++q) {
              expected[(s * 256 + code(t, s)) * 4 + q] += static_cast<double>(weights[q * stride + t]);
            }
          }
        }
        for (std::size_t i = 0; i < quads.size(); ++i) {
          REQUIRE(std::fabs(static_cast<double>(quads[i]) - expected[i]) <= float_sum_tolerance * 96);
          if (i % 4 == 0) {
            REQUIRE(std::fabs(static_cast<double>(one[i / 4]) - expected[i]) <= float_sum_tolerance * 96);
          }
        }
      }
    }
  });
}

TEST_CASE("weighted sums of 4-bit codes' centroids on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for (const std::size_t subspaces : {1, 3, 8}) {
      for (const std::size_t width : {1, 2, 4, 5, 8}) {
        for (const std::size_t blocks : {1, 3}) {
          const std::size_t dim = subspaces * width, stride = blocks * 32 + 1;
          const auto codes = random_bytes(blocks * 16 * subspaces, 7);
          const auto centroids = normal_floats(dim * 16, 8);
          for (const std::size_t queries : {1, 2, 4, 7}) {
            const auto weights = positive_floats((queries - 1) * stride + blocks * 32, 9);
            std::vector<float> outs(queries * dim, 0.5f);
            kernels.pq4_accumulate(codes.data(), blocks, subspaces, width, centroids.data(), weights.data(), queries, stride,
                                   outs.data(), 0);
            for (std::size_t q = 0; q < queries; ++q) {
              for (std::size_t i = 0; i < dim; ++i) {
                double sum = 0.5, magnitude = 0.5;
                for (std::size_t t = 0; t < blocks * 32; ++t) {
                  const std::uint8_t pair = codes[(t / 32 * subspaces + i / width) * 16 + t % 16];
                  const std::size_t code = t % 32 < 16 ? pair & 15u : pair >> 4u;
                  const double term =
                      static_cast<double>(weights[q * stride + t]) * static_cast<double>(centroids[i * 16 + code]);
                  sum += term;
                  magnitude += std::fabs(term);
                }
                REQUIRE(std::fabs(static_cast<double>(outs[q * dim + i]) - sum) <= float_sum_tolerance * magnitude);
              }
            }
          }
        }
      }
    }
  });
}

TEST_CASE("8-bit codes are looked up in two planes of bytes on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for (const std::size_t subspaces : {1, 2, 3, 8, 33, 256}) {
      const auto table = normal_floats(subspaces * 256, 1);
      std::vector<std::uint8_t> planes(subspaces * 512);
      float step = -1, least = -1;
      kernels.plane_table(table.data(), subspaces, planes.data(), &step, &least);
      for (std::size_t s = 0; s < subspaces; ++s) {
        const auto first = table.begin() + static_cast<std::ptrdiff_t>(s * 256);
        const double smallest = static_cast<double>(*std::min_element(first, first + 256));
        for (std::size_t c = 0; c < 256; ++c) {
          const double entry = planes[s * 512 + c] + 256.0 * planes[s * 512 + 256 + c];
          const double error = smallest + static_cast<double>(step) * entry - static_cast<double>(table[s * 256 + c]);
          REQUIRE(std::fabs(error) <= 0.52 * static_cast<double>(step));
        }
      }
      for (const std::size_t blocks : {1, 2, 5}) {
        for (const std::size_t queries : {1, 3, 4, 9}) {
          const auto codes = random_bytes(blocks * 32 * subspaces, subspaces);
          auto bytes = random_bytes(queries * subspaces * 512, 3);
          if (subspaces == 256) std::fill(bytes.begin(), bytes.end(), std::uint8_t{255});  // the largest sum there is
          const std::vector<float> scale(queries, 1.0f), bias(queries, 0.0f);
          const std::size_t stride = blocks * 32 + 1;
          std::vector<float> scores((queries - 1) * stride + blocks * 32, -7.0f);
          kernels.pq8_planes_score(codes.data(), blocks, subspaces, bytes.data(), queries, scale.data(), bias.data(),
                                   scores.data(), stride, 0);
          for (std::size_t q = 0; q < queries; ++q) {
            for (std::size_t t = 0; t < blocks * 32; ++t) {
              std::uint32_t sum = 0;
              for (std::size_t s = 0; s < subspaces; ++s) {
                const std::uint8_t* mine = bytes.data() + (q * subspaces + s) * 512;
                const std::uint8_t code = codes[t / 8 * 8 * subspaces + s * 8 + t % 8];
                sum += mine[code] + 256u * mine[256 + code];
              }
              REQUIRE(static_cast<std::uint32_t>(scores[q * stride + t]) == sum);
            }
          }
          if (queries > 1) REQUIRE(scores[blocks * 32] == -7.0f);
        }
      }
    }
  });
}
