// Blocks in the caller's memory, and what happens when there is none left.
#include <cstring>

#include "catch.hpp"
#include "support/policies.hpp"
#include "support/sequence.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

constexpr std::size_t dim = 16;

/// The heap, until it is told to fail.
class FailingSource final : public PageSource {
 public:
  std::byte* take(std::size_t bytes) noexcept override {
    if (left_ == 0) return nullptr;
    --left_;
    ++taken_;
    return static_cast<std::byte*>(::operator new (bytes, std::align_val_t{64}));
  }
  void give_back(std::byte* data, std::size_t) noexcept override {
    --taken_;
    ::operator delete (data, std::align_val_t{64});
  }
  void allow(std::size_t pages) noexcept { left_ = pages; }
  std::size_t taken() const noexcept { return taken_; }

 private:
  std::size_t left_ = 0;
  std::size_t taken_ = 0;
};

}  // namespace

TEST_CASE("sequences share a pool of the caller's pages and give them back") {
  const Int8Values values = Int8Values::make(dim, 16).value();
  const Pq8Keys keys = Pq8Keys::make(random_codebook(dim, 4, 256)).value();
  const std::size_t page = BlockBytes{keys.block_bytes(), values.block_bytes()}.page(2);
  std::vector<std::byte> memory(10 * ((page + 63) / 64 * 64) + 64 + 17);
  const auto pool = PagePool::make(std::span(memory).subspan(17), 2, page).value();
  REQUIRE(pool->free_pages() == 10);
  const auto rows = normal_floats(1000 * dim, 1);
  const Rows all(rows.data(), 300, dim);
  {
    const CacheOptions options{.recent = 4, .pages = pool};
    HeadCache paged(keys, values, options);
    HeadCache plain(keys, values, CacheOptions{.recent = 4});
    REQUIRE(paged.append(all, all));
    REQUIRE(plain.append(all, all));
    CHECK(pool->free_pages() == 5);  // 9 blocks in pages of 2
    const auto query = normal_floats(dim, 2);
    std::vector<float> out(dim), expected(dim);
    Workspace<Pq8Keys, Int8Values> workspace;
    attend(paged, {query.data(), 1, dim}, out.data(), dim, workspace);
    attend(plain, {query.data(), 1, dim}, expected.data(), dim, workspace);
    for (std::size_t d = 0; d < dim; ++d) CHECK(std::fabs(out[d] - expected[d]) < 1e-5f);
    for (const Run& run : paged.runs()) {
      const std::byte* block = paged.store().key_block(run.first_block);
      CHECK((block >= memory.data() && block < memory.data() + memory.size()));
    }

    auto fork = paged.fork().value();
    CHECK(pool->free_pages() == 5);
    const Status full = fork.append(Rows(rows.data(), 1000, dim), Rows(rows.data(), 1000, dim));
    REQUIRE_FALSE(full);
    CHECK(full.error().code == Errc::cache_full);
    CHECK(fork.tokens() == 300);
    REQUIRE(fork.append(all, all));
    fork.truncate(0);
    fork.trim();
    CHECK(pool->free_pages() == 5);
  }
  CHECK(pool->free_pages() == 10);
  CHECK_FALSE(PagePool::make(std::span(memory).first(10), 2, page));
}

TEST_CASE("whatever operation finds no page leaves the sequence as it was") {
  const auto source = std::make_shared<FailingSource>();
  const auto rows = normal_floats(2000 * dim, 3);
  const Rows first(rows.data(), 500, dim), more(rows.data() + 500 * dim, 1500, dim);
  {
    HeadCache head(
        ExactKeys{dim}, ExactValues{dim},
        {.sinks = 2, .recent = 10, .rope = std::make_shared<const Rope>(Rope::with_base(dim, 1e4)), .pages = source});
    CHECK(head.append(first, first).error().code == Errc::cache_full);
    CHECK(head.tokens() == 0);
    source->allow(2);  // 8 + 16 blocks
    REQUIRE(head.append(first, first));
    source->allow(0);
    const auto before = tokens_of(head);
    const auto unchanged = [&] {
      const auto after = tokens_of(head);
      REQUIRE(after.size() == before.size());
      for (std::size_t t = 0; t < after.size(); ++t) {
        REQUIRE(after[t].key == before[t].key);
        REQUIRE(after[t].position == before[t].position);
      }
    };
    CHECK(head.append(more, more).error().code == Errc::cache_full);
    unchanged();
    REQUIRE(head.append(Rows(rows.data(), 9 * 32, dim), Rows(rows.data(), 9 * 32, dim)));  // fills the pages
    head.truncate(500);
    auto fork = head.fork().value();
    CHECK(fork.shift({50, 100}, 7).error().code == Errc::cache_full);  // both ends would copy a block
    CHECK(fork.erase({50, 3}, Gap::close).error().code == Errc::cache_full);
    CHECK(fork.tokens() == 500);
    CHECK(fork.position(60) == 60);
    CHECK(fork.append(more, more).error().code == Errc::cache_full);
    REQUIRE(fork.erase({50, 100}));  // needs no page
    unchanged();
  }
  CHECK(source->taken() == 0);
}
