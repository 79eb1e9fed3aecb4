// Heavy tokens: which tokens of a block are kept finer, by how much, and that the others are left alone.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "catch.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr std::size_t dim = 64;

/// Two bits of a normal variable leave 0.34 of its deviation; of what 64 coordinates lack once turned, at most this.
constexpr double finer = 0.5;

double distance(const float* a, const float* b) {
  double sum = 0;
  for (std::size_t d = 0; d < dim; ++d) sum += std::pow(static_cast<double>(a[d]) - static_cast<double>(b[d]), 2);
  return std::sqrt(sum);
}

/// ‖row − decoded row‖ of each.
template <class Values>
std::vector<double> errors_of(const Values& values, const std::vector<std::byte>& block, const std::vector<float>& rows) {
  std::vector<double> errors;
  std::vector<float> row(dim);
  for (std::size_t t = 0; t < rows.size() / dim; ++t) {
    values.decode(block.data(), t, row.data());
    errors.push_back(distance(rows.data() + t * dim, row.data()));
  }
  return errors;
}

}  // namespace

TEST_CASE("of each block the tokens with the most saliency times error are finer, the others as they were") {
  for (const AnyValues& inner : value_policies(dim)) {
    if (inner.describe().starts_with("exact")) continue;  // nothing to add
    for (const std::size_t heavy : {1, 4, 7, 16}) {
      INFO(inner.describe() << " heavy " << heavy);
      const auto values = HeavyValues<AnyValues>::make(inner, heavy).value();
      REQUIRE(values.wants_saliency());
      CHECK(values.block_bytes() == inner.block_bytes() + (heavy * (2 + dim / 4 + 1) + 3) / 4 * 4);
      CHECK(values.describe() == inner.describe() + ":heavy=" + std::to_string(heavy));
      const auto rows = normal_floats(32 * dim, heavy);
      std::vector<float> saliency = normal_floats(32, 100 + heavy);
      for (float& x : saliency) x = x * x;
      std::vector<std::byte> block(values.block_bytes()), plain(inner.block_bytes());
      values.encode({rows.data(), 32, dim}, saliency.data(), block.data());
      inner.encode({rows.data(), 32, dim}, plain.data());
      CHECK(std::memcmp(block.data(), plain.data(), plain.size()) == 0);

      const auto before = errors_of(inner, plain, rows), after = errors_of(values, block, rows);
      std::vector<std::size_t> order(32);
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return static_cast<double>(saliency[a]) * before[a] > static_cast<double>(saliency[b]) * before[b];
      });
      for (std::size_t i = 0; i < 32; ++i) {
        if (i < heavy) {
          REQUIRE(after[order[i]] <= finer * before[order[i]]);
        } else {
          REQUIRE(after[order[i]] == before[order[i]]);
        }
      }
    }
  }
}

TEST_CASE("without saliency, or where all is equal, the tokens that a format renders worst are finer") {
  const auto inner = Int2Values::make(dim, 16).value();
  const auto values = HeavyValues<Int2Values>::make(inner, 4).value();
  auto rows = normal_floats(32 * dim, 1);
  const std::vector<std::size_t> wild = {2, 9, 17, 31};
  for (const std::size_t t : wild) {
    for (std::size_t d = 0; d < dim; ++d) rows[t * dim + d] *= 5;
  }
  std::vector<std::byte> plain(values.block_bytes()), equal(values.block_bytes()), coarse(inner.block_bytes());
  values.encode({rows.data(), 32, dim}, plain.data());
  inner.encode({rows.data(), 32, dim}, coarse.data());
  const auto before = errors_of(inner, coarse, rows), after = errors_of(values, plain, rows);
  for (std::size_t t = 0; t < 32; ++t) {
    REQUIRE((after[t] < before[t]) == (std::find(wild.begin(), wild.end(), t) != wild.end()));
  }
  for (const float each : {1e-30f, 0.25f, 1000.0f}) {
    const std::vector<float> saliency(32, each);
    values.encode({rows.data(), 32, dim}, saliency.data(), equal.data());
    CHECK(equal == plain);
  }
}

TEST_CASE("rows that nobody reads are never finer, and few rows leave no byte to chance") {
  const auto inner = Turbo2Values::make(dim).value();
  const auto values = HeavyValues<Turbo2Values>::make(inner, 5).value();
  const auto rows = normal_floats(32 * dim, 1);
  for (const std::size_t live : {0, 1, 3, 5, 9}) {
    std::vector<float> saliency(32, 0.0f);
    for (std::size_t i = 0; i < live; ++i) saliency[3 * i] = 1.0f;
    for (const std::size_t count : {28, 32}) {
      std::vector<std::byte> block(values.block_bytes(), std::byte{0xee}), again(values.block_bytes(), std::byte{0x11});
      std::vector<std::byte> coarse(inner.block_bytes());
      values.encode({rows.data(), count, dim}, saliency.data(), block.data());
      values.encode({rows.data(), count, dim}, saliency.data(), again.data());
      CHECK(block == again);
      inner.encode({rows.data(), count, dim}, coarse.data());
      const auto some = std::vector<float>(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(count * dim));
      const auto before = errors_of(inner, coarse, some), after = errors_of(values, block, some);
      std::size_t changed = 0;
      for (std::size_t t = 0; t < count; ++t) {
        changed += after[t] != before[t] ? 1 : 0;
        REQUIRE((after[t] == before[t] || saliency[t] > 0));
      }
      CHECK(changed == std::min<std::size_t>(live, 5));
    }
  }
}

TEST_CASE("heavy tokens refuse what they cannot be") {
  const auto refusal = [](std::size_t of, std::size_t heavy) {
    return HeavyValues<Int2Values>::make(Int2Values::make(of, 0).value(), heavy).error().message;
  };
  CHECK(refusal(64, 0).find("heavy=0 of 32 tokens: choose 0..16") != std::string::npos);
  CHECK(refusal(64, 17).find("heavy=17") != std::string::npos);
  CHECK(refusal(24, 4).find("multiple of 16") != std::string::npos);
  CHECK(refusal(2048, 4).find("at most 1024") != std::string::npos);
  static_assert(!RowMovable<HeavyValues<Int2Values>> && SaliencyAware<HeavyValues<Int2Values>>);
  static_assert(!SaliencyAware<Int2Values>);
}
