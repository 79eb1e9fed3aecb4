// A 64-byte aligned array of trivial elements whose growth can fail without harm. Layer 0.
// Not a vector: no constructors run, growth keeps the old contents, and running out of memory is an answer.
#pragma once

#include <cstddef>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#include "pqkv/base/expects.hpp"

namespace pqkv::inline PQKV_ABI {

/// Move-only owner of `size()` elements; new elements are zero.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer() { ::operator delete(data_, alignment); }

  /// Grows to at least `size` elements; false (and nothing changed) when memory runs out.
  [[nodiscard]] bool grow(std::size_t size) noexcept {
    if (size <= size_) return true;
    if (size > std::numeric_limits<std::size_t>::max() / sizeof(T)) return false;
    void* fresh = ::operator new(size * sizeof(T), alignment, std::nothrow);
    if (fresh == nullptr) return false;
    std::memset(fresh, 0, size * sizeof(T));
    if (size_ != 0) std::memcpy(fresh, data_, size_ * sizeof(T));
    ::operator delete(data_, alignment);
    data_ = static_cast<T*>(fresh);
    size_ = size;
    return true;
  }

  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] const T* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] T& operator[](std::size_t index) noexcept { return data_[index]; }
  [[nodiscard]] const T& operator[](std::size_t index) const noexcept { return data_[index]; }

 private:
  static constexpr std::align_val_t alignment{64};
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace pqkv::inline PQKV_ABI
