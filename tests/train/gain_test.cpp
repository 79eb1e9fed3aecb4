// Codebooks of rows at unit length, for formats with a gain.
#include "catch.hpp"
#include "pqkv/io/codebook_file.hpp"
#include "pqkv/spec.hpp"
#include "pqkv/train.hpp"
#include "support/checksum.hpp"
#include "support/data.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr std::size_t dim = 16, count = 1024;

/// Half a step of the gains' log scale is an error of 2.2 %.
constexpr double gain_error = 0.022;

/// Rows of 16 directions and of lengths from 1 to 8.
std::vector<float> scaled_directions() {
  auto directions = normal_floats(16 * dim, 1);
  Random random(2);
  std::vector<float> rows(count * dim);
  for (std::size_t i = 0; i < 16; ++i) {
    const double length = std::sqrt(dot(directions.data() + i * dim, directions.data() + i * dim, dim));
    for (std::size_t d = 0; d < dim; ++d) directions[i * dim + d] = static_cast<float>(directions[i * dim + d] / length);
  }
  for (std::size_t t = 0; t < count; ++t) {
    const auto length = static_cast<float>(std::exp2(3 * static_cast<double>(random.below(1000)) / 1000));
    for (std::size_t d = 0; d < dim; ++d) rows[t * dim + d] = length * directions[t % 16 * dim + d];
  }
  return rows;
}

std::shared_ptr<const Codebook> trained(const std::vector<float>& rows, const std::string& format) {
  const auto request = value_codebook_request(*parse_format_spec(format), dim);
  REQUIRE(request);
  FitSamples samples;
  samples.rows = {rows.data(), rows.size() / dim, dim};
  auto fitted = train_fitted(samples, (**request).fit, (**request).shape);
  INFO((fitted ? std::string() : fitted.error().message));
  REQUIRE(fitted);
  return fitted->codebook;
}

/// ‖decoded − row‖ / ‖row‖, the largest.
double worst_error(const std::vector<float>& rows, const std::string& format, const std::shared_ptr<const Codebook>& codebook) {
  const auto values = make_values(*parse_format_spec(format), dim, codebook);
  INFO((values ? std::string() : values.error().message));
  REQUIRE(values);
  std::vector<std::byte> block(values->block_bytes());
  std::vector<float> row(dim);
  double worst = 0;
  for (std::size_t first = 0; first < rows.size() / dim; first += 32) {
    values->encode({rows.data() + first * dim, 32, dim}, block.data());
    for (std::size_t t = 0; t < 32; ++t) {
      values->decode(block.data(), t, row.data());
      const float* had = rows.data() + (first + t) * dim;
      const double square = dot(had, had, dim);
      for (std::size_t d = 0; d < dim; ++d) row[d] -= had[d];
      worst = std::max(worst, std::sqrt(dot(row.data(), row.data(), dim) / square));
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("sixteen shapes need sixteen centroids, whatever their lengths") {
  const auto rows = scaled_directions();
  CHECK(worst_error(rows, "pq4:m=1:gain=1", trained(rows, "pq4:m=1:gain=1")) < gain_error + 1e-3);
  CHECK(worst_error(rows, "pq4:m=1", trained(rows, "pq4:m=1")) > 0.2);
  // The same in front of a rotation, and of lengths in other units.
  std::vector<float> large = rows;
  for (float& x : large) x *= 1e4f;
  const auto turned = trained(large, "pq4:m=1:rotate=balance:gain=1");
  CHECK(worst_error(large, "pq4:m=1:rotate=balance:gain=1", turned) < gain_error + 1e-3);
  // What a prompt refines stays a codebook of shapes.
  FitSamples prompt;
  prompt.rows = {rows.data(), 256, dim};
  const auto refined = refine_codebook(*trained(rows, "pq4:m=1:gain=1"), prompt);
  REQUIRE(refined);
  CHECK(worst_error(rows, "pq4:m=1:gain=1", *refined) < gain_error + 1e-3);
  for (std::size_t c = 0; c < 16; ++c) {
    double square = 0;
    for (std::size_t d = 0; d < dim; ++d) square += std::pow(static_cast<double>((*refined)->centroids(0)[d * 16 + c]), 2);
    CHECK(std::fabs(square - 1) < 1e-3);
  }
}

TEST_CASE("a row of nothing trains and decodes to nothing") {
  auto rows = scaled_directions();
  std::fill_n(rows.begin() + 5 * dim, dim, 0.0f);
  const auto codebook = trained(rows, "pq4:m=1:gain=1");
  const auto values = make_values(*parse_format_spec("pq4:m=1:gain=1"), dim, codebook).value();
  std::vector<std::byte> block(values.block_bytes());
  values.encode({rows.data(), 32, dim}, block.data());
  std::vector<float> row(dim, 1.0f);
  values.decode(block.data(), 5, row.data());
  CHECK(row == std::vector<float>(dim));
}

TEST_CASE("codebooks of shapes are told from others, also in files") {
  const auto rows = scaled_directions();
  const auto shapes = trained(rows, "pq4:m=1:gain=1"), centred = trained(rows, "pq4:m=1:centre=1:gain=1"),
             whole = trained(rows, "pq4:m=1:centre=1");
  const auto refused = [&](const std::string& format, const auto& codebook, const std::string& why) {
    const auto values = make_values(*parse_format_spec(format), dim, codebook);
    REQUIRE_FALSE(values);
    INFO(values.error().message);
    CHECK(values.error().message.find(why) != std::string::npos);
  };
  refused("pq4:m=1", shapes, "takes no fitted space");
  refused("pq4:m=1:centre=1", centred, "asks for gain=0, and its codebook is of rows of unit length");
  refused("pq4:m=1:centre=1:gain=1", whole, "asks for gain=1, and its codebook is not of rows of unit length");
  refused("int4:gain=1", nullptr, "has no parameter 'gain'");
  const auto keys = key_codebook_request(*parse_format_spec("pq8:m=2:mass=1:gain=1"), dim);
  REQUIRE_FALSE(keys);
  CHECK(keys.error().message.find("centroids with a gain have no mass correction") != std::string::npos);
  CHECK_FALSE((**key_codebook_request(*parse_format_spec("pq8:m=2:fit=64:gain=1"), dim)).fit.mass);

  MemorySink sink;
  REQUIRE(save_codebook(sink, *shapes, test_checksum()));
  MemorySource source(sink.bytes());
  const auto loaded = load_codebook(source, test_checksum());
  REQUIRE(loaded);
  CHECK((*loaded)->space()->parts().unit_length);
  CHECK((*loaded)->space()->id() == shapes->space()->id());
  CHECK(worst_error(rows, "pq4:m=1:gain=1", *loaded) < gain_error + 1e-3);
}
