// A key format of one's own: a sign bit per element and the row's mean magnitude. (To learn from: too coarse for real keys.)
#include <pqkv/base/random.hpp>
#include <pqkv/pqkv.hpp>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

class SignKeys {
 public:
  struct QueryTable {
    std::vector<float> queries;
    std::size_t count = 0;
  };
  explicit SignKeys(std::size_t dim) : dim_(dim) {}
  std::size_t dim() const noexcept { return dim_; }
  // Per token: f32 magnitude, then dim/8 bytes of sign bits.
  std::size_t token_bytes() const noexcept { return sizeof(float) + (dim_ + 7) / 8; }
  std::size_t block_bytes() const noexcept { return pqkv::block_tokens * token_bytes(); }
  std::size_t codebook_bytes() const noexcept { return 0; }
  std::size_t run_tokens() const noexcept { return pqkv::unlimited_tokens; }
  std::string describe() const { return "sign"; }

  void encode(pqkv::FloatRows rows, pqkv::RunPlace /*place*/, std::byte* block) const noexcept {
    std::memset(block, 0, block_bytes());
    for (std::size_t t = 0; t < rows.count; ++t) {
      std::byte* token = block + t * token_bytes();
      float magnitude = 0;
      for (std::size_t d = 0; d < dim_; ++d) {
        magnitude += std::fabs(rows.row(t)[d]) / static_cast<float>(dim_);
        if (rows.row(t)[d] < 0) token[sizeof(float) + d / 8] |= std::byte{1} << (d % 8);
      }
      std::memcpy(token, &magnitude, sizeof magnitude);
    }
  }
  void decode(const std::byte* block, std::size_t index, pqkv::RunPlace /*place*/, float* row) const noexcept {
    const std::byte* token = block + index * token_bytes();
    float magnitude = 0;
    std::memcpy(&magnitude, token, sizeof magnitude);
    for (std::size_t d = 0; d < dim_; ++d) {
      row[d] = (token[sizeof(float) + d / 8] >> (d % 8) & std::byte{1}) == std::byte{0} ? magnitude : -magnitude;
    }
  }
  void prepare(QueryTable& table, pqkv::FloatRows queries) const {
    table.count = queries.count;
    table.queries.clear();
    for (std::size_t q = 0; q < queries.count; ++q) {
      table.queries.insert(table.queries.end(), queries.row(q), queries.row(q) + dim_);
    }
  }
  void turn(QueryTable& /*table*/, std::int64_t /*origin*/) const noexcept {}
  void score(const QueryTable& table, pqkv::BlockSpan span, float* scores, std::size_t stride) const noexcept {
    float row[512];
    for (std::size_t t = 0; t < span.blocks() * pqkv::block_tokens; ++t) {
      decode(span.data + t / 32 * block_bytes(), t % 32, 0, row);
      for (std::size_t q = 0; q < table.count; ++q) {
        float sum = 0;
        for (std::size_t d = 0; d < dim_; ++d) sum += table.queries[q * dim_ + d] * row[d];
        scores[q * stride + t] = sum;
      }
    }
  }

 private:
  std::size_t dim_;
};
static_assert(pqkv::KeyPolicy<SignKeys>);

int main() {
  pqkv::Random random(1);
  std::vector<float> rows(1000 * 64), out(64);
  for (float& x : rows) x = static_cast<float>(random.normal());
  pqkv::HeadCache cache(SignKeys(64), pqkv::ExactValues(64), {.sinks = 4, .recent = 32});
  if (!cache.append(pqkv::Rows(rows.data(), 1000, 64), pqkv::Rows(rows.data(), 1000, 64))) return 1;
  pqkv::Workspace<SignKeys, pqkv::ExactValues> workspace;
  pqkv::attend(cache, pqkv::FloatRows(rows.data(), 1, 64), out.data(), 64, workspace);
  std::printf("%s keys: %.1f bytes per token, first output %.3f\n", cache.keys().describe().c_str(),
              cache.bytes_per_token(), static_cast<double>(out[0]));
}
