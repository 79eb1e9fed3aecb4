// safetensors files (Hugging Face's format for named tensors), read: codebooks, rows, weights of a model. Beside the pipeline.
//
//   | u64 bytes of the header | header, JSON: {"name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}, …} | data |
//
// Every offset and shape is checked against the file before anything is read or allocated.
#pragma once

#include <bit>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pqkv/io/file.hpp"
#include "pqkv/io/npy.hpp"

namespace pqkv::inline PQKV_ABI {

/// What the header says of one tensor.
struct TensorInfo {
  std::string name;
  std::string type;  ///< "F32", "F16", "BF16", "I64", …
  std::vector<std::size_t> shape;
  std::size_t begin = 0;  ///< bytes from the start of the data
  std::size_t end = 0;
};

namespace detail {

/// The part of JSON that the header uses. After a failure everything reads as empty.
class JsonReader {
 public:
  explicit JsonReader(std::string_view text) noexcept : rest_(text) {}

  [[nodiscard]] bool ok() const noexcept { return ok_; }
  [[nodiscard]] bool at_end() noexcept { return ok_ && (skip_spaces(), rest_.empty()); }
  bool fail() noexcept { return ok_ = false; }

  /// Takes `c` if it is next.
  bool accept(char c) noexcept {
    skip_spaces();
    if (!ok_ || !rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool expect(char c) noexcept { return accept(c) || fail(); }

  [[nodiscard]] std::string text() {
    std::string out;
    if (!expect('"')) return out;
    while (!rest_.empty() && rest_.front() != '"') {
      char c = rest_.front();
      rest_.remove_prefix(1);
      if (c == '\\') {
        if (rest_.empty()) break;
        c = rest_.front();
        rest_.remove_prefix(1);
        if (c == 'u') {
          put_unicode(out);
          continue;
        }
        constexpr std::string_view from = "\"\\/bfnrt", to = "\"\\/\b\f\n\r\t";
        const std::size_t known = from.find(c);
        if (known == std::string_view::npos) fail();
        c = known == std::string_view::npos ? ' ' : to[known];
      }
      out += c;
    }
    expect('"');
    return out;
  }

  [[nodiscard]] std::size_t number() noexcept {
    skip_spaces();
    std::size_t value = 0;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value);
    if (!ok_ || error != std::errc{}) {
      fail();
      return 0;
    }
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return value;
  }

  [[nodiscard]] std::vector<std::size_t> numbers() {
    std::vector<std::size_t> out;
    if (!expect('[') || accept(']')) return out;
    do {
      out.push_back(number());
    } while (accept(','));
    expect(']');
    return out;
  }

  /// {"key": …, …}: each(key) reads the value.
  template <class Each>
  void object(const Each& each) {
    if (!expect('{') || accept('}')) return;
    do {
      const std::string key = text();
      if (!expect(':')) return;
      each(key);
    } while (ok_ && accept(','));
    expect('}');
  }

 private:
  void skip_spaces() noexcept { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t\r\n"), rest_.size())); }

  /// Four hexadecimal digits of the basic plane as UTF-8; surrogates do not occur in names.
  void put_unicode(std::string& out) {
    unsigned code = 0;
    const auto [end, error] =
        std::from_chars(rest_.data(), rest_.data() + std::min<std::size_t>(4, rest_.size()), code, 16);
    if (error != std::errc{} || end != rest_.data() + 4 || (code >= 0xd800 && code < 0xe000)) {
      fail();
      return;
    }
    rest_.remove_prefix(4);
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
    } else {
      out += {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)),
              static_cast<char>(0x80 | (code & 0x3f))};
    }
  }

  std::string_view rest_;
  bool ok_ = true;
};

/// Bytes of an element of that type; 0: unknown.
PQKV_WHEN_CALLED [[nodiscard]] std::size_t tensor_element_bytes(std::string_view type) noexcept {
  if (type == "F64" || type == "I64" || type == "U64") return 8;
  if (type == "F32" || type == "I32" || type == "U32") return 4;
  if (type == "F16" || type == "BF16" || type == "I16" || type == "U16") return 2;
  if (type == "I8" || type == "U8" || type == "BOOL" || type == "F8_E4M3" || type == "F8_E5M2") return 1;
  return 0;
}

}  // namespace detail

/// An open file: its tensors, and their elements when asked for.
class Safetensors {
 public:
  /// Errors: bad_file, with the path and what is wrong.
  [[nodiscard]] static Result<Safetensors> open(const std::string& path) {
    auto source = FileSource::open(path);
    if (!source) return source.error();
    const auto bad = [&path](const auto&... parts) { return Error{Errc::bad_file, message(path, ": ", parts...)}; };
    std::uint64_t header_bytes = 0;
    if (!source->read(&header_bytes, sizeof header_bytes)) return bad("is too short for a safetensors file");
    if (header_bytes > source->remaining() || header_bytes > most_header_bytes) {
      return bad("claims a header of ", header_bytes, " bytes where ", source->remaining(), " follow");
    }
    std::string header(static_cast<std::size_t>(header_bytes), '\0');
    if (!source->read(header.data(), header.size())) return bad("cannot be read");
    Safetensors file(path, sizeof header_bytes + header.size());
    if (!file.parse(header)) return bad("the header is not that of a safetensors file");
    for (const TensorInfo& tensor : file.tensors_) {
      std::size_t bytes = detail::tensor_element_bytes(tensor.type);
      if (bytes == 0) return bad("tensor '", tensor.name, "' has elements of unknown type '", tensor.type, "'");
      for (const std::size_t size : tensor.shape) {
        if (size != 0 && bytes > source->remaining() / size)
          return bad("tensor '", tensor.name, "' is larger than the file");
        bytes *= size;
      }
      if (tensor.end > source->remaining() || tensor.begin > tensor.end || tensor.end - tensor.begin != bytes) {
        return bad("tensor '", tensor.name, "' of ", bytes, " bytes lies at ", tensor.begin, " to ", tensor.end, " of ",
                   source->remaining());
      }
    }
    return file;
  }

  [[nodiscard]] const std::vector<TensorInfo>& tensors() const noexcept { return tensors_; }
  /// nullptr: there is none of that name.
  [[nodiscard]] const TensorInfo* find(std::string_view name) const noexcept {
    for (const TensorInfo& tensor : tensors_) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }

  /// The elements of an F32, F16 or BF16 tensor as floats. Errors: bad_file.
  [[nodiscard]] Result<NpyArray> read(std::string_view name) const {
    const auto bad = [this](const auto&... parts) { return Error{Errc::bad_file, message(path_, ": ", parts...)}; };
    const TensorInfo* tensor = find(name);
    if (tensor == nullptr) return bad("has no tensor '", name, "'");
    if (tensor->type != "F32" && tensor->type != "F16" && tensor->type != "BF16") {
      return bad("tensor '", name, "' is ", tensor->type, "; can read F32, F16, BF16");
    }
    const ScalarType type = tensor->type == "F32"   ? ScalarType::f32
                            : tensor->type == "F16" ? ScalarType::f16
                                                    : ScalarType::bf16;
    NpyArray array{tensor->shape, type, std::vector<float>((tensor->end - tensor->begin) / size_of(type))};
    const detail::File file(std::fopen(path_.c_str(), "rb"));
    const auto at = static_cast<long>(data_at_ + tensor->begin);
    bool good = file != nullptr && std::fseek(file.get(), at, SEEK_SET) == 0;
    if (type == ScalarType::f32) {
      good = good && detail::read_exactly(file.get(), array.data.data(), array.data.size() * sizeof(float));
    } else if (type == ScalarType::f16) {
      good = good && detail::read_elements<f16>(file.get(), array.data, [](f16 x) { return to_float(x); });
    } else {
      good = good && detail::read_elements<bf16>(file.get(), array.data, [](bf16 x) { return to_float(x); });
    }
    if (!good) return bad("tensor '", name, "' cannot be read");
    return array;
  }

 private:
  static constexpr std::uint64_t most_header_bytes = 100'000'000;

  Safetensors(std::string path, std::size_t data_at) : path_(std::move(path)), data_at_(data_at) {}

  [[nodiscard]] bool parse(std::string_view header) {
    detail::JsonReader json(header);
    json.object([&](const std::string& name) {
      if (name == "__metadata__") {
        json.object([&](const std::string&) { static_cast<void>(json.text()); });
        return;
      }
      TensorInfo tensor;
      tensor.name = name;
      std::vector<std::size_t> offsets;
      json.object([&](const std::string& key) {
        if (key == "dtype") {
          tensor.type = json.text();
        } else if (key == "shape") {
          tensor.shape = json.numbers();
        } else if (key == "data_offsets") {
          offsets = json.numbers();
        } else {
          json.fail();
        }
      });
      if (offsets.size() != 2) {
        json.fail();
        return;
      }
      tensor.begin = offsets[0];
      tensor.end = offsets[1];
      tensors_.push_back(std::move(tensor));
    });
    return json.at_end();
  }

  std::string path_;
  std::size_t data_at_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace pqkv::inline PQKV_ABI
