// Codebooks in files: everything comes back, nothing foreign or damaged is taken.
#include <limits>

#include "catch.hpp"
#include "pqkv/io/codebook_file.hpp"
#include "support/checksum.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

std::shared_ptr<const Codebook> spaced_codebook() {
  CodeSpaceParts parts;
  parts.dim = 16;
  parts.rope = Rope::with_base(8, 5e5, RopePairing::half_split);
  parts.run_tokens = 64;
  parts.mean = normal_floats(16, 1);
  parts.forward = normal_floats(256, 2);
  parts.inverse = normal_floats(256, 3);
  parts.term_basis = normal_floats(5 * 16, 4);
  parts.term_rows = normal_floats(5 * 64, 5);
  return Codebook::make({16, 4, 16}, normal_floats(256, 6), CodeSpace::make(parts).value()).value();
}

std::vector<std::byte> saved(const Codebook& codebook) {
  MemorySink sink;
  REQUIRE(save_codebook(sink, codebook, test_checksum()));
  return sink.bytes();
}

Result<std::shared_ptr<const Codebook>> loaded(std::span<const std::byte> bytes) {
  MemorySource source(bytes);
  return load_codebook(source, test_checksum());
}

}  // namespace

TEST_CASE("a codebook comes back with its space") {
  for (const auto& codebook : {random_codebook(32, 8, 256), random_codebook(32, 2, 16), random_codebook(32, 2, 16, 3), spaced_codebook()}) {
    const auto again = loaded(saved(*codebook)).value();
    CHECK(again->shape() == codebook->shape());
    CHECK(again->id() == codebook->id());
    CHECK((again->space() == nullptr) == (codebook->space() == nullptr));
    if (codebook->space() != nullptr) {
      const CodeSpaceParts& a = again->space()->parts();
      const CodeSpaceParts& b = codebook->space()->parts();
      CHECK(again->space()->id() == codebook->space()->id());
      CHECK(a.rope.frequencies() == b.rope.frequencies());
      CHECK(a.rope.pairing() == b.rope.pairing());
      CHECK(a.run_tokens == b.run_tokens);
      CHECK(a.mean == b.mean);
      CHECK(a.forward == b.forward);
      CHECK(a.inverse == b.inverse);
      CHECK(a.term_rows == b.term_rows);
      CHECK(a.term_basis == b.term_basis);
    }
  }
}

TEST_CASE("every damaged bit and every missing byte of a codebook is noticed") {
  const std::vector<std::byte> good = saved(*spaced_codebook());
  REQUIRE(good.size() % 64 == 0);
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::vector<std::byte> bad = good;
    bad[i] ^= std::byte{static_cast<unsigned char>(1u << i % 8)};
    const auto result = loaded(bad);
    if (!result) continue;
    REQUIRE((*result)->id() == spaced_codebook()->id());  // a bit of the padding
    REQUIRE((*result)->space()->id() == spaced_codebook()->space()->id());
  }
  for (std::size_t size = 0; size < good.size(); size += 7) REQUIRE_FALSE(loaded(std::span(good).first(size)));
}

TEST_CASE("other versions, kinds and checksums are refused by name") {
  std::vector<std::byte> bytes = saved(*random_codebook(16, 4, 16));
  const auto refused = [](const std::vector<std::byte>& file, const Checksum& checksum, const char* text) {
    MemorySource source(file);
    const auto result = load_codebook(source, checksum);
    REQUIRE_FALSE(result);
    INFO(result.error().message);
    CHECK(result.error().code == Errc::bad_file);
    CHECK(result.error().message.find(text) != std::string::npos);
  };
  Checksum other = test_checksum();
  other.id = tag("xxh3");
  refused(bytes, other, "its checksums are 'test', not 'xxh3'");
  std::vector<std::byte> changed = bytes;
  changed[8] = std::byte{2};
  refused(changed, test_checksum(), "version 2; this library reads version 1");
  MemorySink sink;
  ArchiveWriter(sink, tag("head"), test_checksum());
  refused(sink.bytes(), test_checksum(), "holds 'head', not 'cbok'");
  refused({}, test_checksum(), "wrong magic");

  // Sizes that would not fit into memory are refused by what is left of the file.
  MemorySink hostile;
  ArchiveWriter archive(hostile, tag("cbok"), test_checksum());
  ByteWriter shape;
  for (const std::uint64_t number : {16, 4, 16, 1, 0, 1, 0}) shape.put(number);  // … one stage, id, a space, no gains
  archive.section(tag("shap"), shape.bytes());
  const auto centroids = normal_floats(256, 6);
  archive.section(tag("cent"), std::as_bytes(std::span(centroids)));
  ByteWriter space;
  for (const std::uint64_t number :
       {std::uint64_t{0}, std::uint64_t{64}, std::uint64_t{0}, std::numeric_limits<std::uint64_t>::max()})
    space.put(number);
  archive.section(tag("spac"), space.bytes());
  refused(hostile.bytes(), test_checksum(), "too short for 18446744073709551615 numbers");
}
