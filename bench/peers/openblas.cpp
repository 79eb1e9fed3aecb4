// OpenBLAS: sgemv, softmax, sgemv; for groups sgemm, which reads the rows once for all queries.
#include "peers/peers.hpp"

#if defined(PQKV_BENCH_OPENBLAS)
#include <cblas.h>

#include "peers/softmax.hpp"

namespace pqkv::bench {
namespace {

void attend_rows(const float* queries, std::size_t group, const float* keys, const float* values, std::size_t tokens,
                 std::size_t dim, float* scores, float* outs) {
  const auto t = static_cast<blasint>(tokens);
  const auto d = static_cast<blasint>(dim);
  const auto g = static_cast<blasint>(group);
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  if (group == 1) {
    cblas_sgemv(CblasRowMajor, CblasNoTrans, t, d, scale, keys, d, queries, 1, 0.0f, scores, 1);
    softmax(scores, tokens);
    cblas_sgemv(CblasRowMajor, CblasTrans, t, d, 1.0f, values, d, scores, 1, 0.0f, outs, 1);
    return;
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, g, t, d, scale, queries, d, keys, d, 0.0f, scores, t);
  for (std::size_t q = 0; q < group; ++q) softmax(scores + q * tokens, tokens);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, g, d, t, 1.0f, scores, t, values, d, 0.0f, outs, d);
}

}  // namespace

AttendRows openblas_attend() {
  openblas_set_num_threads(1);
  return attend_rows;
}
std::string openblas_name() { return std::string(openblas_get_config()) + ", kernels " + openblas_get_corename(); }

}  // namespace pqkv::bench

#else
namespace pqkv::bench {
AttendRows openblas_attend() { return nullptr; }
std::string openblas_name() { return "not found"; }
}  // namespace pqkv::bench
#endif
