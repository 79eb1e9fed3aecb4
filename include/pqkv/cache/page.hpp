// Page: memory for some blocks, shared by the sequences that hold blocks in it; PageSource: where pages come from. Layer 4.
//
//   | key blocks | up to a multiple of 64 bytes | value blocks |        (`blocks` of each)
//
// The same bytes in memory and in a file, so that a saved sequence can be mapped. Blocks in a page never change while
// more than one sequence holds the page; which of them may fill its free slots is the business of BlockStore.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>

#include "pqkv/base/buffer.hpp"

namespace pqkv::inline PQKV_ABI {

/// Memory for pages, handed out and taken back; called from every thread that owns a sequence, so it must be safe for
/// that. Without one, pages come from the heap.
class PageSource {
 public:
  PageSource() = default;
  PageSource(const PageSource&) = delete;
  PageSource& operator=(const PageSource&) = delete;
  virtual ~PageSource() = default;

  /// `bytes` of memory on a multiple of 64; nullptr when there is none left.
  [[nodiscard]] virtual std::byte* take(std::size_t bytes) noexcept = 0;
  virtual void give_back(std::byte* data, std::size_t bytes) noexcept = 0;
  /// Blocks per page; 0: as the store likes, small pages first.
  [[nodiscard]] virtual std::size_t page_blocks() const noexcept { return 0; }
};

/// Bytes of one key block and one value block, and what follows for a page of them.
struct BlockBytes {
  std::size_t key = 0;
  std::size_t value = 0;

  /// Value blocks start on a cache line of their own.
  [[nodiscard]] std::size_t values_offset(std::size_t blocks) const noexcept { return (blocks * key + 63) / 64 * 64; }
  [[nodiscard]] std::size_t page(std::size_t blocks) const noexcept { return values_offset(blocks) + blocks * value; }
};

/// A counted reference to a page; the last one gives its memory back. Copies may live on different threads.
class PageRef {
 public:
  PageRef() = default;
  PageRef(const PageRef& other) noexcept : page_(other.page_), data_(other.data_) {
    if (page_ != nullptr) page_->references.fetch_add(1, std::memory_order_relaxed);
  }
  PageRef(PageRef&& other) noexcept : page_(std::exchange(other.page_, nullptr)), data_(other.data_) {}
  PageRef& operator=(PageRef other) noexcept {
    std::swap(page_, other.page_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~PageRef() {
    if (page_ != nullptr && page_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      if (page_->source != nullptr) page_->source->give_back(data_, page_->bytes);
      delete page_;
    }
  }

  /// A new page, from the heap where `source` is null. Empty when memory or the source runs out.
  [[nodiscard]] static PageRef make(std::size_t blocks, std::size_t bytes, const std::shared_ptr<PageSource>& source) noexcept {
    PageRef made;
    made.page_ = new (std::nothrow) Page;
    if (made.page_ == nullptr) return made;
    made.page_->blocks = blocks;
    made.page_->bytes = bytes;
    if (source == nullptr) {
      if (made.page_->heap.grow(bytes)) made.data_ = made.page_->heap.data();
    } else {
      made.data_ = source->take(bytes);
      if (made.data_ != nullptr) made.page_->source = source;
    }
    if (made.data_ == nullptr) made = PageRef();
    return made;
  }

  /// A page over bytes that somebody else keeps (a mapped file); it is never written to. Empty when memory runs out.
  [[nodiscard]] static PageRef over(const std::byte* data, std::size_t blocks, std::size_t bytes,
                                    std::shared_ptr<const void> keeper) noexcept {
    PageRef made;
    made.page_ = new (std::nothrow) Page;
    if (made.page_ == nullptr) return made;
    made.page_->blocks = blocks;
    made.page_->bytes = bytes;
    made.data_ = const_cast<std::byte*>(data);
    made.page_->keeper = std::move(keeper);
    made.page_->read_only = true;
    return made;
  }

  explicit operator bool() const noexcept { return page_ != nullptr; }
  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t blocks() const noexcept { return page_->blocks; }
  [[nodiscard]] std::size_t bytes() const noexcept { return page_->bytes; }
  [[nodiscard]] bool read_only() const noexcept { return page_->read_only; }
  /// Whether nobody else holds the page. Once true it stays true until this reference is copied.
  [[nodiscard]] bool exclusive() const noexcept { return page_->references.load(std::memory_order_acquire) == 1; }

 private:
  struct Page {
    std::atomic<std::size_t> references{1};
    std::size_t blocks = 0;
    std::size_t bytes = 0;
    bool read_only = false;
    Buffer<std::byte> heap;
    std::shared_ptr<PageSource> source;
    std::shared_ptr<const void> keeper;
  };
  Page* page_ = nullptr;
  std::byte* data_ = nullptr;  // here, so that readers of a long sequence do not wait for a line of the heap per page
};

}  // namespace pqkv::inline PQKV_ABI
