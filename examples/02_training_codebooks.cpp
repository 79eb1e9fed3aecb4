// Training codebooks from sample keys, and what the training says about itself. Needs Eigen.
#include <pqkv/pqkv.hpp>
#include <pqkv/train.hpp>

#include <cstdio>
#include <vector>

#include "pqkv/base/random.hpp"

int main() {
  constexpr std::size_t dim = 64, rows = 4096;
  // Stands in for the keys of one kv head: 40 directions with some noise. Real ones come from your model.
  pqkv::Random random(1);
  std::vector<float> directions(40 * dim), keys(rows * dim);
  for (float& x : directions) x = static_cast<float>(random.normal());
  for (std::size_t r = 0; r < rows; ++r) {
    const float* direction = directions.data() + random.below(40) * dim;
    for (std::size_t d = 0; d < dim; ++d) keys[r * dim + d] = direction[d] + 0.3f * static_cast<float>(random.normal());
  }

  // 8 subspaces of 256 centroids: 8 bytes per key instead of 128 in f16.
  const auto progress = [](std::size_t done, std::size_t total) {
    if (done % 5 == 0) std::printf("iteration %zu of at most %zu\n", done, total);
    return true;  // false would stop it
  };
  const auto trained = pqkv::train_codebook(pqkv::FloatRows(keys.data(), rows, dim),
                                            {.dim = dim, .subspaces = 8, .centroids = 256}, {.seed = 7},
                                            pqkv::SerialExecutor{}, progress);
  if (!trained) return std::puts(trained.error().message.c_str());
  for (std::size_t s = 0; s < trained->subspaces.size(); ++s) {
    const pqkv::SubspaceReport& report = trained->subspaces[s];
    std::printf("subspace %zu: error %.3f -> %.3f, imbalance %.2f, %.0f rows per centroid\n", s, report.objective.front(),
                report.objective.back(), report.imbalance, report.samples_per_centroid);
  }

  auto policy = pqkv::Pq8Keys::make(trained->codebook);
  if (!policy) return std::puts(policy.error().message.c_str());
  pqkv::HeadCache cache(*policy, pqkv::ExactValues(dim, pqkv::ScalarType::f16), {.sinks = 4, .recent = 32});
  const pqkv::Rows all(keys.data(), rows, dim);
  if (pqkv::Status status = cache.append(all, all); !status) return std::puts(status.error().message.c_str());
  std::printf("%s: %.1f bytes per token, %zu bytes of codebook\n", cache.keys().describe().c_str(),
              cache.bytes_per_token(), cache.keys().codebook_bytes());
}
