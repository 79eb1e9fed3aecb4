// Encoding and training against FAISS's ProductQuantizer: the same rows, the same centroids.
#include "peers/peers.hpp"
#include "support/data.hpp"
#include "targets.hpp"
#if defined(PQKV_BENCH_TRAIN)
#include "pqkv/train.hpp"
#endif

namespace pqkv::bench {
namespace {

void compare_encoding(std::size_t dim, std::size_t subspaces, std::size_t bits, double target) {
  constexpr std::size_t rows = 4096;
  const std::size_t count = std::size_t{1} << bits, width = dim / subspaces;
  const std::vector<float> centroids = random_floats(dim * count, 3), data = random_floats(rows * dim, 4);
  std::vector<float> turned(centroids.size());
  for (std::size_t s = 0; s < subspaces; ++s) {
    for (std::size_t i = 0; i < width * count; ++i) {
      turned[(s * count + i % count) * width + i / count] = centroids[s * width * count + i];
    }
  }
  auto codebook = must(Codebook::make({dim, subspaces, count}, centroids));
  const AnyKeys format = bits == 8 ? AnyKeys(must(Pq8Keys::make(codebook))) : AnyKeys(must(Pq4Keys::make(codebook)));
  std::vector<std::byte> block(format.block_bytes());
  std::vector<std::uint8_t> codes(rows * subspaces);
  Contest contest;
  const std::size_t ours = contest.add(rows, [&] {
    for (std::size_t r = 0; r < rows; r += 32) format.encode(FloatRows(data.data() + r * dim, 32, dim), 0, block.data());
  });
  const std::string name = fmt::format("encode {} centroids, dim {}, m={}", count, dim, subspaces);
  if (!has_faiss()) {
    contest.hold(21);
    print_figure(name, contest.time(ours), "ns/row");
    return print_left_out(name + ", × FAISS compute_codes", "FAISS not found");
  }
  const FaissCodes quantizer{dim, subspaces, bits, 0, turned.data(), nullptr};
  const std::size_t peer = contest.add(rows, [&] { faiss_encode(quantizer, data.data(), rows, codes.data()); });
  contest.hold(21);
  print_figure(name, contest.time(ours), "ns/row");
  print_figure(name + ", FAISS", contest.time(peer), "ns/row");
  print_target(name + ", × FAISS compute_codes", contest.faster(ours, peer), target);
}

}  // namespace

void encode_targets() {
  compare_encoding(64, 8, 8, 2.5);
  compare_encoding(128, 8, 8, 5);
  compare_encoding(64, 16, 4, 1);
  compare_encoding(128, 32, 4, 1);
}

void train_targets() {
#if defined(PQKV_BENCH_TRAIN)
  constexpr std::size_t dim = 64, rows = 65536;
  const std::vector<float> data = random_floats(rows * dim, 5);
  for (const std::size_t subspaces : {8, 16}) {
    Contest contest;
    const std::size_t ours = contest.add(1e9, [&] {
      const auto trained = must(train_codebook(FloatRows(data.data(), rows, dim), {dim, subspaces, 256},
                                               {.iterations = 25, .tolerance = 0}));
      if (trained.codebook == nullptr) fail({Errc::invalid_data, "no codebook"});
    });
    const std::string name = fmt::format("train 256 centroids, dim {}, m={}, {} rows, 25 iterations", dim, subspaces, rows);
    if (!has_faiss()) {
      contest.hold(3);
      print_figure(name, contest.time(ours), "s");
      print_left_out(name + ", × FAISS", "FAISS not found");
      continue;
    }
    const std::size_t usual = contest.add(1e9, [&] { faiss_train(dim, subspaces, 8, data.data(), rows, false); });
    const std::size_t blas = contest.add(1e9, [&] { faiss_train(dim, subspaces, 8, data.data(), rows, true); });
    contest.hold(3);
    print_figure(name, contest.time(ours), "s");
    print_figure(name + ", FAISS as it comes", contest.time(usual), "s");
    print_figure(name + ", FAISS with BLAS", contest.time(blas), "s");
    const bool better = contest.time(blas).median < contest.time(usual).median;
    print_target(name + ", × FAISS at its better setting", contest.faster(ours, better ? blas : usual), 1.3);
  }
#endif
}

}  // namespace pqkv::bench
