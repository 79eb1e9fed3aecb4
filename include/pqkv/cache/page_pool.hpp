// PagePool: pages of equal size out of memory that the caller brings: an arena shared by all sequences of a server, huge
// pages, a mapped file. Layer 4.
#pragma once

#include <mutex>
#include <span>
#include <vector>

#include "pqkv/base/result.hpp"
#include "pqkv/cache/page.hpp"

namespace pqkv::inline PQKV_ABI {

/// Hands out slices of one stretch of memory; serves every cache whose pages are no larger than a slice.
class PagePool final : public PageSource {
 public:
  /// Cuts `memory` into slices of `page_bytes` (rounded up to a multiple of 64) for pages of `page_blocks` blocks each.
  /// `memory` must outlive the pool. Errors: invalid_shape when not one page fits.
  [[nodiscard]] static Result<std::shared_ptr<PagePool>> make(std::span<std::byte> memory, std::size_t page_blocks,
                                                              std::size_t page_bytes) {
    const std::size_t slice = (page_bytes + 63) / 64 * 64;
    const std::size_t lost = (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
    const std::size_t pages = page_bytes == 0 || memory.size() < lost ? 0 : (memory.size() - lost) / slice;
    if (pages == 0 || page_blocks == 0) {
      return Error{Errc::invalid_shape, message("a pool of ", memory.size(), " bytes holds no page of ", page_blocks,
                                                " blocks and ", page_bytes, " bytes")};
    }
    std::shared_ptr<PagePool> pool(new PagePool(page_blocks, slice));
    pool->free_.reserve(pages);
    for (std::size_t i = pages; i-- > 0;) pool->free_.push_back(memory.data() + lost + i * slice);
    return pool;
  }

  [[nodiscard]] std::byte* take(std::size_t bytes) noexcept override {
    const std::lock_guard lock(mutex_);
    if (bytes > slice_ || free_.empty()) return nullptr;
    std::byte* data = free_.back();
    free_.pop_back();
    return data;
  }
  void give_back(std::byte* data, std::size_t /*bytes*/) noexcept override {
    const std::lock_guard lock(mutex_);
    free_.push_back(data);  // never more than there were
  }
  [[nodiscard]] std::size_t page_blocks() const noexcept override { return page_blocks_; }

  [[nodiscard]] std::size_t free_pages() const noexcept {
    const std::lock_guard lock(mutex_);
    return free_.size();
  }

 private:
  PagePool(std::size_t page_blocks, std::size_t slice) noexcept : page_blocks_(page_blocks), slice_(slice) {}

  std::size_t page_blocks_;
  std::size_t slice_;
  mutable std::mutex mutex_;
  std::vector<std::byte*> free_;
};

}  // namespace pqkv::inline PQKV_ABI
