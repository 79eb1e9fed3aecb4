// GrowingArray: a vector of trivial elements whose growth can fail without harm. Layer 4.
// What a sequence keeps about its runs: std::vector would end the program where memory runs out.
#pragma once

#include <algorithm>
#include <cstddef>

#include "pqkv/base/buffer.hpp"

namespace pqkv::inline PQKV_ABI {

template <class T>
class GrowingArray {
 public:
  /// Room for `count` elements in all; false, and everything as it was, when memory runs out.
  [[nodiscard]] bool reserve(std::size_t count) noexcept {
    return count <= elements_.size() || elements_.grow(std::max({count, 2 * elements_.size(), std::size_t{4}}));
  }
  /// Expects room from reserve().
  void push_back(const T& element) noexcept {
    PQKV_EXPECTS(size_ < elements_.size());
    elements_[size_++] = element;
  }
  /// Puts an element before `index`; expects room from reserve().
  void insert(std::size_t index, const T& element) noexcept {
    PQKV_EXPECTS(index <= size_);
    push_back(element);
    std::rotate(begin() + index, end() - 1, end());
  }
  void pop_back() noexcept {
    PQKV_EXPECTS(size_ > 0);
    --size_;
  }
  void clear() noexcept { size_ = 0; }
  /// A copy of `other`; false, and everything as it was, when memory runs out.
  [[nodiscard]] bool assign(const GrowingArray& other) noexcept {
    if (!reserve(other.size_)) return false;
    std::copy(other.begin(), other.end(), begin());
    size_ = other.size_;
    return true;
  }

  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return elements_.size() * sizeof(T); }
  [[nodiscard]] T& operator[](std::size_t index) noexcept { return elements_[index]; }
  [[nodiscard]] const T& operator[](std::size_t index) const noexcept { return elements_[index]; }
  [[nodiscard]] T& back() noexcept { return elements_[size_ - 1]; }
  [[nodiscard]] const T& back() const noexcept { return elements_[size_ - 1]; }
  [[nodiscard]] T* begin() noexcept { return elements_.data(); }
  [[nodiscard]] T* end() noexcept { return elements_.data() + size_; }
  [[nodiscard]] const T* begin() const noexcept { return elements_.data(); }
  [[nodiscard]] const T* end() const noexcept { return elements_.data() + size_; }

 private:
  Buffer<T> elements_;
  std::size_t size_ = 0;
};

}  // namespace pqkv::inline PQKV_ABI
