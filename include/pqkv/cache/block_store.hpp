// BlockStore: where the sealed blocks of one head lie. Layer 4.
// Pages of 8, 16, 32 and then 64 blocks each, key blocks first, value blocks behind: growing never copies (so the peak
// memory of an append is the memory of the cache), short sequences stay small, and long ones are scanned in long stretches.
#pragma once

#include <algorithm>
#include <cstddef>
#include <new>
#include <vector>

#include "pqkv/base/buffer.hpp"
#include "pqkv/policy.hpp"

namespace pqkv::inline PQKV_ABI {

class BlockStore {
 public:
  BlockStore() = default;
  BlockStore(std::size_t key_block_bytes, std::size_t value_block_bytes) noexcept
      : key_bytes_(key_block_bytes), value_bytes_(value_block_bytes) {}

  [[nodiscard]] std::size_t blocks() const noexcept { return blocks_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t sum = 0;
    for (const Buffer<std::byte>& page : pages_) sum += page.size();
    return sum;
  }

  /// Room for `blocks` blocks in all; false, and the blocks as they were, when memory runs out.
  [[nodiscard]] bool reserve(std::size_t blocks) noexcept {
    while (blocks > first_block(pages_.size())) {
      if (pages_.size() == pages_.capacity() && !widen()) return false;
      Buffer<std::byte> page;
      const std::size_t count = page_blocks(pages_.size());
      if (!page.grow(values_offset(count) + count * value_bytes_)) return false;
      pages_.push_back(std::move(page));
    }
    return true;
  }

  /// Takes the next block; expects room from reserve(). Returns its index.
  std::size_t take() noexcept {
    PQKV_EXPECTS(blocks_ < first_block(pages_.size()));
    return blocks_++;
  }

  /// Gives up all blocks from `blocks` on; pages stay reserved.
  void truncate(std::size_t blocks) noexcept {
    PQKV_EXPECTS(blocks <= blocks_);
    blocks_ = blocks;
  }

  [[nodiscard]] std::byte* key_block(std::size_t block) noexcept {
    const Place place = find(block);
    return pages_[place.page].data() + place.index * key_bytes_;
  }
  [[nodiscard]] const std::byte* key_block(std::size_t block) const noexcept {
    const Place place = find(block);
    return pages_[place.page].data() + place.index * key_bytes_;
  }
  [[nodiscard]] std::byte* value_block(std::size_t block) noexcept {
    const Place place = find(block);
    return pages_[place.page].data() + values_offset(page_blocks(place.page)) + place.index * value_bytes_;
  }
  [[nodiscard]] const std::byte* value_block(std::size_t block) const noexcept {
    const Place place = find(block);
    return pages_[place.page].data() + values_offset(page_blocks(place.page)) + place.index * value_bytes_;
  }
  /// How many blocks from `block` on lie one behind the other.
  [[nodiscard]] std::size_t contiguous(std::size_t block) const noexcept {
    const Place place = find(block);
    return page_blocks(place.page) - place.index;
  }

 private:
  struct Place {
    std::size_t page;
    std::size_t index;
  };
  static constexpr std::size_t small_pages = 3;
  static constexpr std::size_t full_page = 64;

  [[nodiscard]] static std::size_t page_blocks(std::size_t page) noexcept {
    return page < small_pages ? std::size_t{8} << page : full_page;
  }
  [[nodiscard]] static std::size_t first_block(std::size_t page) noexcept {
    return page <= small_pages ? (std::size_t{8} << page) - 8 : 56 + (page - small_pages) * full_page;
  }
  [[nodiscard]] static Place find(std::size_t block) noexcept {
    std::size_t page = block < 8 ? 0 : block < 24 ? 1 : block < 56 ? 2 : small_pages + (block - 56) / full_page;
    return {page, block - first_block(page)};
  }
  /// Value blocks start on a cache line of their own.
  [[nodiscard]] std::size_t values_offset(std::size_t count) const noexcept {
    return (count * key_bytes_ + 63) / 64 * 64;
  }

  /// Room for more page handles without std::vector's terminating growth.
  [[nodiscard]] bool widen() noexcept {
    const std::size_t wanted = std::max<std::size_t>(16, pages_.capacity() * 2);
    void* probe = ::operator new(wanted * sizeof(Buffer<std::byte>), std::nothrow);
    if (probe == nullptr) return false;
    ::operator delete(probe);
    pages_.reserve(wanted);
    return true;
  }

  std::size_t key_bytes_ = 0;
  std::size_t value_bytes_ = 0;
  std::size_t blocks_ = 0;
  std::vector<Buffer<std::byte>> pages_;
};

}  // namespace pqkv::inline PQKV_ABI
