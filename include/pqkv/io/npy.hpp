// .npy files (NumPy's array format, versions 1 to 3), little-endian, C order: f16 and f32 read and written, integers read.
// Beside the pipeline: nothing in it includes this.
#pragma once

#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pqkv/base/half.hpp"
#include "pqkv/base/result.hpp"
#include "pqkv/base/rows.hpp"
#include "pqkv/io/file.hpp"

namespace pqkv::inline PQKV_ABI {

static_assert(std::endian::native == std::endian::little, "files are little-endian, and so must the machine be");

/// An array in memory, always as floats; `type` is how the file held it.
struct NpyArray {
  std::vector<std::size_t> shape;
  ScalarType type = ScalarType::f32;
  std::vector<float> data;
};

namespace detail {

struct NpyHeader {
  std::vector<std::size_t> shape;
  std::string type;  // "<f4"
  std::size_t element_bytes = 0;
  std::size_t elements = 1;
};

/// What follows `'key':` in the header's dictionary, up to the value's end; empty when the key is missing.
PQKV_WHEN_CALLED [[nodiscard]] std::string_view npy_value(std::string_view dictionary, std::string_view key) {
  const std::size_t at = dictionary.find(message("'", key, "'"));
  if (at == std::string_view::npos) return {};
  std::string_view rest = dictionary.substr(at + key.size() + 2);
  rest.remove_prefix(std::min(rest.find_first_not_of(" :"), rest.size()));
  const std::size_t end = rest.starts_with('(') ? rest.find(')') + 1 : rest.find_first_of(",}");
  rest = rest.substr(0, end);
  return rest.substr(0, rest.find_last_not_of(' ') + 1);
}

/// `types`: what the caller can read, such as "<f2 <f4".
PQKV_WHEN_CALLED [[nodiscard]] Result<NpyHeader> parse_npy_header(std::string_view dictionary, std::string_view types,
                                                                  const std::string& path) {
  const auto bad = [&path](const auto&... parts) { return Error{Errc::bad_file, message(path, ": ", parts...)}; };
  NpyHeader header;
  const std::string_view type = npy_value(dictionary, "descr");
  const std::string_view order = npy_value(dictionary, "fortran_order");
  const std::string_view shape = npy_value(dictionary, "shape");
  if (type.starts_with("'>")) return bad("elements are big-endian (", type, "); save them little-endian");
  const std::string_view name = type.size() == 5 ? type.substr(1, 3) : std::string_view{};
  if (name.empty() || name.find(' ') != std::string_view::npos || types.find(name) == std::string_view::npos) {
    return bad("elements are ", type.empty() ? "of no known type" : type, "; can read ", types);
  }
  header.type = name;
  header.element_bytes = static_cast<std::size_t>(name[2] - '0');
  if (order == "True") return bad("the array is in Fortran order; save it in C order");
  if (order != "False") return bad("the header does not say fortran_order");
  if (!shape.starts_with('(')) return bad("the header has no shape");
  for (std::string_view rest = shape.substr(1);;) {
    rest.remove_prefix(std::min(rest.find_first_not_of(" ,"), rest.size()));
    if (rest.starts_with(')')) break;
    std::size_t size = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), size);
    if (error != std::errc{}) return bad("the shape ", shape, " cannot be read");
    if (size != 0 && header.elements > std::numeric_limits<std::size_t>::max() / 8 / size) {
      return bad("the shape ", shape, " is larger than memory");
    }
    header.shape.push_back(size);
    header.elements *= size;
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
  }
  return header;
}

PQKV_WHEN_CALLED [[nodiscard]] bool read_exactly(std::FILE* file, void* out, std::size_t bytes) noexcept {
  return std::fread(out, 1, bytes, file) == bytes;
}

/// Opens a file and reads up to its data, whose size is checked. Errors: bad_file with the path and what is wrong.
PQKV_WHEN_CALLED [[nodiscard]] Result<NpyHeader> open_npy(const std::string& path, std::string_view types, File& file) {
  const auto bad = [&path](const auto&... parts) { return Error{Errc::bad_file, message(path, ": ", parts...)}; };
  file.reset(std::fopen(path.c_str(), "rb"));
  if (file == nullptr) return bad("cannot be opened");
  unsigned char start[8] = {};
  if (!read_exactly(file.get(), start, sizeof start) || std::memcmp(start, "\x93NUMPY", 6) != 0) {
    return bad("is not an .npy file (wrong magic)");
  }
  if (start[6] < 1 || start[6] > 3) return bad("has .npy version ", int{start[6]}, "; known are 1 to 3");
  const std::size_t length_bytes = start[6] == 1 ? 2 : 4;
  unsigned char length[4] = {};
  if (!read_exactly(file.get(), length, length_bytes)) return bad("is truncated inside its header");
  const std::size_t header_bytes = std::size_t{length[0]} | std::size_t{length[1]} << 8 | std::size_t{length[2]} << 16 |
                                   std::size_t{length[3]} << 24;
  if (header_bytes > (1u << 20)) return bad("has a header of ", header_bytes, " bytes");
  std::string dictionary(header_bytes, '\0');
  if (!read_exactly(file.get(), dictionary.data(), header_bytes)) return bad("is truncated inside its header");
  auto header = parse_npy_header(dictionary, types, path);
  if (!header) return header.error();

  const std::size_t data_at = sizeof start + length_bytes + header_bytes;
  const std::size_t wanted = header->elements * header->element_bytes;
  if (std::fseek(file.get(), 0, SEEK_END) != 0) return bad("cannot be read");
  const long file_bytes = std::ftell(file.get());
  const std::size_t held = file_bytes < 0 ? 0 : static_cast<std::size_t>(file_bytes) - data_at;
  if (file_bytes < 0 || held < wanted) {
    return bad("is truncated: ", held, " bytes of data where the header promises ", wanted);
  }
  if (held > wanted) return bad("has ", held - wanted, " bytes behind the array");
  if (std::fseek(file.get(), static_cast<long>(data_at), SEEK_SET) != 0) return bad("cannot be read");
  return header;
}

/// The rest of an opened file as elements of one type, each turned into an Out.
template <class In, class Out, class Convert>
[[nodiscard]] bool read_elements(std::FILE* file, std::vector<Out>& out, const Convert& convert) {
  std::vector<In> elements(out.size());
  if (!read_exactly(file, elements.data(), elements.size() * sizeof(In))) return false;
  for (std::size_t i = 0; i < elements.size(); ++i) out[i] = convert(elements[i]);
  return true;
}

}  // namespace detail

/// Reads a whole array of f16 or f32. Errors: bad_file with the path and what is wrong.
PQKV_WHEN_CALLED [[nodiscard]] Result<NpyArray> read_npy(const std::string& path) {
  detail::File file;
  auto header = detail::open_npy(path, "<f2 <f4", file);
  if (!header) return header.error();
  const ScalarType type = header->type == "<f2" ? ScalarType::f16 : ScalarType::f32;
  NpyArray array{std::move(header->shape), type, std::vector<float>(header->elements)};
  const bool read = type == ScalarType::f16
                        ? detail::read_elements<f16>(file.get(), array.data, [](f16 x) { return to_float(x); })
                        : detail::read_exactly(file.get(), array.data.data(), array.data.size() * sizeof(float));
  if (!read) return Error{Errc::bad_file, message(path, ": cannot be read to its end")};
  return array;
}

/// Reads a whole array of integers of any width (token ids, positions), flattened. Errors: bad_file.
PQKV_WHEN_CALLED [[nodiscard]] Result<std::vector<std::int64_t>> read_npy_integers(const std::string& path) {
  detail::File file;
  const auto header = detail::open_npy(path, "<u2 <i4 <u4 <i8", file);
  if (!header) return header.error();
  std::vector<std::int64_t> out(header->elements);
  const auto widen = [](auto x) { return static_cast<std::int64_t>(x); };
  const bool read = header->type == "<u2"   ? detail::read_elements<std::uint16_t>(file.get(), out, widen)
                    : header->type == "<i4" ? detail::read_elements<std::int32_t>(file.get(), out, widen)
                    : header->type == "<u4" ? detail::read_elements<std::uint32_t>(file.get(), out, widen)
                                            : detail::read_elements<std::int64_t>(file.get(), out, widen);
  if (!read) return Error{Errc::bad_file, message(path, ": cannot be read to its end")};
  return out;
}

/// Writes an array, f32 or f16 (rounded to nearest). Expects data.size() to be the product of the shape.
/// Errors: bad_file; a file that could not be written completely is removed.
PQKV_WHEN_CALLED [[nodiscard]] Status write_npy(const std::string& path, std::span<const std::size_t> shape,
                                                std::span<const float> data, ScalarType type = ScalarType::f32) {
  PQKV_EXPECTS(type != ScalarType::bf16);
  std::string sizes;
  for (const std::size_t size : shape) sizes += std::to_string(size) + ", ";
  std::string dictionary = message("{'descr': '", type == ScalarType::f16 ? "<f2" : "<f4",
                                   "', 'fortran_order': False, 'shape': (", sizes, "), }");
  dictionary.resize((10 + dictionary.size() + 1 + 63) / 64 * 64 - 10, ' ');  // data start on a multiple of 64
  dictionary.back() = '\n';
  const char start[10] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0, static_cast<char>(dictionary.size() & 0xff),
                          static_cast<char>(dictionary.size() >> 8)};
  detail::File file(std::fopen(path.c_str(), "wb"));
  if (file == nullptr) return Error{Errc::bad_file, message(path, ": cannot be created")};
  bool written = std::fwrite(start, 1, sizeof start, file.get()) == sizeof start &&
                 std::fwrite(dictionary.data(), 1, dictionary.size(), file.get()) == dictionary.size();
  if (type == ScalarType::f32) {
    written = written && std::fwrite(data.data(), sizeof(float), data.size(), file.get()) == data.size();
  } else {
    std::vector<f16> halves(data.size());
    for (std::size_t i = 0; i < data.size(); ++i) halves[i] = to_f16(data[i]);
    written = written && std::fwrite(halves.data(), sizeof(f16), halves.size(), file.get()) == halves.size();
  }
  written = std::fclose(file.release()) == 0 && written;
  if (written) return {};
  std::remove(path.c_str());
  return Error{Errc::bad_file, message(path, ": could not be written completely")};
}

}  // namespace pqkv::inline PQKV_ABI
