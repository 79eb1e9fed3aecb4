// Codebooks from arrays of other tools and back.
#include <filesystem>
#include <fstream>

#include "catch.hpp"
#include "pqkv/io/codebook_array.hpp"
#include "pqkv/io/safetensors.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

std::string temporary(const char* name) { return (std::filesystem::temp_directory_path() / name).string(); }

}  // namespace

TEST_CASE("a centroid's elements lie together in an array, and decode to it") {
  NpyArray array{{2, 16, 3}, ScalarType::f32, {}};
  for (std::size_t i = 0; i < 2 * 16 * 3; ++i) array.data.push_back(float(i));
  const auto codebook = codebook_from_array(array).value();
  CHECK(codebook->shape() == CodebookShape{6, 2, 16});
  const Pq4Keys keys = Pq4Keys::make(codebook).value();
  // Centroid 5 of the first subspace and 9 of the second: the row is their own nearest.
  std::vector<float> row;
  for (const std::size_t first : {std::size_t{5 * 3}, std::size_t{(16 + 9) * 3}}) {
    for (std::size_t d = 0; d < 3; ++d) row.push_back(array.data[first + d]);
  }
  std::vector<std::byte> block(keys.block_bytes());
  keys.encode({row.data(), 1, 6}, {}, block.data());
  std::vector<float> decoded(6);
  keys.decode(block.data(), 0, {}, decoded.data());
  CHECK(decoded == row);
}

TEST_CASE("codebooks go through .npy and safetensors") {
  const std::string npy = temporary("pqkv_codebook.npy"), tensors = temporary("pqkv_codebook.safetensors");
  for (const auto& codebook : {random_codebook(32, 8, 256), random_codebook(32, 2, 16, 3), random_codebook(16, 16, 4)}) {
    const NpyArray array = array_of(*codebook);
    REQUIRE(write_npy(npy, array.shape, array.data, ScalarType::f32));
    CHECK(codebook_from_array(read_npy(npy).value()).value()->id() == codebook->id());

    std::string shape, header;
    for (const std::size_t size : array.shape) shape += (shape.empty() ? "" : ",") + std::to_string(size);
    header = R"({"centroids":{"dtype":"F32","shape":[)" + shape + R"(],"data_offsets":[0,)" +
             std::to_string(4 * array.data.size()) + "]}}";
    const std::uint64_t size = header.size();
    std::ofstream(tensors, std::ios::binary)
        .write(reinterpret_cast<const char*>(&size), 8)
        .write(header.data(), std::streamsize(header.size()))
        .write(reinterpret_cast<const char*>(array.data.data()), std::streamsize(4 * array.data.size()));
    const auto file = Safetensors::open(tensors).value();
    CHECK(codebook_from_array(file.read("centroids").value()).value()->id() == codebook->id());
  }
  std::filesystem::remove(npy);
  std::filesystem::remove(tensors);
}

TEST_CASE("arrays that are no codebook are refused with their shape") {
  CHECK(codebook_from_array({{16, 3}, ScalarType::f32, {}}).error().message.find("centroids of 2 dimensions") == 0);
  CHECK(codebook_from_array({{2, 17, 3}, ScalarType::f32, {}}).error().message.find("17 centroids per code") == 0);
  CHECK(codebook_from_array({{2, 16, 3}, ScalarType::f32, std::vector<float>(95)}).error().message ==
        "95 numbers for 96 of its shape");
  CHECK(codebook_from_array({{0, 16, 3}, ScalarType::f32, {}}).error().code == Errc::invalid_shape);
}
