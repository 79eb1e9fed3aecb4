// Codebooks in fitted spaces: written by calibrate, read by everything else, and refused when a part is not whole.
#include "tiny_llm/program.hpp"

using namespace pqkv::test;
using namespace pqkv::test::llm_program;

TEST_CASE("codebooks in fitted spaces come back from their files as they were") {
  // Every part of a space is there for one of these; positions turn all of a row's elements or half of them.
  const Words specs = {"--cache", "k=pq8:m=2:run=32:centre=1:metric=1:rotate=opq,v=pq8:m=2:centre=1:metric=1:rotate=opq",
                       "--cache", "k=pq4:m=4:run=64:rotate=deal,v=pq4:m=4:centre=1,sinks=2,recent=4",
                       "--cache", "k=pq4:m=4:metric=1,v=pq4:m=4:rotate=opq;k=pq4:m=8:run=16:centre=1:importance=1:mass=1,v=exact",
                       "--cache", "k=kivi2:run=64:centre=1,v=turbo2:centre=1;k=kivi4:run=64:centre=1:search=1,v=int2:g=16"};
  for (const std::size_t rotary : {16, 8}) {
    INFO("rotary " << rotary);
    const Files in(rotary);
    const std::string books = in.path("books"), json = in.path("out.json");
    REQUIRE(tiny(in.command("calibrate", "calibration.npy") + specs + Words{"-o", books}).code == 0);
    const Words perplexity = in.command("perplexity", "evaluation.npy") + specs + Words{"--json", json, "--chunks", "1"};
    const Outcome loaded = tiny(perplexity + Words{"--codebooks", books});
    INFO(loaded.err);
    REQUIRE(loaded.code == 0);
    const auto from_files = objects(read(json));
    REQUIRE(tiny(perplexity + Words{"--calibration", in.path("calibration.npy")}).code == 0);
    const auto trained_here = objects(read(json));
    REQUIRE(from_files.size() == 4);
    for (std::size_t row = 0; row < 4; ++row) {
      for (const char* name : {"mean_nll", "kld_mean", "kld_p99", "top1_equal", "key_bits", "value_bits"}) {
        CHECK(field(from_files[row], name) == field(trained_here[row], name));
      }
      CHECK(field(from_files[row], "kld_mean") > 1e-6);
    }
    CHECK(field(from_files[2], "key_bits") == (1 + 4) / 2.0);  // a run of 16 tokens fills half of its block
  }
}

TEST_CASE("formats without centroids share one space, and are refused without it") {
  const Files in;
  const std::string books = in.path("books");
  REQUIRE(tiny(in.command("calibrate", "calibration.npy") +
               Words{"--cache", "k=kivi2:run=32:centre=1,v=exact", "-o", books}).code == 0);
  const Words perplexity = in.command("perplexity", "evaluation.npy") + Words{"--chunks", "1", "--codebooks", books, "--cache"};
  for (const char* keys : {"kivi2", "kivi4:search=1", "turbo3"}) {
    const Outcome shared = tiny(perplexity + Words{pqkv::message("k=", keys, ":run=32:centre=1,v=exact")});
    INFO(keys << ": " << shared.err);
    CHECK(shared.code == 0);
  }
  refused(perplexity + Words{"k=kivi2:run=64:centre=1,v=exact"},
          "format 'kivi2' needs a codebook of dim 16 with a fitted space and no centroids, and got none");
}

TEST_CASE("a codebook's file that is missing or damaged is refused by its name") {
  const Files in;
  const std::string books = in.path("books");
  const std::string spec = "k=pq4:m=4:run=32:centre=1:metric=1:rotate=opq,v=pq4:m=4:centre=1:rotate=deal";
  REQUIRE(tiny(in.command("calibrate", "calibration.npy") + Words{"--cache", spec, "-o", books}).code == 0);
  const Words perplexity = in.command("perplexity", "evaluation.npy") + Words{"--cache", spec, "--codebooks", books};
  for (const std::string& book : {books + "/layer1-head0-keys-m4-16-run32-centre-metric-opq.pqkv",
                                  books + "/layer0-head1-values-m4-16-centre-deal.pqkv"}) {
    const std::string bytes = read(book);
    std::ofstream(book, std::ios::binary) << bytes.substr(0, bytes.size() / 2);
    refused(perplexity, book + ": ");
    std::ofstream(book, std::ios::binary) << "not a codebook";
    refused(perplexity, book + ": ");
    std::string broken = bytes;
    broken[bytes.size() / 2] = static_cast<char>(broken[bytes.size() / 2] ^ 1);
    std::ofstream(book, std::ios::binary) << broken;
    refused(perplexity, book + ": ");
    files::remove(book);
    refused(perplexity, "needs a codebook of dim 16 with 4 subspaces of 16 centroids, and got none");
    std::ofstream(book, std::ios::binary) << bytes;
  }
  CHECK(tiny(perplexity + Words{"--chunks", "1", "--context", "40"}).code == 0);
}
