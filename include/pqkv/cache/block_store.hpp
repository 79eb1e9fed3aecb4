// BlockStore: where the sealed blocks of one sequence lie. Layer 4.
// Blocks have numbers that only grow, and lie in pages of 8, 16, 32 and then 64 blocks each (or of a PageSource's size):
// growing never copies (so the peak memory of an append is the memory of the cache), short sequences stay small, and long
// ones are scanned in long stretches.
//
// fork() shares the pages. A block that two sequences hold never changes: of the free slots behind it only the sequence
// that opened the page may fill some, every other one opens a page of its own. Nothing is ever copied.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "pqkv/cache/page.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

/// Blocks that lie one behind the other. Bit t of dead[b]: token t of block b was erased.
struct BlockStretch {
  const std::byte* keys = nullptr;
  const std::byte* values = nullptr;
  const std::uint32_t* dead = nullptr;
  std::size_t blocks = 0;
};

class BlockStore {
 public:
  BlockStore() = default;
  BlockStore(BlockBytes bytes, std::shared_ptr<PageSource> source) noexcept : bytes_(bytes), source_(std::move(source)) {}

  /// Blocks of the largest page, and of the page number `page` of a sequence that only grows.
  static constexpr std::size_t full_page = 64;
  [[nodiscard]] static constexpr std::size_t page_blocks(std::size_t page) noexcept {
    return std::min(full_page, std::size_t{8} << std::min<std::size_t>(page, 3));
  }

  [[nodiscard]] const BlockBytes& block_bytes() const noexcept { return bytes_; }
  /// The number of the next block.
  [[nodiscard]] std::size_t blocks() const noexcept { return blocks_; }
  [[nodiscard]] bool has_source() const noexcept { return source_ != nullptr; }

  /// Every byte that this sequence keeps alive; with `shared` false, only those that no other sequence holds as well.
  [[nodiscard]] std::size_t bytes(bool shared = true) const noexcept {
    std::size_t sum = (entries_.capacity() + spare_.capacity()) * sizeof(Entry);
    for (const auto* entries : {&entries_, &spare_}) {
      for (const Entry& entry : *entries) {
        sum += entry.dead.size() * sizeof(std::uint32_t) + (shared || entry.page.exclusive() ? entry.page.bytes() : 0);
      }
    }
    return sum;
  }

  /// Room for `more` blocks; false, and the blocks as they were, when memory or the source runs out. fork() and truncate()
  /// may take the room away again.
  [[nodiscard]] bool reserve(std::size_t more) noexcept {
    std::size_t room = entries_.empty() || !may_take(entries_.back()) ? 0 : last_room();
    for (const Entry& entry : spare_) room += entry.page.blocks();
    while (room < more) {
      std::size_t count = 0;
      Entry entry = make_page(count);
      if (!entry.page || !adopt(std::move(entry))) return false;
      room += count;
    }
    return true;
  }

  /// Takes the next block; expects room from reserve(). Returns its number.
  std::size_t take() noexcept {
    if (entries_.empty() || !may_take(entries_.back()) || last_room() == 0) {
      PQKV_EXPECTS(!spare_.empty());
      Entry entry = std::move(spare_.back());
      spare_.pop_back();
      entry.first = blocks_;
      entry.used = 0;
      entry.opened_here = true;
      std::fill_n(entry.dead.data(), entry.dead.size(), 0u);
      entries_.push_back(std::move(entry));
    }
    Entry& entry = entries_.back();
    entry.opened_here = entry.opened_here || entry.page.exclusive();
    const std::size_t slot = blocks_ - entry.first;
    entry.dead[slot] = 0;
    entry.used = std::max(entry.used, slot + 1);
    return blocks_++;
  }

  /// Appends whole pages whose first `used` slots hold blocks that do not change any more (loading). False when memory
  /// runs out.
  [[nodiscard]] bool add_filled(PageRef page, std::size_t used) noexcept {
    Entry entry;
    entry.first = blocks_;
    entry.used = used;
    if (!entry.dead.grow(page.blocks()) || !widen(1)) return false;
    entry.page = std::move(page);
    entries_.push_back(std::move(entry));
    blocks_ += used;
    return true;
  }

  /// Gives up all blocks from number `blocks` on. Pages that nobody else holds stay reserved.
  void truncate(std::size_t blocks) noexcept {
    PQKV_EXPECTS(blocks <= blocks_);
    while (!entries_.empty() && entries_.back().first >= blocks) {
      retire(std::move(entries_.back()));
      entries_.pop_back();
    }
    blocks_ = blocks;
  }

  /// Gives up every page in which none of `runs` (first_block, blocks()) has a block, and all numbers behind the last of
  /// them. Pages that nobody else holds stay reserved.
  template <class Runs>
  void keep_only(const Runs& runs) noexcept {
    std::size_t end = 0;
    for (Entry& entry : entries_) entry.held = false;
    for (const auto& run : runs) {
      const std::size_t last = run.first_block + run.blocks();
      end = std::max(end, last);
      for (std::size_t i = entry_of(run.first_block); i < entries_.size() && entries_[i].first < last; ++i) {
        entries_[i].held = true;
      }
    }
    truncate(end);
    std::size_t kept = 0;
    for (Entry& entry : entries_) {
      if (!entry.held) {
        retire(std::move(entry));
      } else if (&entry != &entries_[kept++]) {
        entries_[kept - 1] = std::move(entry);
      }
    }
    while (entries_.size() > kept) entries_.pop_back();
  }

  /// Gives reserved pages back to where they came from.
  void trim() noexcept { spare_.clear(); }

  /// The same blocks, in pages that both sequences hold. False when memory runs out; `out` is then of no use.
  [[nodiscard]] bool fork_into(BlockStore& out) const noexcept {
    out = BlockStore(bytes_, source_);
    if (!out.widen(entries_.size())) return false;
    for (const Entry& from : entries_) {
      Entry entry;
      if (!entry.dead.grow(from.dead.size())) return false;
      std::copy_n(from.dead.data(), from.dead.size(), entry.dead.data());
      entry.page = from.page;
      entry.first = from.first;
      entry.used = from.used;
      out.entries_.push_back(std::move(entry));
    }
    out.blocks_ = blocks_;
    return true;
  }

  [[nodiscard]] std::byte* key_block(std::size_t block) noexcept { return const_cast<std::byte*>(stretch(block).keys); }
  [[nodiscard]] const std::byte* key_block(std::size_t block) const noexcept { return stretch(block).keys; }
  [[nodiscard]] std::byte* value_block(std::size_t block) noexcept { return const_cast<std::byte*>(stretch(block).values); }
  [[nodiscard]] const std::byte* value_block(std::size_t block) const noexcept { return stretch(block).values; }
  [[nodiscard]] std::uint32_t& dead(std::size_t block) noexcept { return const_cast<std::uint32_t&>(*stretch(block).dead); }
  [[nodiscard]] std::uint32_t dead(std::size_t block) const noexcept { return *stretch(block).dead; }

  /// The blocks from `block` on that lie one behind the other.
  [[nodiscard]] BlockStretch stretch(std::size_t block) const noexcept {
    std::size_t page = 0;
    return stretch(block, page);
  }
  /// The same for who goes on where he was: `page` is where the block may well be, or its next neighbour, and becomes where
  /// it is. A search through the pages of a long sequence would wait for memory several times.
  [[nodiscard]] BlockStretch stretch(std::size_t block, std::size_t& page) const noexcept {
    PQKV_EXPECTS(block < blocks_);
    if (!holds(page, block)) page = holds(page + 1, block) ? page + 1 : entry_of(block);
    return from(page, block);
  }
  /// What lies in the page behind that one; no blocks where it is the last.
  [[nodiscard]] BlockStretch behind(std::size_t page) const noexcept {
    return page + 1 < entries_.size() ? from(page + 1, entries_[page + 1].first) : BlockStretch{};
  }

  /// The stretch behind its first `blocks` blocks.
  [[nodiscard]] BlockStretch skip(const BlockStretch& stretch, std::size_t blocks) const noexcept {
    return {stretch.keys + blocks * bytes_.key, stretch.values + blocks * bytes_.value, stretch.dead + blocks,
            stretch.blocks - blocks};
  }

 private:
  struct Entry {
    PageRef page;
    std::size_t first = 0;     // the number of the block in the page's first slot
    std::size_t used = 0;      // slots that this sequence has ever filled; others may see them
    bool held = true;          // keep_only: some run has a block here
    bool opened_here = false;  // of all who hold the page, this one may fill slots behind `used`
    Buffer<std::uint32_t> dead;  // of every block of the page
  };

  /// The number behind the last block of a page.
  [[nodiscard]] std::size_t end_of(std::size_t page) const noexcept {
    const std::size_t end = page + 1 == entries_.size() ? blocks_ : entries_[page + 1].first;
    return std::min(end, entries_[page].first + entries_[page].dead.size());
  }
  [[nodiscard]] bool holds(std::size_t page, std::size_t block) const noexcept {
    return page < entries_.size() && block >= entries_[page].first && block < end_of(page);
  }
  [[nodiscard]] BlockStretch from(std::size_t page, std::size_t block) const noexcept {
    const Entry& entry = entries_[page];
    const std::size_t slot = block - entry.first;
    return {entry.page.data() + slot * bytes_.key,
            entry.page.data() + bytes_.values_offset(entry.dead.size()) + slot * bytes_.value,
            entry.dead.data() + slot, end_of(page) - block};
  }

  /// The page that holds the block of that number.
  [[nodiscard]] std::size_t entry_of(std::size_t block) const noexcept {
    const auto behind = std::upper_bound(entries_.begin(), entries_.end(), block,
                                         [](std::size_t number, const Entry& entry) { return number < entry.first; });
    return static_cast<std::size_t>(behind - entries_.begin()) - 1;
  }

  [[nodiscard]] std::size_t last_room() const noexcept {
    return entries_.back().page.blocks() - std::min(entries_.back().page.blocks(), blocks_ - entries_.back().first);
  }

  /// Whether this sequence may write the slot of block number blocks_ in its last page.
  [[nodiscard]] bool may_take(const Entry& entry) const noexcept {
    if (entry.page.read_only()) return false;
    return entry.page.exclusive() || (entry.opened_here && blocks_ - entry.first >= entry.used);
  }

  [[nodiscard]] Entry make_page(std::size_t& count) noexcept {
    std::size_t own = spare_.size();
    for (const Entry& entry : entries_) own += entry.opened_here ? 1 : 0;
    count = source_ != nullptr ? source_->page_blocks() : 0;
    if (count == 0) count = page_blocks(own);
    Entry entry;
    if (!entry.dead.grow(count)) return entry;
    entry.page = PageRef::make(count, bytes_.page(count), source_);
    return entry;
  }

  /// Adds a reserved page, behind those reserved before (take() begins at the back).
  [[nodiscard]] bool adopt(Entry entry) noexcept {
    if (!widen(1)) return false;
    spare_.insert(spare_.begin(), std::move(entry));
    return true;
  }

  void retire(Entry entry) noexcept {
    if (!entry.page.exclusive() || entry.page.read_only()) return;
    entry.opened_here = true;
    spare_.push_back(std::move(entry));
  }

  /// Room for `more` pages, wherever they are, without std::vector's terminating growth.
  [[nodiscard]] bool widen(std::size_t more) noexcept {
    const std::size_t wanted = entries_.size() + spare_.size() + more;
    for (auto* entries : {&entries_, &spare_}) {
      if (wanted <= entries->capacity()) continue;
      const std::size_t count = std::max({wanted, std::size_t{4}, entries->capacity() + entries->capacity() / 2});
      void* probe = ::operator new(count * sizeof(Entry), std::nothrow);
      if (probe == nullptr) return false;
      ::operator delete(probe);
      entries->reserve(count);
    }
    return true;
  }

  BlockBytes bytes_;
  std::shared_ptr<PageSource> source_;
  std::size_t blocks_ = 0;
  std::vector<Entry> entries_;  // by `first`
  std::vector<Entry> spare_;    // exclusive and empty; the next one is last
};

}  // namespace pqkv::inline PQKV_ABI
