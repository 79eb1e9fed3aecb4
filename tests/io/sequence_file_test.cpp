// Heads and sequences in files: what comes back is what was saved, mapped or read, and nothing else is taken.
#include <cstring>
#include <filesystem>

#include "catch.hpp"
#include "pqkv/io/file.hpp"
#include "pqkv/io/mapped_file.hpp"
#include "pqkv/io/sequence_file.hpp"
#include "support/checksum.hpp"
#include "support/policies.hpp"
#include "support/sequence.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr std::size_t dim = 32;

std::string temporary(const char* name) { return (std::filesystem::temp_directory_path() / name).string(); }

/// Uniform floats that any standard library computes alike.
std::vector<float> uniform_floats(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<float> floats(count);
  for (float& x : floats) x = static_cast<float>(random.uniform() * 2 - 1);
  return floats;
}

std::shared_ptr<const Rope> rope() { return std::make_shared<const Rope>(Rope::with_base(dim, 1e4)); }

/// A head with everything in it: sinks, replaced rows, holes, moved runs and rows, merged weights.
template <class K, class V>
HeadCache<K, V> eventful(K keys, V values, ScalarType window = ScalarType::f32, bool merged = true) {
  HeadCache head(std::move(keys), std::move(values),
                 CacheOptions{.sinks = 3, .recent = 20, .window = window, .rope = rope()});
  const auto rows = uniform_floats(5000 * dim, 1);
  const Rows many(rows.data(), 4600, dim), few(rows.data() + 4600 * dim, 5, dim);
  REQUIRE(head.append(many, many));
  const std::vector<std::int64_t> positions = {50, 53, 55, 57, 59};
  REQUIRE(head.replace({50, 40}, few, few, positions));
  const std::vector<TokenRange> holes = {{100, 1}, {120, 2}, {400, 70}};
  REQUIRE(head.erase(holes));
  REQUIRE(head.erase({1000, 300}, Gap::close));
  if (merged) REQUIRE(head.append_or_merge(Rows(rows.data(), 1, dim), Rows(rows.data(), 1, dim), 2.5f, true));
  return head;
}

template <class K, class V>
std::vector<std::byte> saved(const HeadCache<K, V>& head) {
  MemorySink sink;
  REQUIRE(save_head(sink, head, test_checksum()));
  return sink.bytes();
}

template <class K, class V>
void require_equal(const HeadCache<K, V>& a, const HeadCache<K, V>& b) {
  REQUIRE(a.tokens() == b.tokens());
  REQUIRE(a.next_position() == b.next_position());
  std::vector<float> ka(dim), va(dim), kb(dim), vb(dim);
  for (std::size_t t = 0; t < a.tokens(); ++t) {
    REQUIRE(a.position(t) == b.position(t));
    a.decode(t, ka.data(), va.data());
    b.decode(t, kb.data(), vb.data());
    REQUIRE(ka == kb);
    REQUIRE(va == vb);
  }
  const auto queries = uniform_floats(4 * dim, 3);
  std::vector<float> x(4 * dim), y(4 * dim);
  Workspace<K, V> workspace;
  attend(a, {queries.data(), 4, dim}, x.data(), dim, workspace);
  attend(b, {queries.data(), 4, dim}, y.data(), dim, workspace);
  // The same blocks in other pages are cut into other tiles: sums may differ in their last bits, scores do not.
  for (std::size_t i = 0; i < x.size(); ++i) REQUIRE(std::fabs(x[i] - y[i]) < 1e-4f);
}

}  // namespace

TEST_CASE("a head comes back from memory, from a file and mapped, and goes on") {
  const std::string path = temporary("pqkv_head.bin");
  for (const AnyKeys& keys : key_policies(dim)) {
    for (const AnyValues& values : {AnyValues(Int4Values::make(dim, 16).value()),
                                    AnyValues(Pq8Values::make(random_codebook(dim, 8, 256)).value())}) {
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
  constexpr std::uint32_t known_sum = 0x9c7e8ca2;
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

TEST_CASE("a foreign codebook is refused, whatever the format that carries one") {
  const auto own_keys = key_policies(dim);
  const auto own_values = value_policies(dim);
  codebook_seed = 99;
  const auto foreign_keys = key_policies(dim);
  const auto foreign_values = value_policies(dim);
  codebook_seed = 7;
  const auto rows = uniform_floats(100 * dim, 1);
  std::size_t refused = 0;
  const auto check = [&](const AnyKeys& keys, const AnyValues& values, const AnyKeys& other_keys, const AnyValues& other_values) {
    INFO(keys.describe() << " / " << values.describe());
    HeadCache head(keys, values, CacheOptions{});
    REQUIRE(head.append(Rows(rows.data(), 100, dim), Rows(rows.data(), 100, dim)));
    const auto bytes = saved(head);
    MemorySource source(bytes), foreign(bytes);
    CHECK(bool(load_head(source, keys, values, test_checksum())));
    const auto result = load_head(foreign, other_keys, other_values, test_checksum());
    REQUIRE(!result);
    CHECK(result.error().message.find("coded with other codebooks") != std::string::npos);
    ++refused;
  };
  const AnyKeys plain_keys = ExactKeys(dim);
  const AnyValues plain_values = ExactValues(dim);
  for (std::size_t i = 0; i < own_keys.size(); ++i) {
    if (own_keys[i].codebook_bytes() == 0) continue;
    check(own_keys[i], plain_values, foreign_keys[i], plain_values);
  }
  for (std::size_t i = 0; i < own_values.size(); ++i) {
    if (own_values[i].codebook_bytes() == 0 || own_values[i].describe().starts_with("int")) continue;  // a list of channels
    check(plain_keys, own_values[i], plain_keys, foreign_values[i]);
  }
  CHECK(refused > 40);
}

TEST_CASE("damaged, cut and foreign files are refused") {
  const auto head = eventful(ExactKeys{dim}, Int8Values::make(dim, 16).value(), ScalarType::f16);
  const auto good = saved(head);
  const auto load = [&](std::span<const std::byte> bytes, const LoadOptions& options) {
    MemorySource source(bytes);
    return load_head(source, head.keys(), head.values(), test_checksum(), options);
  };
  Random random(9);
  for (int i = 0; i < 300; ++i) {
    auto bad = good;
    const std::size_t at = i < 150 ? random.below(1024) : random.below(good.size());
    bad[at] ^= std::byte{static_cast<unsigned char>(1u << random.below(8))};
    const auto result = load(bad, {.rope = rope()});
    if (result) require_equal(head, *result);  // a bit of the padding
    const std::size_t size = random.below(good.size());
    REQUIRE_FALSE(load(std::span(good).first(size), {.rope = rope()}));
  }
  CHECK(load(good, {}).error().message.find("another Rope") != std::string::npos);
  CHECK(load(good, {.rope = std::make_shared<const Rope>(Rope::with_base(dim, 1e5))})
            .error()
            .message.find("another Rope") != std::string::npos);
  MemorySource source(good);
  const auto other = load_head(source, ExactKeys(dim, ScalarType::f16), head.values(), test_checksum());
  CHECK(other.error().message.find("saved as exact:f32 / int8") != std::string::npos);
}

/// Lies about a saved head: how many there were, and how many were refused.
template <class K, class V>
std::pair<std::size_t, std::size_t> lie_about(const HeadCache<K, V>& head) {
  const auto good = saved(head);
  // Every number of the first two sections in turn becomes something else, and the checksum is made to fit.
  const auto forged = [&](std::size_t at, std::uint64_t number) {
    auto bytes = good;
    std::memcpy(bytes.data() + at, &number, 8);
    for (std::size_t header = 64; header < bytes.size();) {
      std::uint64_t size = 0;
      std::memcpy(&size, bytes.data() + header + 8, 8);
      if (size > bytes.size() - header - 64) break;
      std::uint32_t sum = test_checksum().update(0, bytes.data() + header, 60);
      sum = test_checksum().update(sum, bytes.data() + header + 64, size);
      std::memcpy(bytes.data() + header + 60, &sum, 4);
      header += 64 + (size + 63) / 64 * 64;
    }
    return bytes;
  };
  std::uint64_t runs_bytes = 0;
  std::uint64_t head_bytes = 0;
  std::memcpy(&head_bytes, good.data() + 72, 8);
  const std::size_t runs_at = 128 + (head_bytes + 63) / 64 * 64;
  std::memcpy(&runs_bytes, good.data() + runs_at + 8, 8);
  std::vector<std::size_t> places;
  for (std::size_t at = 128; at < 128 + head_bytes - 8; at += 8) places.push_back(at);
  for (std::size_t at = runs_at + 64; at < runs_at + 64 + runs_bytes; at += 8) places.push_back(at);
  std::size_t refused = 0;
  for (const std::size_t at : places) {
    for (const std::uint64_t number :
         {std::uint64_t{0}, std::uint64_t{33}, std::uint64_t{1} << 33, ~std::uint64_t{0}}) {
      const auto bytes = forged(at, number);
      MemorySource source(bytes);
      auto result = load_head(source, head.keys(), head.values(), test_checksum(), {.rope = rope()});
      if (!result) {
        ++refused;
        continue;
      }
      static_cast<void>(tokens_of(*result));  // what is taken can be read
      static_cast<void>(result->erase({0, result->tokens() / 2}));
    }
  }
  return {4 * places.size(), refused};
}

TEST_CASE("files that lie behind good checksums are refused") {
  const auto [lies, refused] = lie_about(eventful(ExactKeys{dim}, Int8Values::make(dim, 16).value()));
  CHECK(refused > lies / 4);
}

TEST_CASE("a compacted head comes back, and lies about one do no harm") {
  const SpaceChoice choice{.rotary = dim, .run_tokens = 64, .mean = true};
  const auto turning = SpacedKeys<ExactKeys>::make(ExactKeys{dim}, random_space(dim, choice)).value();
  for (const AnyKeys& keys : {AnyKeys(ExactKeys{dim}), AnyKeys(turning)}) {
    HeadCache head(keys, AnyValues(Int8Values::make(dim, 16).value()), CacheOptions{.sinks = 3, .recent = 20, .rope = rope()});
    const auto rows = uniform_floats(800 * dim, 1);
    REQUIRE(head.append(Rows(rows.data(), 800, dim), Rows(rows.data(), 800, dim)));
    std::vector<TokenRange> scattered;
    for (std::size_t t = 3; t < 700; t += 7) scattered.push_back({t, 6});
    REQUIRE(head.erase(scattered));
    REQUIRE(head.shift({40, 30}, 500));
    REQUIRE(compact(head));
    REQUIRE(head.runs()[0].is_compacted());
    const auto bytes = saved(head);
    MemorySource source(bytes);
    require_equal(head, load_head(source, head.keys(), head.values(), test_checksum(), {.rope = rope()}).value());
    CHECK(lie_about(head).second > 40);
  }
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
  CHECK(refused.error().message.find("section 'blks' is damaged") != std::string::npos);
  std::filesystem::remove(path);
}
#endif
