// Eigen: two products over mapped rows. Built with -march=native, because Eigen chooses its kernels when it is compiled.
#include "peers/peers.hpp"

#if defined(PQKV_BENCH_EIGEN)
#include <Eigen/Core>

#include "peers/softmax.hpp"

namespace pqkv::bench {
namespace {

using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void attend_rows(const float* queries, std::size_t group, const float* keys, const float* values, std::size_t tokens,
                 std::size_t dim, float* scores, float* outs) {
  const auto t = static_cast<Eigen::Index>(tokens);
  const auto d = static_cast<Eigen::Index>(dim);
  const auto g = static_cast<Eigen::Index>(group);
  const Eigen::Map<const RowMajor> key_rows(keys, t, d), value_rows(values, t, d), query_rows(queries, g, d);
  Eigen::Map<RowMajor> score_rows(scores, g, t), out_rows(outs, g, d);
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  if (group == 1) {
    Eigen::Map<Eigen::VectorXf> score(scores, t), out(outs, d);
    score.noalias() = key_rows * (scale * Eigen::Map<const Eigen::VectorXf>(queries, d));
    softmax(scores, tokens);
    out.noalias() = value_rows.transpose() * score;
    return;
  }
  score_rows.noalias() = (scale * query_rows) * key_rows.transpose();
  for (std::size_t q = 0; q < group; ++q) softmax(scores + q * tokens, tokens);
  out_rows.noalias() = score_rows * value_rows;
}

}  // namespace

AttendRows eigen_attend() { return attend_rows; }

}  // namespace pqkv::bench

#else
namespace pqkv::bench {
AttendRows eigen_attend() { return nullptr; }
}  // namespace pqkv::bench
#endif
