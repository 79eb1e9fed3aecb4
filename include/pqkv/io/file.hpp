// Files as byte sinks and sources, and saving that leaves either the old file or the whole new one. Beside the pipeline.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>

#include "pqkv/base/result.hpp"
#include "pqkv/io/bytes.hpp"

#if __has_include(<unistd.h>)
#include <fcntl.h>
#include <unistd.h>
#endif

namespace pqkv::inline PQKV_ABI {

namespace detail {

struct CloseFile {
  void operator()(std::FILE* file) const noexcept { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

/// What was written reaches the disk before anything that follows; true where the system has no such call.
[[nodiscard]] inline bool flush_to_disk(std::FILE* file) noexcept {
  if (std::fflush(file) != 0) return false;
#if __has_include(<unistd.h>)
  return ::fsync(::fileno(file)) == 0;
#else
  return true;
#endif
}

/// The same for a rename in the folder of `path`; best effort, for some file systems do not offer it.
inline void flush_folder_of(const std::string& path) {
#if __has_include(<unistd.h>)
  const std::size_t slash = path.rfind('/');
  const int folder = ::open(slash == std::string::npos ? "." : path.substr(0, slash + 1).c_str(), O_RDONLY);
  if (folder < 0) return;
  static_cast<void>(::fsync(folder));
  ::close(folder);
#else
  static_cast<void>(path);
#endif
}

}  // namespace detail

/// Writes through a FILE that somebody else owns.
class FileSink {
 public:
  explicit FileSink(std::FILE* file) noexcept : file_(file) {}
  bool write(const void* data, std::size_t bytes) noexcept { return std::fwrite(data, 1, bytes, file_) == bytes; }

 private:
  std::FILE* file_;
};

/// A whole file, read in order.
class FileSource {
 public:
  /// Errors: bad_file.
  [[nodiscard]] static Result<FileSource> open(const std::string& path) {
    detail::File file(std::fopen(path.c_str(), "rb"));
    if (file == nullptr) return Error{Errc::bad_file, message(path, ": cannot be opened")};
    long size = -1;
    if (std::fseek(file.get(), 0, SEEK_END) == 0) size = std::ftell(file.get());
    if (size < 0 || std::fseek(file.get(), 0, SEEK_SET) != 0)
      return Error{Errc::bad_file, message(path, ": cannot be read")};
    return FileSource(std::move(file), static_cast<std::size_t>(size));
  }
  bool read(void* out, std::size_t bytes) noexcept {
    if (bytes > left_ || std::fread(out, 1, bytes, file_.get()) != bytes) return false;
    left_ -= bytes;
    return true;
  }
  [[nodiscard]] std::size_t remaining() const noexcept { return left_; }

 private:
  FileSource(detail::File file, std::size_t size) noexcept : file_(std::move(file)), left_(size) {}
  detail::File file_;
  std::size_t left_;
};

namespace detail {

/// A name beside `path` that no other thread or process is writing to.
[[nodiscard]] inline std::string temporary_name(const std::string& path) {
  static std::atomic<unsigned> count{0};
#if __has_include(<unistd.h>)
  return message(path, ".", ::getpid(), ".", count++, ".part");
#else
  return message(path, ".", count++, ".part");
#endif
}

}  // namespace detail

/// write(sink) into a temporary file beside `path`, which takes its place only when all of it is on the disk: a reader
/// sees the old file or the new one, also after a crash. Errors: those of `write`, bad_file; the old file is untouched.
template <class Write>
[[nodiscard]] Status save_file(const std::string& path, const Write& write) {
  const std::string temporary = detail::temporary_name(path);
  detail::File file(std::fopen(temporary.c_str(), "wb"));
  if (file == nullptr) return Error{Errc::bad_file, message(temporary, ": cannot be created")};
  FileSink sink(file.get());
  Status status = write(sink);
  const bool flushed = detail::flush_to_disk(file.get());
  const bool closed = std::fclose(file.release()) == 0;
  if (status.ok() && (!flushed || !closed))
    status = Error{Errc::bad_file, message(temporary, ": could not be written completely")};
  if (status.ok() && std::rename(temporary.c_str(), path.c_str()) != 0) {
    status = Error{Errc::bad_file, message(temporary, ": could not take the place of ", path)};
  }
  if (status.ok()) {
    detail::flush_folder_of(path);
  } else {
    std::remove(temporary.c_str());
  }
  return status;
}

static_assert(ByteSink<FileSink> && ByteSource<FileSource>);

}  // namespace pqkv::inline PQKV_ABI
