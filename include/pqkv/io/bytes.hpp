// ByteSink and ByteSource: where bytes go to and come from: memory, a file, whatever the caller has. Beside the pipeline.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "pqkv/base/config.hpp"

namespace pqkv::inline PQKV_ABI {

/// Takes bytes in order; false when it could not.
template <class S>
concept ByteSink = requires(S& sink, const void* data, std::size_t bytes) {
  { sink.write(data, bytes) } -> std::same_as<bool>;
};

/// Gives bytes in order; false when it could not. remaining() is never less than what it can still give: sizes that a
/// file claims are checked against it before anything is allocated.
template <class S>
concept ByteSource = requires(S& source, const S& same, void* out, std::size_t bytes) {
  { source.read(out, bytes) } -> std::same_as<bool>;
  { same.remaining() } -> std::same_as<std::size_t>;
};

/// A source whose bytes stay where they are as long as somebody holds keeper(): pages may point into it.
template <class S>
concept MappedSource = ByteSource<S> && requires(S& source, const S& same, std::size_t bytes) {
  { source.take(bytes) } -> std::same_as<const std::byte*>;  // remaining() ≥ bytes
  { same.keeper() } -> std::same_as<std::shared_ptr<const void>>;
};

/// Into a vector.
class MemorySink {
 public:
  bool write(const void* data, std::size_t bytes) {
    const auto* first = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), first, first + bytes);
    return true;
  }
  [[nodiscard]] const std::vector<std::byte>& bytes() const noexcept { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// From memory that outlives it.
class MemorySource {
 public:
  explicit MemorySource(std::span<const std::byte> bytes) noexcept : left_(bytes) {}
  bool read(void* out, std::size_t bytes) noexcept {
    if (bytes > left_.size()) return false;
    if (bytes != 0) std::memcpy(out, left_.data(), bytes);
    left_ = left_.subspan(bytes);
    return true;
  }
  [[nodiscard]] std::size_t remaining() const noexcept { return left_.size(); }

 private:
  std::span<const std::byte> left_;
};

static_assert(ByteSink<MemorySink> && ByteSource<MemorySource>);

}  // namespace pqkv::inline PQKV_ABI
