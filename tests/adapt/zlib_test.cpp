// zlib's CRC-32 as the checksum of files.
#include "catch.hpp"
#include "pqkv/adapt/zlib.hpp"
#include "pqkv/io/codebook_file.hpp"
#include "support/policies.hpp"

using namespace pqkv;
using namespace pqkv::test;

TEST_CASE("zlib's checksum is CRC-32, in pieces too") {
  const Checksum checksum = crc32_checksum();
  const char* text = "123456789";
  CHECK(checksum.update(0, text, 9) == 0xcbf43926u);  // the check value that catalogues of CRCs give
  CHECK(checksum.update(checksum.update(checksum.update(0, text, 4), nullptr, 0), text + 4, 5) == 0xcbf43926u);
  MemorySink sink;
  const auto codebook = random_codebook(16, 4, 16);
  REQUIRE(save_codebook(sink, *codebook, checksum));
  MemorySource source(sink.bytes());
  CHECK(load_codebook(source, checksum).value()->id() == codebook->id());
}
