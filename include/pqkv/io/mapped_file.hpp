// MappedFile: a file in memory, read when touched (POSIX mmap). Beside the pipeline. Where the system has none, opening is
// an error, and FileSource remains.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "pqkv/base/result.hpp"
#include "pqkv/io/bytes.hpp"

#if __has_include(<sys/mman.h>)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace pqkv::inline PQKV_ABI {

class MappedFile {
 public:
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  /// Maps a whole file for reading. Nobody may shorten it while it is mapped. Errors: bad_file.
  [[nodiscard]] static Result<std::shared_ptr<const MappedFile>> open(const std::string& path) {
    auto file = map(path, 0);
    if (!file) return file.error();
    return std::shared_ptr<const MappedFile>(std::move(file).value());
  }
  /// Creates a file of `bytes`, or makes one that long, and maps it for reading and writing: memory for a PagePool that
  /// the system may write out. Errors: bad_file.
  [[nodiscard]] static Result<std::shared_ptr<MappedFile>> create(const std::string& path, std::size_t bytes) {
    if (bytes == 0) return Error{Errc::bad_file, message(path, ": a file of no bytes cannot be mapped")};
    return map(path, bytes);
  }

#if __has_include(<sys/mman.h>)
  ~MappedFile() { ::munmap(data_, size_); }
#endif

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  /// Expects create().
  [[nodiscard]] std::span<std::byte> writable_bytes() noexcept {
    PQKV_EXPECTS(writable_);
    return {data_, size_};
  }

 private:
  MappedFile(std::byte* data, std::size_t size, bool writable) noexcept
      : data_(data), size_(size), writable_(writable) {}

  /// `create` bytes to create a file of; 0: open what there is.
  [[nodiscard]] static Result<std::shared_ptr<MappedFile>> map(const std::string& path, std::size_t create) {
#if __has_include(<sys/mman.h>)
    const auto bad = [&path](const char* what) { return Error{Errc::bad_file, message(path, ": ", what)}; };
    const int file = ::open(path.c_str(), create != 0 ? O_RDWR | O_CREAT : O_RDONLY, 0600);
    if (file < 0) return bad("cannot be opened");
    struct stat state = {};
    std::size_t size = create;
    bool sized = true;
    if (create != 0) {
      sized = ::ftruncate(file, static_cast<off_t>(create)) == 0;
    } else {
      sized = ::fstat(file, &state) == 0 && state.st_size > 0;
      size = static_cast<std::size_t>(state.st_size);
    }
    void* data = sized ? ::mmap(nullptr, size, create != 0 ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, file, 0)
                       : MAP_FAILED;
    ::close(file);
    if (!sized) return bad(create != 0 ? "cannot be made that long" : "is empty");
    if (data == MAP_FAILED) return bad("cannot be mapped");
    return std::shared_ptr<MappedFile>(new MappedFile(static_cast<std::byte*>(data), size, create != 0));
#else
    return Error{Errc::bad_file, message(path, ": this system maps no files", create != 0 ? "" : "; read it instead")};
#endif
  }

  std::byte* data_;
  std::size_t size_;
  bool writable_;
};

/// A mapped file as a source that pages may point into.
class MappedFileSource {
 public:
  explicit MappedFileSource(std::shared_ptr<const MappedFile> file) noexcept : file_(std::move(file)) {}
  bool read(void* out, std::size_t bytes) noexcept {
    if (bytes > remaining()) return false;
    if (bytes != 0) std::memcpy(out, take(bytes), bytes);
    return true;
  }
  [[nodiscard]] std::size_t remaining() const noexcept { return file_->bytes().size() - at_; }
  [[nodiscard]] const std::byte* take(std::size_t bytes) noexcept {
    PQKV_EXPECTS(bytes <= remaining());
    at_ += bytes;
    return file_->bytes().data() + at_ - bytes;
  }
  [[nodiscard]] std::shared_ptr<const void> keeper() const noexcept { return file_; }

 private:
  std::shared_ptr<const MappedFile> file_;
  std::size_t at_ = 0;
};

static_assert(MappedSource<MappedFileSource>);

}  // namespace pqkv::inline PQKV_ABI
