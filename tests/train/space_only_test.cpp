// Spaces that are fitted for formats without centroids.
#include "catch.hpp"
#include "pqkv/io/codebook_file.hpp"
#include "pqkv/train.hpp"
#include "support/checksum.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr std::size_t dim = 32, tokens = 512;

/// Keys after RoPE, which before it lie about a mean much longer than what they differ by.
struct Turned {
  Rope rope = Rope::with_base(dim, 1000.0);
  std::vector<float> keys = normal_floats(tokens * dim, 1);
  std::vector<std::int64_t> positions;

  Turned() {
    const std::vector<float> mean = normal_floats(dim, 2);
    for (std::size_t t = 0; t < tokens; ++t) {
      positions.push_back(static_cast<std::int64_t>(t));
      for (std::size_t d = 0; d < dim; ++d) keys[t * dim + d] = 0.2f * keys[t * dim + d] + 3.0f * mean[d];
      rope.turn(static_cast<double>(t), keys.data() + t * dim);
    }
  }
  [[nodiscard]] FitSamples samples() const {
    FitSamples out;
    out.rows = {keys.data(), tokens, dim};
    out.positions = positions;
    out.rope = rope;
    return out;
  }
};

double squared_error(const AnyKeys& format, const Turned& text) {
  std::vector<std::byte> block(format.block_bytes());
  std::vector<float> row(dim);
  double sum = 0;
  for (std::size_t first = 0; first < tokens; first += 32) {
    const std::size_t offset = format.run_tokens() == 64 ? first % 64 : 0;
    const RunPlace place{static_cast<std::int64_t>(first - offset), offset};
    format.encode({text.keys.data() + first * dim, 32, dim}, place, block.data());
    for (std::size_t t = 0; t < 32; ++t) {
      format.decode(block.data(), t, place, row.data());
      for (std::size_t d = 0; d < dim; ++d) sum += std::pow(static_cast<double>(row[d] - text.keys[(first + t) * dim + d]), 2);
    }
  }
  return sum;
}

}  // namespace

TEST_CASE("a space alone is the one that a codebook of the same options would have") {
  const Turned text;
  const FitOptions fit{.run_tokens = 64, .centre = true};
  const auto space = train_fitted(text.samples(), fit, CodebookShape::of_space(dim));
  REQUIRE(space);
  const auto whole = train_fitted(text.samples(), fit, {dim, 8, 16});
  REQUIRE(whole);
  CHECK(space->codebook->shape().is_space());
  CHECK(space->codebook->bytes() == 0);
  REQUIRE(space->codebook->space() != nullptr);
  CHECK(space->codebook->space()->id() == whole->codebook->space()->id());
}

TEST_CASE("runs and centring lower the error of formats without centroids") {
  const Turned text;
  const auto book = train_fitted(text.samples(), {.run_tokens = 64, .centre = true}, CodebookShape::of_space(dim)).value().codebook;
  for (const char* format : {"kivi4", "q4_0", "turbo4", "turbo2"}) {
    INFO(format);
    const auto plain = make_keys(parse_format_spec(format).value(), dim).value();
    const auto spaced = make_keys(parse_format_spec(message(format, ":run=64:centre=1")).value(), dim, book).value();
    CHECK(squared_error(spaced, text) < squared_error(plain, text) / 2);
  }
}

TEST_CASE("a space alone is saved, loaded and refined as codebooks are") {
  const Turned text;
  const auto book = train_fitted(text.samples(), {.run_tokens = 64, .centre = true}, CodebookShape::of_space(dim)).value().codebook;
  MemorySink sink;
  REQUIRE(save_codebook(sink, *book, test_checksum()));
  MemorySource source(sink.bytes());
  const auto loaded = load_codebook(source, test_checksum());
  REQUIRE(loaded);
  CHECK((*loaded)->shape() == book->shape());
  CHECK((*loaded)->space()->id() == book->space()->id());
  const auto refined = refine_codebook(*book, text.samples());
  REQUIRE(refined);
  CHECK((*refined)->space() == book->space());
}

TEST_CASE("what leaves neither centroids nor a space is refused") {
  const Turned text;
  FitSamples none = text.samples();
  none.rows.count = 0;
  none.positions = {};
  CHECK(train_fitted(none, {.run_tokens = 64, .centre = true}, CodebookShape::of_space(dim)).error().code == Errc::too_few_samples);
  CHECK(train_fitted(text.samples(), {}, CodebookShape::of_space(dim)).error().code == Errc::invalid_shape);
  CHECK(train_codebook(text.samples().rows, CodebookShape::of_space(dim)).error().code == Errc::invalid_shape);
  CHECK_FALSE(check(CodebookShape{dim, 2, 0}));
}
