// Every compiled-in instruction set that runs here: float kernels against references in double, integer parts against
// the scalar specification, bit for bit. Buffers have their exact size, so that the address sanitiser sees every overrun.
#include <cmath>
#include <cstring>

#include "catch.hpp"
#include "isa/sets.hpp"
#include "pqkv/policy.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

/// Units in the last place of exp, as kernels.hpp promises.
constexpr double exponential_ulp = 4;

const std::size_t dims[] = {1, 7, 8, 16, 20, 24, 48, 64, 80, 96, 128, 256};

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
          isa::scalar::integer_accumulate<bits>(data, blocks, dim, group, weights.data(), queries, stride, expected.data(), 0);
          kernel(data, blocks, dim, group, weights.data(), queries, stride, got.data(), 4096);
          const double most = ((1 << bits) - 1.0 + 4.0) * static_cast<double>(stride);
          for (std::size_t i = 0; i < got.size(); ++i) {
            REQUIRE(std::fabs(static_cast<double>(got[i] - expected[i])) <= float_sum_tolerance * most);
          }
          // Offsets 0, scales 1, weights of which every float sum is exact, and one block: an exact integer times the step,
          // so equal to the last bit. 254.5 of 255 levels must be rounded to the even one.
          if (blocks == 1 && queries == 1) {
            auto plain = bytes;
            const std::vector<f16> ones(groups * 32, to_f16(1.0f));
            std::memcpy(plain.data(), ones.data(), groups * 64);
            std::memset(plain.data() + groups * 64, 0, groups * 64);
            const auto* plain_data = reinterpret_cast<const std::byte*>(plain.data());
            for (std::size_t t = 0; t < 32; ++t) weights[t] = static_cast<float>(random_bytes(32, dim)[t]) / 512;
            weights[3] = 255.0f / 256;
            weights[4] = 254.5f / 256;
            std::fill(expected.begin(), expected.end(), 0.0f);
            std::fill(got.begin(), got.end(), 0.0f);
            isa::scalar::integer_accumulate<bits>(plain_data, 1, dim, group, weights.data(), 1, 32, expected.data(), 0);
            kernel(plain_data, 1, dim, group, weights.data(), 1, 32, got.data(), 4096);
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

TEST_CASE("products with a small matrix on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for (const std::size_t columns : {1, 7, 8, 15, 16, 20, 40, 64, 80, 96, 112, 144, 250, 256}) {
      for (const std::size_t rows : {1, 4, 16, 64}) {
        for (const std::size_t queries : {1, 2, 3, 4, 6, 7, 16}) {
          const std::size_t row_stride = columns + 5, weight_stride = rows + 2, out_stride = columns + 3;
          const auto matrix = normal_floats((rows - 1) * row_stride + columns, 1);
          const auto weights = normal_floats((queries - 1) * weight_stride + rows, 2);
          const auto before = normal_floats((queries - 1) * out_stride + columns, 3);
          auto outs = before;
          kernels.product_f32(matrix.data(), row_stride, rows, columns, weights.data(), weight_stride, queries, outs.data(),
                              out_stride);
          for (std::size_t i = 0; i < outs.size(); ++i) {
            const std::size_t q = i / out_stride, c = i % out_stride;
            if (c >= columns) {
              REQUIRE(outs[i] == before[i]);
              continue;
            }
            double sum = static_cast<double>(before[i]), magnitude = std::fabs(sum);
            for (std::size_t r = 0; r < rows; ++r) {
              const double term =
                  static_cast<double>(weights[q * weight_stride + r]) * static_cast<double>(matrix[r * row_stride + c]);
              sum += term;
              magnitude += std::fabs(term);
            }
            REQUIRE(std::fabs(static_cast<double>(outs[i]) - sum) <= float_sum_tolerance * magnitude);
          }
        }
      }
    }
  });
}

TEST_CASE("integer codes, scales and offsets are the specification's, bit for bit, on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for (const std::size_t group : {8, 16, 24, 64}) {
      const std::size_t dim = group * 3;
      for (const std::uint32_t levels : {3u, 15u, 255u}) {
        for (std::uint64_t seed = 1; seed < 20; ++seed) {
          auto row = normal_floats(dim, seed);
          if (seed == 2) std::fill(row.begin(), row.end(), -0.0f);
          if (seed == 3) row[group / 2] = 0.0f, row[group / 2 + 1] = -0.0f;  // the least may be either
          if (seed == 3) for (float& x : row) x = std::fabs(x) < 1e-30f ? x : std::fabs(x);
          if (seed == 4) row[1] = 3e38f, row[2] = -3e38f, row[dim - 1] = 1e6f;
          if (seed == 5) for (float& x : row) x *= 1e-9f;                    // scales below f16's least
          if (seed == 6) for (std::size_t d = 0; d < dim; ++d) row[d] = static_cast<float>(d % 7) * 0.5f;  // ties
          f16 scales[3], offsets[3], expected_scales[3], expected_offsets[3];
          std::vector<std::uint8_t> codes(dim), expected(dim);
          kernels.integer_encode(row.data(), dim, group, levels, scales, offsets, codes.data());
          isa::scalar::integer_encode(row.data(), dim, group, levels, expected_scales, expected_offsets, expected.data());
          REQUIRE(codes == expected);
          REQUIRE(std::memcmp(scales, expected_scales, sizeof scales) == 0);
          REQUIRE(std::memcmp(offsets, expected_offsets, sizeof offsets) == 0);
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

TEST_CASE("bounds of blocks' masses are never below them and little above, on every instruction set") {
  for_each_set([](const isa::KernelSet& kernels) {
    for (const float shift : {0.0f, -3.5f, 211.7f, 40000.0f}) {
      const std::size_t blocks = 40;
      auto x = normal_floats(blocks * 32, 6);
      for (std::size_t i = 0; i < x.size(); ++i) {
        // From all tokens at the largest score to all of them far below it.
        x[i] = shift - std::fabs(x[i]) * 0.06f * static_cast<float>((i / 32) * (i / 32));
      }
      constexpr float unseen = -1e30f;  // as attention marks tokens that no query sees
      std::fill_n(x.begin() + 32, 31, unseen);
      std::fill_n(x.begin() + 64, 32, unseen);
      std::vector<float> bounds(blocks, -1.0f);
      kernels.mass_bounds(x.data(), blocks, shift, bounds.data());
      for (std::size_t b = 0; b < blocks; ++b) {
        double mass = 0;
        for (std::size_t t = 0; t < 32; ++t) {
          const double power = std::exp(static_cast<double>(x[b * 32 + t] - shift));
          if (power >= 0x1p-126) mass += power;
        }
        REQUIRE(static_cast<double>(bounds[b]) >= mass);
        REQUIRE(static_cast<double>(bounds[b]) <= static_cast<double>(isa::mass_bound_excess) * mass + 64 * 0x1p-126);
      }
      REQUIRE(bounds[2] == 0.0f);
    }
  });
}

TEST_CASE("instruction sets are listed, found and forced by name") {
  CHECK(isa::compiled_in().front().kernels->name == "scalar");
  CHECK(isa::find("scalar") != nullptr);
  CHECK(isa::find("no such set") == nullptr);
  CHECK(isa::find(isa::best().name) == &isa::best());
  const char* asked = std::getenv("PQKV_ISA");
  CHECK(isa::requested() == (asked == nullptr ? "" : asked));
  if (isa::find(isa::requested()) != nullptr) {
    CHECK(isa::best().name == isa::requested());
  }
}
