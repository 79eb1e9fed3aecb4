// Every compiled-in instruction set that runs here: float kernels against references in double, integer parts against
// the scalar specification, bit for bit. Buffers have their exact size, so that the address sanitiser sees every overrun.
#include <cmath>
#include <cstring>

#include "catch.hpp"
#include "pqkv/isa/select.hpp"
#include "pqkv/policy.hpp"
#include "support/data.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

/// Relative to Σ|terms|: float sums of up to a few thousand terms in any order.
constexpr double float_sum_tolerance = 2e-6;
/// Units in the last place of exp, as kernels.hpp promises.
constexpr double exponential_ulp = 4;
/// One multiplication and one addition, with or without contraction; relative to |product| + |bias|.
constexpr double scale_and_bias_tolerance = 2e-7;

const std::size_t dims[] = {1, 7, 8, 16, 20, 24, 48, 64, 80, 96, 128, 256};

template <class F>
void for_each_set(F&& check) {
  for (const isa::Available& set : isa::compiled_in()) {
    if (!set.runs_here) continue;
    INFO("instruction set " << set.kernels.name);
    check(set.kernels);
  }
}

std::vector<std::uint8_t> random_bytes(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::uint8_t> bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random.next());
  return bytes;
}

std::vector<float> positive_floats(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> floats(count);
  for (float& x : floats) x = static_cast<float>(random.uniform());
  return floats;
}

template <class T>
std::vector<T> as(const std::vector<float>& floats) {
  std::vector<T> out(floats.size());
  for (std::size_t i = 0; i < floats.size(); ++i) {
    if constexpr (std::is_same_v<T, f16>) out[i] = to_f16(floats[i]);
    if constexpr (std::is_same_v<T, bf16>) out[i] = to_bf16(floats[i]);
    if constexpr (std::is_same_v<T, float>) out[i] = floats[i];
  }
  return out;
}

template <class T, class Dot, class Accumulate>
void check_rows(Dot dot_kernel, Accumulate accumulate_kernel) {
  for (const std::size_t dim : dims) {
    for (const std::size_t tokens : {1, 4, 7, 33}) {
      for (const std::size_t queries : {1, 2, 3, 5, 8, 16}) {
        const auto rows = as<T>(normal_floats(tokens * dim, 1));
        const auto query = normal_floats(queries * dim, 2);
        const std::size_t stride = tokens + 3;
        std::vector<float> scores((queries - 1) * stride + tokens, -7.0f);
        dot_kernel(rows.data(), tokens, dim, query.data(), queries, scores.data(), stride);
        const auto weights = positive_floats((queries - 1) * stride + tokens, 3);
        const auto before = normal_floats(queries * dim, 4);
        auto outs = before;
        accumulate_kernel(rows.data(), tokens, dim, weights.data(), queries, stride, outs.data());
        for (std::size_t q = 0; q < queries; ++q) {
          for (std::size_t t = 0; t < tokens; ++t) {
            double sum = 0, magnitude = 1e-30;
            for (std::size_t d = 0; d < dim; ++d) {
              const double term = static_cast<double>(query[q * dim + d]) * static_cast<double>(to_float(rows[t * dim + d]));
              sum += term;
              magnitude += std::fabs(term);
            }
            REQUIRE(std::fabs(static_cast<double>(scores[q * stride + t]) - sum) <= float_sum_tolerance * magnitude);
          }
          for (std::size_t d = 0; d < dim; ++d) {
            double sum = static_cast<double>(before[q * dim + d]), magnitude = std::fabs(sum);
            for (std::size_t t = 0; t < tokens; ++t) {
              const double term =
                  static_cast<double>(weights[q * stride + t]) * static_cast<double>(to_float(rows[t * dim + d]));
              sum += term;
              magnitude += std::fabs(term);
            }
            REQUIRE(std::fabs(static_cast<double>(outs[q * dim + d]) - sum) <= float_sum_tolerance * magnitude);
          }
        }
        // What lies between one query's scores and the next one's is not touched.
        if (queries > 1) REQUIRE(scores[tokens] == -7.0f);
      }
    }
  }
}

template <std::size_t bits>
void check_integers(isa::KernelSet::IntegerAccumulate kernel) {
  for (const std::size_t dim : {8, 16, 24, 48, 64, 80, 96, 128, 256}) {
    for (std::size_t group = 8; group <= dim; group += 8) {
      if (dim % group != 0) continue;
      const std::size_t groups = dim / group;
      const std::size_t block_bytes = groups * 128 + dim * 4 * bits;
      for (const std::size_t blocks : {1, 3}) {
        auto bytes = random_bytes(blocks * block_bytes, dim + group);
        for (std::size_t b = 0; b < blocks; ++b) {  // scales positive, offsets of any sign
          const auto scales = as<f16>(positive_floats(groups * 32, 5 + b));
          const auto offsets = as<f16>(normal_floats(groups * 32, 6 + b));
          std::memcpy(bytes.data() + b * block_bytes, scales.data(), groups * 64);
          std::memcpy(bytes.data() + b * block_bytes + groups * 64, offsets.data(), groups * 64);
        }
        const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
        for (const std::size_t queries : {1, 2, 4, 7, 16}) {
          const std::size_t stride = blocks * 32;
          auto weights = positive_floats(queries * stride, 9);
          for (std::size_t i = 0; i < weights.size(); i += 5) weights[i] = 0;       // skipped and missing tokens
          if (queries > 2) std::fill_n(weights.begin() + 2 * static_cast<std::ptrdiff_t>(stride), 32, 0.0f);
          std::vector<float> expected(queries * dim, 0.5f), got(queries * dim, 0.5f);
          isa::scalar::integer_accumulate<bits>(data, blocks, dim, group, weights.data(), queries, stride, expected.data());
          kernel(data, blocks, dim, group, weights.data(), queries, stride, got.data());
          const double most = ((1 << bits) - 1.0 + 4.0) * static_cast<double>(stride);
          for (std::size_t i = 0; i < got.size(); ++i) {
            REQUIRE(std::fabs(static_cast<double>(got[i] - expected[i])) <= float_sum_tolerance * most);
          }
          // Offsets 0 and one block: an exact integer times the step, so equal to the last bit.
          if (blocks == 1 && queries == 1) {
            auto plain = bytes;
            std::memset(plain.data() + groups * 64, 0, groups * 64);
            const auto* plain_data = reinterpret_cast<const std::byte*>(plain.data());
            std::fill(expected.begin(), expected.end(), 0.0f);
            std::fill(got.begin(), got.end(), 0.0f);
            isa::scalar::integer_accumulate<bits>(plain_data, 1, dim, group, weights.data(), 1, 32, expected.data());
            kernel(plain_data, 1, dim, group, weights.data(), 1, 32, got.data());
            REQUIRE(got == expected);
          }
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("conversions are exact or correctly rounded on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    std::vector<f16> halves;
    std::vector<bf16> uppers;
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
      const bool nan_f16 = (bits & 0x7c00u) == 0x7c00u && (bits & 0x3ffu) != 0;
      const bool nan_bf16 = (bits & 0x7f80u) == 0x7f80u && (bits & 0x7fu) != 0;
      if (!nan_f16) halves.push_back({static_cast<std::uint16_t>(bits)});
      if (!nan_bf16) uppers.push_back({static_cast<std::uint16_t>(bits)});
    }
    std::vector<float> floats(halves.size());
    kernels.f16_to_f32(halves.data(), halves.size(), floats.data());
    for (std::size_t i = 0; i < halves.size(); ++i) REQUIRE(floats[i] == to_float(halves[i]));
    floats.resize(uppers.size());
    kernels.bf16_to_f32(uppers.data(), uppers.size(), floats.data());
    for (std::size_t i = 0; i < uppers.size(); ++i) REQUIRE(floats[i] == to_float(uppers[i]));

    Random random(3);
    for (const std::size_t count : {1, 7, 8, 15, 16, 33, 4099}) {
      std::vector<float> in(count);
      for (float& x : in) {  // every exponent from far below f16's least to beyond its largest, and exact ties
        x = static_cast<float>(std::ldexp(random.normal(), static_cast<int>(random.below(50)) - 32));
        if (random.below(4) == 0) x = to_float(to_f16(x)) * (1.0f + 0x1p-11f);
      }
      std::vector<f16> to_halves(count);
      std::vector<bf16> to_uppers(count);
      kernels.f32_to_f16(in.data(), count, to_halves.data());
      kernels.f32_to_bf16(in.data(), count, to_uppers.data());
      for (std::size_t i = 0; i < count; ++i) {
        REQUIRE(to_halves[i].bits == to_f16(in[i]).bits);
        REQUIRE(to_uppers[i].bits == to_bf16(in[i]).bits);
      }
    }
  });
}

TEST_CASE("dot products and weighted sums of exact rows on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    check_rows<float>(kernels.dot_f32, kernels.accumulate_f32);
    check_rows<f16>(kernels.dot_f16, kernels.accumulate_f16);
    check_rows<bf16>(kernels.dot_bf16, kernels.accumulate_bf16);
  });
}

TEST_CASE("products with centroids on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for (const std::size_t width : {1, 2, 3, 4, 8, 16, 31}) {
      for (const std::size_t count : {16, 256}) {
        const auto centroids = normal_floats(width * count, 1);
        const auto query = normal_floats(width, 2);
        std::vector<float> table(count);
        kernels.centroid_dots(query.data(), width, centroids.data(), count, table.data());
        const auto buckets = positive_floats(count, 3);
        std::vector<float> row(width, 1.0f);
        kernels.centroid_sum(buckets.data(), width, centroids.data(), count, row.data());
        for (std::size_t c = 0; c < count; ++c) {
          double sum = 0;
          for (std::size_t d = 0; d < width; ++d) {
            sum += static_cast<double>(query[d]) * static_cast<double>(centroids[d * count + c]);
          }
          REQUIRE(std::fabs(static_cast<double>(table[c]) - sum) <= float_sum_tolerance * 10 * static_cast<double>(width));
        }
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

TEST_CASE("the nearest centroid is nearest, and the first of equals, on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for (const std::size_t width : {1, 2, 4, 8, 16}) {
      for (const std::size_t count : {16, 256}) {
        for (const std::size_t rows : {1, 3, 4, 32}) {
          auto centroids = normal_floats(width * count, 5);
          for (std::size_t d = 0; d < width; ++d) centroids[d * count + count - 1] = centroids[d * count + 2];  // a twin
          std::vector<float> half_norms(count);
          const auto distance = [&](const float* row, std::size_t c) {
            double sum = 0;
            for (std::size_t d = 0; d < width; ++d) {
              const double difference = static_cast<double>(row[d]) - static_cast<double>(centroids[d * count + c]);
              sum += difference * difference;
            }
            return sum;
          };
          const std::vector<float> origin(width, 0.0f);
          for (std::size_t c = 0; c < count; ++c) half_norms[c] = static_cast<float>(distance(origin.data(), c) / 2);
          const std::size_t stride = width + 5;
          auto data = normal_floats((rows - 1) * stride + width, 6);
          for (std::size_t d = 0; d < width; ++d) data[d] = centroids[d * count + 2];
          std::vector<std::uint8_t> codes(rows);
          kernels.nearest_centroid(data.data(), rows, stride, width, centroids.data(), half_norms.data(), count,
                                   codes.data());
          REQUIRE(codes[0] == 2);
          for (std::size_t r = 0; r < rows; ++r) {
            double least = 1e300;
            for (std::size_t c = 0; c < count; ++c) least = std::min(least, distance(data.data() + r * stride, c));
            REQUIRE(distance(data.data() + r * stride, codes[r]) <= least + 1e-5);
          }
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
                            scores.data(), stride);
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
                            scores.data(), stride);
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
        kernels.pq8_score(codes.data(), blocks, subspaces, table.data(), scores.data());
        kernels.pq8_score4(codes.data(), blocks, subspaces, table.data(), four.data(), tokens + 1);
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
        const auto weights = positive_floats(tokens, 6);
        std::vector<float> buckets8(subspaces * 256), buckets4(subspaces * 16);
        kernels.pq8_fill(codes.data(), blocks, subspaces, weights.data(), buckets8.data());
        kernels.pq4_fill(codes.data(), blocks, subspaces, weights.data(), buckets4.data());  // half the bytes, as pq4
        std::vector<double> expected8(subspaces * 256), expected4(subspaces * 16);
        for (std::size_t t = 0; t < tokens; ++t) {
          for (std::size_t s = 0; s < subspaces; ++s) {
            const std::uint8_t pair = codes[(t / 32 * subspaces + s) * 16 + t % 16];
            expected8[s * 256 + code(t, s)] += static_cast<double>(weights[t]);
            expected4[s * 16 + (t % 32 < 16 ? pair & 15u : pair >> 4u)] += static_cast<double>(weights[t]);
          }
        }
        for (std::size_t i = 0; i < buckets8.size(); ++i) {
          REQUIRE(std::fabs(static_cast<double>(buckets8[i]) - expected8[i]) <= float_sum_tolerance * 96);
        }
        for (std::size_t i = 0; i < buckets4.size(); ++i) {
          REQUIRE(std::fabs(static_cast<double>(buckets4[i]) - expected4[i]) <= float_sum_tolerance * 96);
        }
      }
    }
  });
}

TEST_CASE("sums of integer values equal the specification on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    check_integers<8>(kernels.int8_accumulate);
    check_integers<4>(kernels.int4_accumulate);
    check_integers<2>(kernels.int2_accumulate);
  });
}

TEST_CASE("the softmax pieces keep their promise on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for (const std::size_t count : {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 100, 512}) {
      for (std::size_t place = 0; place < count; place += 3) {
        auto x = normal_floats(count, count);
        x[place] = 9.0f;
        REQUIRE(kernels.maximum(x.data(), count) == 9.0f);
        for (float& value : x) value -= 20.0f;  // no zero may win
        REQUIRE(kernels.maximum(x.data(), count) == -11.0f);
      }
    }
    std::vector<float> x;
    for (double value = -86.9; value <= 0; value += 0.00137) x.push_back(static_cast<float>(value) + 3.25f);
    x.push_back(3.25f);
    const auto in = x;
    const float sum = kernels.exponential(x.data(), x.size(), 3.25f);
    double expected_sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float argument = in[i] - 3.25f;
      const double expected = std::exp(static_cast<double>(argument));
      expected_sum += expected;
      const double ulp = static_cast<double>(std::nextafter(static_cast<float>(expected), INFINITY)) -
                         static_cast<double>(static_cast<float>(expected));
      REQUIRE(std::fabs(static_cast<double>(x[i]) - expected) <= exponential_ulp * ulp);
    }
    CHECK(x.back() == 1.0f);
    CHECK(std::fabs(static_cast<double>(sum) - expected_sum) <= 1e-5 * expected_sum);
    std::vector<float> small = {-87.4f, -100.0f, -1000.0f, -3e38f, 0.0f};
    kernels.exponential(small.data(), small.size(), 0.0f);
    for (std::size_t i = 0; i < 4; ++i) CHECK((small[i] >= 0.0f && small[i] <= 0x1p-126f));
  });
}

TEST_CASE("instruction sets are listed, found and forced by name") {
  CHECK(isa::compiled_in().front().kernels.name == "scalar");
  CHECK(isa::find("scalar") != nullptr);
  CHECK(isa::find("no such set") == nullptr);
  CHECK(isa::find(isa::best().name) == &isa::best());
  if (const char* forced = std::getenv("PQKV_ISA"); forced != nullptr && isa::find(forced) != nullptr) {
    CHECK(isa::best().name == forced);
  }
}
