// GGUF files, versions 2 and 3: metadata, and tensors as floats. Every length is checked against the file before use.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "pqkv/base/half.hpp"
#include "tiny_llm/mapped_file.hpp"

namespace tiny_llm {

/// A metadata value; integers of any width become int64, floats double.
using MetadataValue = std::variant<std::int64_t, double, bool, std::string, std::vector<std::int64_t>, std::vector<double>,
                                   std::vector<std::string>>;

enum class TensorType : std::uint32_t { f32 = 0, f16 = 1, q4_0 = 2, q8_0 = 8, bf16 = 30 };

/// Where a tensor lies and what it holds. `shape[0]` varies fastest.
struct TensorInfo {
  std::vector<std::size_t> shape;
  TensorType type = TensorType::f32;
  std::size_t offset = 0;  ///< in the file
  std::size_t elements = 1;
};

/// Bytes of `elements` of a type; 0 for a type that cannot be read.
[[nodiscard]] inline std::size_t tensor_bytes(TensorType type, std::size_t elements) noexcept {
  switch (type) {
    case TensorType::f32: return elements * 4;
    case TensorType::f16:
    case TensorType::bf16: return elements * 2;
    case TensorType::q4_0: return elements / 32 * 18;
    case TensorType::q8_0: return elements / 32 * 34;
  }
  return 0;
}

class Gguf {
 public:
  [[nodiscard]] static pqkv::Result<Gguf> open(const std::string& path) {
    auto file = MappedFile::open(path);
    if (!file) return file.error();
    Gguf gguf(path, std::move(*file));
    if (pqkv::Status status = gguf.parse(); !status) return status.error();
    return gguf;
  }

  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// The value of that key if it is there and of type T.
  template <class T>
  [[nodiscard]] const T* find(const std::string& key) const {
    const auto at = metadata_.find(key);
    return at == metadata_.end() ? nullptr : std::get_if<T>(&at->second);
  }
  [[nodiscard]] pqkv::Result<std::size_t> positive(const std::string& key) const {
    const auto* number = find<std::int64_t>(key);
    if (number == nullptr) return error("has no ", key);
    if (*number <= 0 || *number > (1 << 24)) return error(key, " is ", *number);
    return static_cast<std::size_t>(*number);
  }
  [[nodiscard]] const TensorInfo* tensor(const std::string& name) const {
    const auto at = tensors_.find(name);
    return at == tensors_.end() ? nullptr : &at->second;
  }

  /// All elements as floats.
  [[nodiscard]] std::vector<float> floats(const TensorInfo& tensor) const {
    std::vector<float> out(tensor.elements);
    const std::byte* data = file_.bytes().data() + tensor.offset;
    const auto half_at = [data](std::size_t byte) {
      pqkv::f16 half{};
      std::memcpy(&half, data + byte, sizeof half);
      return pqkv::to_float(half);
    };
    const auto byte_at = [data](std::size_t byte) { return std::to_integer<int>(data[byte]); };
    switch (tensor.type) {
      case TensorType::f32: std::memcpy(out.data(), data, out.size() * 4); break;
      case TensorType::f16:
        for (std::size_t i = 0; i < out.size(); ++i) out[i] = half_at(2 * i);
        break;
      case TensorType::bf16:
        for (std::size_t i = 0; i < out.size(); ++i) {
          pqkv::bf16 upper{};
          std::memcpy(&upper, data + 2 * i, sizeof upper);
          out[i] = pqkv::to_float(upper);
        }
        break;
      case TensorType::q8_0:  // blocks of 32: f16 scale, 32 signed bytes
        for (std::size_t i = 0; i < out.size(); ++i) {
          const std::size_t block = i / 32 * 34;
          out[i] = half_at(block) * static_cast<float>(static_cast<std::int8_t>(byte_at(block + 2 + i % 32)));
        }
        break;
      case TensorType::q4_0:  // blocks of 32: f16 scale, 16 bytes; low nibbles first 16 elements, high nibbles the others
        for (std::size_t i = 0; i < out.size(); ++i) {
          const std::size_t block = i / 32 * 18;
          const int pair = byte_at(block + 2 + i % 16);
          out[i] = half_at(block) * static_cast<float>((i % 32 < 16 ? pair & 15 : pair >> 4) - 8);
        }
        break;
    }
    return out;
  }

  template <class... Parts>
  [[nodiscard]] pqkv::Error error(const Parts&... parts) const {
    return {pqkv::Errc::bad_file, pqkv::message(path_, ": ", parts...)};
  }

 private:
  Gguf(std::string path, MappedFile file) : path_(std::move(path)), file_(std::move(file)) {}

  /// Reads a plain number and moves on; 0 (and failed_) at the end of the file.
  template <class T>
  T take() {
    T value{};
    const auto bytes = file_.bytes();
    if (failed_ || bytes.size() - at_ < sizeof(T)) {
      failed_ = true;
      return value;
    }
    std::memcpy(&value, bytes.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  std::string take_string() {
    const auto size = take<std::uint64_t>();
    if (failed_ || file_.bytes().size() - at_ < size) {
      failed_ = true;
      return {};
    }
    std::string text(reinterpret_cast<const char*>(file_.bytes().data()) + at_, size);
    at_ += size;
    return text;
  }
  /// An integer or float of GGUF's numeric type, as T.
  template <class T>
  T take_number(std::uint32_t type) {
    switch (type) {
      case 0: return static_cast<T>(take<std::uint8_t>());
      case 1: return static_cast<T>(take<std::int8_t>());
      case 2: return static_cast<T>(take<std::uint16_t>());
      case 3: return static_cast<T>(take<std::int16_t>());
      case 4: return static_cast<T>(take<std::uint32_t>());
      case 5: return static_cast<T>(take<std::int32_t>());
      case 6: return static_cast<T>(take<float>());
      case 7: return static_cast<T>(take<std::uint8_t>());
      case 10: return static_cast<T>(take<std::uint64_t>());
      case 11: return static_cast<T>(take<std::int64_t>());
      case 12: return static_cast<T>(take<double>());
      default: failed_ = true; return T{};
    }
  }
  [[nodiscard]] static bool is_float(std::uint32_t type) noexcept { return type == 6 || type == 12; }

  MetadataValue take_value(std::uint32_t type) {
    if (type == 8) return take_string();
    if (type == 7) return take<std::uint8_t>() != 0;
    if (type != 9) {
      if (is_float(type)) return take_number<double>(type);
      return take_number<std::int64_t>(type);
    }
    const auto element = take<std::uint32_t>();
    const auto count = take<std::uint64_t>();
    if (failed_ || count > file_.bytes().size() - at_) {  // an element has at least one byte
      failed_ = true;
      return std::int64_t{0};
    }
    const auto fill = [&](auto list, const auto& next) -> MetadataValue {
      for (std::uint64_t i = 0; i < count && !failed_; ++i) list.push_back(next());
      return list;
    };
    if (element == 8) return fill(std::vector<std::string>{}, [&] { return take_string(); });
    if (is_float(element)) return fill(std::vector<double>{}, [&] { return take_number<double>(element); });
    return fill(std::vector<std::int64_t>{}, [&] { return take_number<std::int64_t>(element); });
  }

  [[nodiscard]] pqkv::Status parse() {
    if (take<std::uint32_t>() != 0x46554747u) return error("is not a GGUF file (wrong magic)");
    const auto version = take<std::uint32_t>();
    if (version != 2 && version != 3) return error("has GGUF version ", version, "; known are 2 and 3");
    const auto tensor_count = take<std::uint64_t>();
    const auto value_count = take<std::uint64_t>();
    for (std::uint64_t i = 0; i < value_count && !failed_; ++i) {
      std::string key = take_string();
      const auto type = take<std::uint32_t>();
      metadata_[std::move(key)] = take_value(type);
    }
    if (failed_) return error("is truncated or corrupt inside its metadata");
    std::map<std::string, TensorInfo> tensors;
    for (std::uint64_t i = 0; i < tensor_count && !failed_; ++i) {
      const std::string name = take_string();
      TensorInfo tensor;
      const auto dimensions = take<std::uint32_t>();
      if (dimensions > 4) return error("tensor ", name, " has ", dimensions, " dimensions");
      for (std::uint32_t d = 0; d < dimensions; ++d) {
        const auto size = take<std::uint64_t>();
        if (size == 0 || size > (std::uint64_t{1} << 40) / tensor.elements) {
          return error("tensor ", name, " is empty or larger than memory");
        }
        tensor.shape.push_back(size);
        tensor.elements *= size;
      }
      tensor.type = static_cast<TensorType>(take<std::uint32_t>());
      tensor.offset = take<std::uint64_t>();
      tensors[name] = tensor;
    }
    if (failed_) return error("is truncated inside its list of tensors");
    const auto* alignment = find<std::int64_t>("general.alignment");
    const std::size_t align = alignment != nullptr && *alignment > 0 ? static_cast<std::size_t>(*alignment) : 32;
    const std::size_t data = (at_ + align - 1) / align * align;
    for (auto& [name, tensor] : tensors) {
      const bool in_blocks = tensor.type == TensorType::q4_0 || tensor.type == TensorType::q8_0;
      if (in_blocks && (tensor.shape.empty() || tensor.shape[0] % 32 != 0)) {
        return error("tensor ", name, " is in blocks of 32, which do not divide its rows");
      }
      const std::size_t bytes = tensor_bytes(tensor.type, tensor.elements);
      if (bytes == 0) {
        return error("tensor ", name, " has type ", static_cast<std::uint32_t>(tensor.type),
                     "; can read F32, F16, BF16, Q8_0 and Q4_0");
      }
      const std::size_t held = file_.bytes().size();
      if (data > held || tensor.offset > held - data || bytes > held - data - tensor.offset) {
        return error("is truncated: tensor ", name, " needs ", bytes, " bytes at ", data + tensor.offset, " of ", held);
      }
      tensor.offset += data;
    }
    tensors_ = std::move(tensors);
    return {};
  }

  std::string path_;
  MappedFile file_;
  std::size_t at_ = 0;
  bool failed_ = false;
  std::map<std::string, MetadataValue> metadata_;
  std::map<std::string, TensorInfo> tensors_;
};

}  // namespace tiny_llm
