// Heads and sequences in files: what comes back is what was saved, mapped or read.
#include "pqkv/io/file.hpp"
#include "pqkv/io/mapped_file.hpp"
#include "support/saved_heads.hpp"

using namespace pqkv;
using namespace pqkv::test;
using namespace pqkv::test::saved_heads;

TEST_CASE("a head comes back from memory, from a file and mapped, and goes on") {
  const std::string path = temporary("pqkv_head.bin");
  const AnyValues both[] = {Int4Values::make(dim, 16).value(), Pq8Values::make(random_codebook(dim, 8, 256)).value()};
  std::size_t turn = 0;
  for (const AnyKeys& keys : key_policies(dim)) {
    const AnyValues& values = both[turn++ % 2];
    INFO(keys.describe() << " / " << values.describe());
    auto head = eventful(keys, values);
    const auto bytes = saved(head);
    MemorySource memory(bytes);
    auto read = load_head(memory, keys, values, test_checksum(), {.rope = rope()}).value();
    require_equal(head, read);
    CHECK(saved(read) == bytes);

    REQUIRE(save_file(path, [&](FileSink& sink) { return save_head(sink, head, test_checksum()); }));
    auto file = FileSource::open(path).value();
    require_equal(head, load_head(file, keys, values, test_checksum(), {.rope = rope()}).value());
    for (const bool verify : {true, false}) {
      MappedFileSource source(MappedFile::open(path).value());
      auto mapped =
          load_head(source, keys, values, test_checksum(), {.rope = rope(), .verify_blocks = verify}).value();
      require_equal(head, mapped);
      auto fork = mapped.fork().value();
      const auto more = uniform_floats(300 * dim, 4);
      auto plain = head.fork().value();
      for (auto* each : {&fork, &mapped, &plain}) {
        REQUIRE(each->erase({700, 50}, Gap::close));
        REQUIRE(each->append(Rows(more.data(), 300, dim), Rows(more.data(), 300, dim)));
      }
      require_equal(plain, fork);
      require_equal(plain, mapped);
    }
    CHECK(saved(head) == bytes);
  }
  std::filesystem::remove(path);
}

TEST_CASE("sixteen-bit windows come back") {
  for (const ScalarType window : {ScalarType::f16, ScalarType::bf16}) {
    const auto head = eventful(ExactKeys{dim}, ExactValues{dim}, window);
    const auto bytes = saved(head);
    MemorySource memory(bytes);
    const auto again = load_head(memory, head.keys(), head.values(), test_checksum(), {.rope = rope()}).value();
    require_equal(head, again);
    CHECK(again.recent().weight(again.recent().tokens() - 1) == 3.5f);
  }
}

TEST_CASE("the bytes of a file do not depend on the instruction set") {
  // The suite runs on each: the number is the same, so a file saved on any loads on every other. (Nothing merged, because
  // compilers may round a mean differently.)
  constexpr std::uint32_t known_sum = 0x7e646d49;
  const auto codebook = [](std::size_t centroids) {
    return Codebook::make({dim, 8, centroids}, uniform_floats(dim * centroids, 7)).value();
  };
  std::uint32_t sum = 0;
  const auto add = [&](const auto& head) {
    const auto bytes = saved(head);
    sum = test_checksum().update(sum, bytes.data(), bytes.size());
  };
  add(eventful(Pq4Keys::make(codebook(16)).value(), Int4Values::make(dim, 16).value(), ScalarType::f32, false));
  add(eventful(Pq8Keys::make(codebook(256)).value(), Int8Values::make(dim, 32).value(), ScalarType::f16, false));
  add(eventful(ExactKeys(dim, ScalarType::bf16), Pq4Values::make(codebook(16)).value(), ScalarType::bf16, false));
  CHECK(sum == known_sum);
}

TEST_CASE("what was saved attends to the last bit as it did, read or mapped") {
  const std::string path = temporary("pqkv_bits.bin");
  for (const AnyKeys& keys : key_policies(dim)) {
    for (const AnyValues& values : {AnyValues(Int4Values::make(dim, 16).value()), AnyValues(Int8Values::make(dim, 0).value()),
                                    AnyValues(Pq4Values::make(random_codebook(dim, 8, 16)).value())}) {
      INFO(keys.describe() << " / " << values.describe());
      const auto rows = uniform_floats(4700 * dim, 1), queries = uniform_floats(4 * dim, 3);
      HeadCache head(keys, values, CacheOptions{.sinks = 3, .recent = 20});
      for (std::size_t t = 0; t < 4700; t += 47) {
        const Rows some(rows.data() + t * dim, 47, dim);
        REQUIRE(head.append(some, some));
      }
      const auto bytes = saved(head);
      MemorySource memory(bytes);
      const auto read = load_head(memory, keys, values, test_checksum()).value();
      REQUIRE(save_file(path, [&](FileSink& sink) { return save_head(sink, head, test_checksum()); }));
      MappedFileSource source(MappedFile::open(path).value());
      const auto mapped = load_head(source, keys, values, test_checksum()).value();
      Workspace<AnyKeys, AnyValues> workspace;
      for (const std::size_t group : {1, 4}) {
        std::vector<float> expected(group * dim), out(group * dim);
        attend(head, {queries.data(), group, dim}, expected.data(), dim, workspace);
        for (const auto* each : {&read, &mapped}) {
          attend(*each, {queries.data(), group, dim}, out.data(), dim, workspace);
          REQUIRE(out == expected);
        }
      }
    }
  }
  std::filesystem::remove(path);
}

TEST_CASE("a sequence of layers and heads comes back whole or not at all") {
  using Cache = CompressedKVCache<AnyKeys, AnyValues>;
  const auto make = [](std::uint64_t seed) {
    std::vector<AnyKeys> keys;
    for (std::size_t i = 0; i < 4; ++i) {
      keys.emplace_back(
          Pq4Keys::make(Codebook::make({dim, 8, 16}, uniform_floats(dim * 16, seed + i)).value()).value());
    }
    return Cache::make({2, 2, dim}, keys, {AnyValues(Int4Values::make(dim, 16).value())}, {.sinks = 2, .recent = 10})
        .value();
  };
  Cache cache = make(1);
  const auto rows = uniform_floats(500 * 2 * dim, 8);
  for (const std::size_t layer : {0, 1})
    REQUIRE(cache.append_layer(layer, Rows(rows.data(), 500, 2 * dim), Rows(rows.data(), 500, 2 * dim)));
  REQUIRE(cache.head(1, 0).erase({30, 300}));  // ragged
  MemorySink sink;
  REQUIRE(save_cache(sink, cache, test_checksum()));
  const Cache empty = make(1);
  MemorySource source(sink.bytes());
  const Cache again = load_cache(source, empty, test_checksum()).value();
  for (std::size_t i = 0; i < 4; ++i) require_equal(cache.head(i / 2, i % 2), again.head(i / 2, i % 2));

  MemorySource foreign(sink.bytes());
  const auto refused = load_cache(foreign, make(2), test_checksum());
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("layer 0 head 0: coded with other codebooks") != std::string::npos);
  MemorySource narrow(sink.bytes());
  const auto other = Cache::make({1, 2, dim}, {AnyKeys(ExactKeys(dim))}, {AnyValues(ExactValues(dim))}).value();
  CHECK(load_cache(narrow, other, test_checksum()).error().message.find("saved are 2 layers") != std::string::npos);
}

TEST_CASE("saving to a file leaves the old one or the new one") {
  const std::string path = temporary("pqkv_atomic.bin");
  REQUIRE(save_file(path, [](FileSink& sink) {
    return sink.write("old", 3) ? Status() : Status(Error{Errc::bad_file, "?"});
  }));
  const Status failed = save_file(path, [](FileSink& sink) {
    static_cast<void>(sink.write("new, but", 8));
    return Status(Error{Errc::stopped, "asked to stop"});
  });
  CHECK(failed.error().code == Errc::stopped);
  auto source = FileSource::open(path).value();
  char text[4] = {};
  CHECK(source.remaining() == 3);
  REQUIRE(source.read(text, 3));
  CHECK(std::string(text) == "old");
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::temp_directory_path())) {
    CHECK(entry.path().filename().string().find("pqkv_atomic.bin.") == std::string::npos);
  }
  CHECK(save_file(temporary("no_such_folder/x"), [](FileSink&) { return Status(); }).error().code == Errc::bad_file);
  CHECK(FileSource::open(temporary("no_such_file")).error().code == Errc::bad_file);
  std::filesystem::remove(path);
}

TEST_CASE("a writable mapped file serves as a pool of pages") {
  const std::string path = temporary("pqkv_pool.bin");
  const Int8Values values = Int8Values::make(dim, 16).value();
  const std::size_t page = BlockBytes{ExactKeys{dim}.block_bytes(), values.block_bytes()}.page(4);
  {
    const auto file = MappedFile::create(path, 64 * page).value();
    const auto pool = PagePool::make(file->writable_bytes(), 4, page).value();
    HeadCache paged(ExactKeys{dim}, values, CacheOptions{.recent = 3, .pages = pool});
    HeadCache plain(ExactKeys{dim}, values, CacheOptions{.recent = 3});
    const auto rows = uniform_floats(2000 * dim, 5);
    const Rows all(rows.data(), 2000, dim);
    REQUIRE(paged.append(all, all));
    REQUIRE(plain.append(all, all));
    require_equal(plain, paged);
    const auto bytes = saved(plain);
    MemorySource source(bytes);
    const auto second = PagePool::make(file->writable_bytes().subspan(32 * page), 4, page).value();
    require_equal(plain, load_head(source, ExactKeys{dim}, values, test_checksum(), {.pages = second}).value());
  }
  CHECK_FALSE(MappedFile::open(temporary("no_such_file")));
  std::filesystem::remove(path);
}

#if __has_include(<sys/mman.h>)
TEST_CASE("mapping reads no codes") {
  const std::string path = temporary("pqkv_lazy.bin");
  const auto head = eventful(ExactKeys{dim}, ExactValues{dim});
  REQUIRE(save_file(path, [&](FileSink& sink) { return save_head(sink, head, test_checksum()); }));
  {
    std::FILE* file = std::fopen(path.c_str(), "r+b");  // damage a code: found only when it is asked for
    REQUIRE(std::fseek(file, -1000, SEEK_END) == 0);
    REQUIRE(std::fputc(0x55, file) != EOF);
    std::fclose(file);
  }
  MappedFileSource trusting(MappedFile::open(path).value());
  CHECK(load_head(trusting, head.keys(), head.values(), test_checksum(), {.rope = rope(), .verify_blocks = false}));
  MappedFileSource careful(MappedFile::open(path).value());
  const auto refused = load_head(careful, head.keys(), head.values(), test_checksum(), {.rope = rope()});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("section 'page' is damaged") != std::string::npos);
  std::filesystem::remove(path);
}
#endif
