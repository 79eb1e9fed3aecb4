// The container that codebooks and sequences are saved in: a header, then sections, each with its size and a checksum.
// Beside the pipeline. Everything is little-endian and starts on a multiple of 64 bytes, so that a file can be mapped.
//
//   | "pqkv\r\n\x1a\n" | u32 version | u32 kind | u32 which checksum | 40 bytes of 0 | u32 checksum of these 60 bytes |
//   | u32 tag | u32 0 | u64 bytes | 44 bytes of 0 | u32 checksum of these 60 bytes and the payload | payload | up to 64 |  …
//
// The checksum is the caller's choice and a library's code (adapt/zlib.hpp); a file says which one it has.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "pqkv/base/result.hpp"
#include "pqkv/io/bytes.hpp"

namespace pqkv::inline PQKV_ABI {

static_assert(std::endian::native == std::endian::little, "files are little-endian, and so must the machine be");

/// Four characters as a number: tags that can be read in a hex dump.
[[nodiscard]] constexpr std::uint32_t tag(const char (&text)[5]) noexcept {
  std::uint32_t number = 0;
  for (int i = 3; i >= 0; --i) number = number << 8 | static_cast<unsigned char>(text[i]);
  return number;
}
[[nodiscard]] inline std::string text_of_tag(std::uint32_t number) {
  std::string text(4, '?');
  for (std::size_t i = 0; i < 4; ++i) {
    const auto c = static_cast<char>(number >> 8 * i & 0xff);
    if (c >= ' ' && c <= '~') text[i] = c;
  }
  return text;
}

/// A checksum over pieces: update(update(0, a), b) is that of a and b one behind the other.
struct Checksum {
  std::uint32_t id = 0;  ///< its name in files
  std::uint32_t (*update)(std::uint32_t state, const void* data, std::size_t bytes) noexcept = nullptr;
};

inline constexpr std::uint32_t archive_version = 1;
inline constexpr std::size_t archive_alignment = 64;

/// Numbers and strings one behind the other, for a section.
class ByteWriter {
 public:
  template <class T>
  requires std::is_arithmetic_v<T>
  void put(T number) { put_all(std::span(&number, 1)); }
  template <class T>
  void put_all(std::span<const T> numbers) {
    const auto* first = reinterpret_cast<const std::byte*>(numbers.data());
    bytes_.insert(bytes_.end(), first, first + numbers.size_bytes());
  }
  template <class T>
  void put_all(std::span<T> numbers) {
    put_all(std::span<const T>(numbers));
  }
  void put_text(const std::string& text) {
    put(static_cast<std::uint64_t>(text.size()));
    put_all(std::span(text.data(), text.size()));
  }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

/// Writes an archive. The first failure is kept; what follows does nothing.
template <ByteSink Sink>
class ArchiveWriter {
 public:
  ArchiveWriter(Sink& sink, std::uint32_t kind, const Checksum& checksum) : sink_(sink), checksum_(checksum) {
    PQKV_EXPECTS(checksum.update != nullptr);
    std::byte header[archive_alignment] = {};
    std::memcpy(header, "pqkv\r\n\x1a\n", 8);
    std::memcpy(header + 8, &archive_version, 4);
    std::memcpy(header + 12, &kind, 4);
    std::memcpy(header + 16, &checksum.id, 4);
    const std::uint32_t sum = checksum_.update(0, header, 60);
    std::memcpy(header + 60, &sum, 4);
    write(header, sizeof header);
  }

  /// A section of pieces, one behind the other.
  void section(std::uint32_t name, std::span<const std::span<const std::byte>> pieces) {
    std::uint64_t bytes = 0;
    for (const auto& piece : pieces) bytes += piece.size();
    std::byte header[archive_alignment] = {};
    std::memcpy(header, &name, 4);
    std::memcpy(header + 8, &bytes, 8);
    std::uint32_t sum = checksum_.update(0, header, 60);
    for (const auto& piece : pieces) sum = checksum_.update(sum, piece.data(), piece.size());
    std::memcpy(header + 60, &sum, 4);
    write(header, sizeof header);
    for (const auto& piece : pieces) write(piece.data(), piece.size());
    const std::byte zeros[archive_alignment] = {};
    write(zeros, (archive_alignment - bytes % archive_alignment) % archive_alignment);
  }
  void section(std::uint32_t name, std::span<const std::byte> bytes) { section(name, std::span(&bytes, 1)); }

  [[nodiscard]] Status status() const {
    return good_ ? Status() : Status(Error{Errc::bad_file, "not everything could be written"});
  }

 private:
  void write(const void* data, std::size_t bytes) { good_ = good_ && (bytes == 0 || sink_.write(data, bytes)); }

  Sink& sink_;
  Checksum checksum_;
  bool good_ = true;
};

/// Reads an archive section by section, in the order in which they were written. The first failure is kept: what is read
/// after it is zeros.
template <ByteSource Source>
class ArchiveReader {
 public:
  ArchiveReader(Source& source, std::uint32_t kind, const Checksum& checksum) : source_(source), checksum_(checksum) {
    PQKV_EXPECTS(checksum.update != nullptr);
    std::byte header[archive_alignment] = {};
    if (!source_.read(header, sizeof header) || std::memcmp(header, "pqkv\r\n\x1a\n", 8) != 0) {
      fail("not a pqkv file (wrong magic)");
      return;
    }
    std::uint32_t fields[3] = {};
    std::uint32_t sum = 0;
    std::memcpy(fields, header + 8, sizeof fields);
    std::memcpy(&sum, header + 60, 4);
    if (fields[0] != archive_version) {
      fail("version ", fields[0], "; this library reads version ", archive_version);
    } else if (fields[2] != checksum.id) {
      fail("its checksums are '", text_of_tag(fields[2]), "', not '", text_of_tag(checksum.id), "'");
    } else if (checksum_.update(0, header, 60) != sum) {
      fail("the header is damaged");
    } else if (fields[1] != kind) {
      fail("holds '", text_of_tag(fields[1]), "', not '", text_of_tag(kind), "'");
    }
  }

  /// Begins the next section, whose tag must be `name`. False on failure.
  [[nodiscard]] bool open(std::uint32_t name) {
    if (!ok()) return false;
    std::byte header[archive_alignment] = {};
    if (!source_.read(header, sizeof header)) return fail("ends before section '", text_of_tag(name), "'");
    std::uint32_t found = 0;
    std::memcpy(&found, header, 4);
    std::memcpy(&left_, header + 8, 8);
    std::memcpy(&expected_, header + 60, 4);
    name_ = name;
    if (found != name) return fail("section '", text_of_tag(found), "' where '", text_of_tag(name), "' belongs");
    if (left_ > source_.remaining()) {
      return fail("section '", text_of_tag(name), "' claims ", left_, " bytes where ", source_.remaining(),
                  " are left");
    }
    padding_ = (archive_alignment - left_ % archive_alignment) % archive_alignment;
    sum_ = checksum_.update(0, header, 60);
    return true;
  }
  /// Bytes of the section that were not read yet.
  [[nodiscard]] std::uint64_t left() const noexcept { return ok() ? left_ : 0; }

  bool read(void* out, std::size_t bytes) {
    if (!ok()) return false;
    if (bytes > left_) return fail("section '", text_of_tag(name_), "' is ", bytes - left_, " bytes too short");
    if (bytes == 0) return true;
    if (!source_.read(out, bytes)) return fail("ends inside section '", text_of_tag(name_), "'");
    sum_ = checksum_.update(sum_, out, bytes);
    left_ -= bytes;
    return true;
  }
  template <class T>
  requires std::is_arithmetic_v<T>
  [[nodiscard]] T get() {
    T number{};
    if (!read(&number, sizeof number)) number = T{};
    return number;
  }
  /// `count` numbers; none when the section is too short for them, so that a claimed size is never allocated.
  template <class T>
  [[nodiscard]] std::vector<T> get_all(std::uint64_t count) {
    std::vector<T> numbers;
    if (count > left() / sizeof(T)) {
      fail("section '", text_of_tag(name_), "' is too short for ", count, " numbers");
      return numbers;
    }
    numbers.resize(static_cast<std::size_t>(count));
    if (!read(numbers.data(), numbers.size() * sizeof(T))) numbers.clear();
    return numbers;
  }
  [[nodiscard]] std::string get_text() {
    const auto characters = get_all<char>(get<std::uint64_t>());
    return {characters.begin(), characters.end()};
  }
  /// The rest of the section where it lies, and without its checksum unless `verify`.
  [[nodiscard]] const std::byte* take_rest(bool verify) requires MappedSource<Source> {
    if (!ok()) return nullptr;
    const auto bytes = static_cast<std::size_t>(left_);
    const std::byte* data = source_.take(bytes);
    sum_ = verify ? checksum_.update(sum_, data, bytes) : expected_;
    left_ = 0;
    return data;
  }

  /// Ends the section: everything was read, and the checksum is right. False on failure.
  [[nodiscard]] bool close() {
    if (!ok()) return false;
    if (left_ != 0) return fail("section '", text_of_tag(name_), "' is ", left_, " bytes too long");
    if (sum_ != expected_) return fail("section '", text_of_tag(name_), "' is damaged: its checksum is wrong");
    std::byte zeros[archive_alignment];
    if (!source_.read(zeros, padding_)) return fail("ends inside section '", text_of_tag(name_), "'");
    return true;
  }

  [[nodiscard]] const Source& source() const noexcept { return source_; }
  [[nodiscard]] bool ok() const noexcept { return text_.empty(); }
  [[nodiscard]] Error error() const { return {Errc::bad_file, text_}; }
  template <class... Parts>
  bool fail(const Parts&... parts) {
    if (text_.empty()) text_ = message(parts...);
    return false;
  }

 private:
  Source& source_;
  Checksum checksum_;
  std::string text_;
  std::uint32_t name_ = 0;
  std::uint32_t expected_ = 0;
  std::uint32_t sum_ = 0;
  std::uint64_t left_ = 0;
  std::size_t padding_ = 0;
};

}  // namespace pqkv::inline PQKV_ABI
