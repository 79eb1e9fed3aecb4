// FAISS: IndexPQ, IndexPQFastScan, ProductQuantizer. Through its public interface only.
#include "peers/peers.hpp"

#if defined(PQKV_BENCH_FAISS)
// FAISS's headers do not build under this project's warnings.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include <faiss/IndexPQ.h>
#include <faiss/IndexPQFastScan.h>
#include <faiss/utils/distances.h>
#include <faiss/utils/utils.h>
#include <omp.h>
#pragma GCC diagnostic pop

#include <utility>

namespace pqkv::bench {
namespace {

using Number = decltype(faiss::Index::ntotal);  // its own name for it moved between versions

faiss::ProductQuantizer quantizer_of(const FaissCodes& codes) {
  faiss::ProductQuantizer quantizer(codes.dim, codes.subspaces, codes.bits);
  quantizer.verbose = false;
  const std::size_t count = codes.dim << codes.bits;
  quantizer.centroids.assign(codes.centroids, codes.centroids + count);
  return quantizer;
}

template <class Index>
class Held final : public FaissIndex {
 public:
  explicit Held(Index index) : index_(std::move(index)) {}
  void search(const float* queries, std::size_t count) const override {
    float distances[16];
    Number labels[16];
    index_.search(static_cast<Number>(count), queries, 1, distances, labels);
  }

 private:
  Index index_;
};

}  // namespace

bool has_faiss() { return true; }
std::string faiss_name() {
  return std::to_string(FAISS_VERSION_MAJOR) + "." + std::to_string(FAISS_VERSION_MINOR) + "." +
         std::to_string(FAISS_VERSION_PATCH) + ", " + faiss::get_compile_options();
}

std::unique_ptr<FaissIndex> faiss_index(const FaissCodes& codes, bool fast_scan) {
  omp_set_num_threads(1);
  faiss::IndexPQ index(static_cast<int>(codes.dim), codes.subspaces, codes.bits, faiss::METRIC_INNER_PRODUCT);
  index.pq = quantizer_of(codes);
  index.is_trained = true;
  index.codes.assign(codes.codes, codes.codes + codes.tokens * index.pq.code_size);
  index.ntotal = static_cast<Number>(codes.tokens);
  if (!fast_scan) return std::make_unique<Held<faiss::IndexPQ>>(std::move(index));
  return std::make_unique<Held<faiss::IndexPQFastScan>>(faiss::IndexPQFastScan(index));
}

void faiss_encode(const FaissCodes& quantizer, const float* rows, std::size_t count, std::uint8_t* out) {
  omp_set_num_threads(1);
  static faiss::ProductQuantizer kept;
  static const float* whose = nullptr;
  if (whose != quantizer.centroids) {
    kept = quantizer_of(quantizer);
    whose = quantizer.centroids;
  }
  kept.compute_codes(rows, out, count);
}

void faiss_train(std::size_t dim, std::size_t subspaces, std::size_t bits, const float* rows, std::size_t count,
                 bool blas) {
  omp_set_num_threads(1);
  const int threshold = faiss::distance_compute_blas_threshold;
  if (blas) faiss::distance_compute_blas_threshold = 20;
  faiss::ProductQuantizer quantizer(dim, subspaces, bits);
  quantizer.cp.niter = 25;
  quantizer.cp.max_points_per_centroid = static_cast<int>(count);  // no sampling
  quantizer.cp.verbose = false;
  quantizer.train(count, rows);
  faiss::distance_compute_blas_threshold = threshold;
}

}  // namespace pqkv::bench

#else
namespace pqkv::bench {
bool has_faiss() { return false; }
std::string faiss_name() { return "not found"; }
std::unique_ptr<FaissIndex> faiss_index(const FaissCodes&, bool) { return nullptr; }
void faiss_encode(const FaissCodes&, const float*, std::size_t, std::uint8_t*) {}
void faiss_train(std::size_t, std::size_t, std::size_t, const float*, std::size_t, bool) {}
}  // namespace pqkv::bench
#endif
