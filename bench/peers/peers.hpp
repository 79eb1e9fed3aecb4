// Other libraries at the same work, where CMake finds them; every function here says with `nullptr` or `false` that its
// library is not in this build. One thread each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace pqkv::bench {

/// Attention of `group` queries over exact f32 rows [tokens][dim] with the library's own products; softmax by hand, the
/// same for all. `scores` has group · tokens floats, `outs` group · dim.
using AttendRows = void (*)(const float* queries, std::size_t group, const float* keys, const float* values,
                            std::size_t tokens, std::size_t dim, float* scores, float* outs);
/// sgemv per query, or sgemm for groups.
[[nodiscard]] AttendRows openblas_attend();
[[nodiscard]] AttendRows eigen_attend();
[[nodiscard]] std::string openblas_name();

/// A FAISS index over codes that the caller brings; inner product.
class FaissIndex {
 public:
  virtual ~FaissIndex() = default;
  /// The best one of all keys for each of `count` queries, tables included. FAISS computes every distance and keeps one.
  virtual void search(const float* queries, std::size_t count) const = 0;
};

/// `codes`: FAISS's own layout, [token][subspace], a byte per code or two codes of 4 bits per byte (the first low).
/// `centroids`: [subspace][centroid][width].
struct FaissCodes {
  std::size_t dim;
  std::size_t subspaces;
  std::size_t bits;
  std::size_t tokens;
  const float* centroids;
  const std::uint8_t* codes;
};
[[nodiscard]] bool has_faiss();
[[nodiscard]] std::string faiss_name();
/// IndexPQ, or IndexPQFastScan (4 bits only).
[[nodiscard]] std::unique_ptr<FaissIndex> faiss_index(const FaissCodes& codes, bool fast_scan);
/// ProductQuantizer::compute_codes of `count` rows [count][dim].
void faiss_encode(const FaissCodes& quantizer, const float* rows, std::size_t count, std::uint8_t* out);
/// ProductQuantizer::train, 25 iterations; `blas` makes FAISS assign by matrix products whatever its threshold says.
void faiss_train(std::size_t dim, std::size_t subspaces, std::size_t bits, const float* rows, std::size_t count,
                 bool blas);

}  // namespace pqkv::bench
