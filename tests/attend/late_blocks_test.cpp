// LateBlocks: every block is added once, with its own weights, whatever is pushed in what pieces; and what it asks for is
// what it adds later.
#include <map>

#include "catch.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

/// Float sums in another order.
constexpr double order_tolerance = 1e-5;

/// Exact values that note which bytes were read and which were asked for.
struct WatchedValues : ExactValues {
  using ExactValues::ExactValues;
  struct Record {
    std::map<const std::byte*, int> read, asked;
    std::size_t longest = 0;  // span, in blocks
  };
  Record* record = nullptr;
  void add(WeightedSum& sum, BlockSpan span, const float* weights, std::size_t stride) const noexcept {
    REQUIRE(span.tokens % block_tokens == 0);
    record->longest = std::max(record->longest, span.blocks());
    for (std::size_t b = 0; b < span.blocks(); ++b) {
      ++record->read[span.data + b * block_bytes()];
      if (span.ahead != 0) ++record->asked[span.data + b * block_bytes() + span.ahead];
    }
    ExactValues::add(sum, span, weights, stride);
  }
};
static_assert(ValuePolicy<WatchedValues>);

}  // namespace

TEST_CASE("late blocks are added once each, with their own weights, however they come") {
  const std::size_t dim = 16, blocks = 90;
  WatchedValues policy{dim};
  std::vector<std::byte> data(blocks * policy.block_bytes());
  const auto rows = normal_floats(blocks * block_tokens * dim, 1);
  for (std::size_t b = 0; b < blocks; ++b) {
    policy.encode({rows.data() + b * block_tokens * dim, block_tokens, dim}, data.data() + b * policy.block_bytes());
  }
  for (const std::size_t queries : {1, 3, 16}) {
    for (const std::size_t room : {1, 4, 16}) {
      for (const std::size_t piece : {1, 3, 16}) {  // blocks that are pushed together; every fifth piece is left out
        WatchedValues::Record record;
        policy.record = &record;
        const std::size_t stride = blocks * block_tokens + 5;
        auto weights = normal_floats(queries * stride, 2);
        for (float& weight : weights) weight = std::fabs(weight);
        WatchedValues::WeightedSum sum;
        policy.begin(sum, queries);
        LateBlocks late;
        late.reset(queries, room);
        std::vector<double> expected(queries * dim);
        std::size_t pushed = 0;
        for (std::size_t first = 0; first < blocks; first += piece) {
          if (first / piece % 5 == 4) continue;
          const std::size_t count = std::min(piece, blocks - first);
          late.push(policy, sum, data.data() + first * policy.block_bytes(), count, weights.data() + first * block_tokens, stride);
          pushed += count;
          REQUIRE(record.read.size() == pushed - std::min(pushed, room));
          for (std::size_t i = 0; i < queries * count * block_tokens * dim; ++i) {
            const std::size_t q = i / (count * block_tokens * dim), rest = i % (count * block_tokens * dim);
            expected[q * dim + rest % dim] += static_cast<double>(weights[q * stride + first * block_tokens + rest / dim]) *
                                              static_cast<double>(rows[first * block_tokens * dim + rest]);
          }
        }
        // All but those that came while there was room were asked for while others were added.
        REQUIRE(record.asked.size() == pushed - std::min(pushed, room));
        late.flush(policy, sum);
        REQUIRE(record.read.size() == pushed);
        for (const auto& [block, times] : record.read) REQUIRE(times == 1);
        for (const auto& [block, times] : record.asked) REQUIRE((times == 1 && record.read.count(block) == 1));
        REQUIRE(record.longest <= room);
        if (piece == room) REQUIRE(record.longest == room);
        std::vector<float> outs(queries * dim);
        policy.finish(sum, outs.data(), dim);
        for (std::size_t i = 0; i < outs.size(); ++i) {
          REQUIRE(static_cast<double>(outs[i]) == Approx(expected[i]).margin(order_tolerance * static_cast<double>(stride)));
        }
      }
    }
  }
}
