// .npy files: what is written reads back, and every kind of bad file has its own message.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "catch.hpp"
#include "pqkv/io/npy.hpp"
#include "support/data.hpp"

using namespace pqkv;
using namespace pqkv::test;

namespace {

std::string temporary(const char* name) { return (std::filesystem::temp_directory_path() / name).string(); }

/// A version-1 file with this dictionary and that many bytes of data.
std::string file_with(const std::string& dictionary, std::size_t bytes) {
  const std::string path = temporary("pqkv_bad.npy");
  std::ofstream file(path, std::ios::binary);
  file << "\x93NUMPY" << '\x01' << '\0' << static_cast<char>(dictionary.size()) << '\0' << dictionary
       << std::string(bytes, '\0');
  return path;
}

std::string error_of(const std::string& path) {
  const auto array = read_npy(path);
  return array ? "no error" : array.error().message;
}

}  // namespace

TEST_CASE("arrays read back as they were written") {
  const std::vector<std::size_t> shape = {3, 2, 5};
  const auto data = normal_floats(30, 1);
  const std::string path = temporary("pqkv_array.npy");
  REQUIRE(write_npy(path, shape, data));
  auto array = read_npy(path).value();
  CHECK(array.shape == shape);
  CHECK(array.type == ScalarType::f32);
  CHECK(array.data == data);
  CHECK(std::filesystem::file_size(path) % 64 == 120 % 64);  // data start on a multiple of 64
  REQUIRE(write_npy(path, shape, data, ScalarType::f16));
  array = read_npy(path).value();
  CHECK(array.type == ScalarType::f16);
  for (std::size_t i = 0; i < 30; ++i) REQUIRE(array.data[i] == to_float(to_f16(data[i])));
  const std::vector<std::size_t> one = {30};
  REQUIRE(write_npy(path, one, data));
  CHECK(read_npy(path).value().shape == one);
  std::filesystem::remove(path);
}

TEST_CASE("headers as NumPy writes them are understood") {
  const auto path = file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n", 24);
  CHECK(read_npy(path).value().shape == std::vector<std::size_t>{2, 3});
  CHECK(read_npy(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (), }\n", 4)).value().data.size() == 1);
  CHECK(read_npy(file_with("{\"a\": 1, 'shape':(7,),'fortran_order':False,'descr':'<f2'}\n", 14)).value().data.size() == 7);
}

TEST_CASE("integers of several widths are read") {
  const auto write = [](const char* type, const std::string& bytes) {
    const std::string dictionary = std::string("{'descr': '") + type + "', 'fortran_order': False, 'shape': (2,), }\n";
    const std::string path = temporary("pqkv_integers.npy");
    std::ofstream(path, std::ios::binary) << "\x93NUMPY" << '\x01' << '\0' << static_cast<char>(dictionary.size()) << '\0'
                                          << dictionary << bytes;
    return path;
  };
  const std::vector<std::int64_t> expected = {7, 0xfffe};
  CHECK(read_npy_integers(write("<u2", std::string("\x07\0\xfe\xff", 4))).value() == expected);
  CHECK(read_npy_integers(write("<i4", std::string("\x07\0\0\0\xfe\xff\0\0", 8))).value() == expected);
  CHECK(read_npy_integers(write("<u4", std::string("\x07\0\0\0\xfe\xff\0\0", 8))).value() == expected);
  CHECK(read_npy_integers(write("<i8", std::string("\x07\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 16))).value() ==
        std::vector<std::int64_t>{7, -1});
  CHECK(read_npy_integers(write("<f4", std::string(8, '\0'))).error().message.find("'<f4'; can read <u2") != std::string::npos);
  CHECK(read_npy(write("<u2", std::string(4, '\0'))).error().message.find("'<u2'; can read <f2") != std::string::npos);
  std::filesystem::remove(temporary("pqkv_integers.npy"));
}

TEST_CASE("each kind of bad file has its own message") {
  const auto mentions = [](const std::string& path, const char* text) {
    INFO(error_of(path));
    CHECK(error_of(path).find(text) != std::string::npos);
  };
  mentions("/nonexistent/file.npy", "/nonexistent/file.npy: cannot be opened");
  const std::string path = temporary("pqkv_magic.npy");
  std::ofstream(path) << "PK\x03\x04 something else";
  mentions(path, "wrong magic");
  std::ofstream(path).close();
  mentions(path, "wrong magic");
  std::ofstream(path, std::ios::binary) << "\x93NUMPY\x01" << '\0' << "\x50" << '\0' << "{'descr'";
  mentions(path, "truncated inside its header");
  std::ofstream(path, std::ios::binary) << "\x93NUMPY\x09" << '\0' << "\x50" << '\0';
  mentions(path, "version 9");
  mentions(file_with("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }\n", 8), "big-endian ('>f4')");
  mentions(file_with("{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }\n", 8), "Fortran order");
  mentions(file_with("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }\n", 16), "elements are '<f8'; can read <f2 <f4");
  mentions(file_with("{'fortran_order': False, 'shape': (2,), }\n", 8), "no known type");
  mentions(file_with("{'descr': '<f4', 'shape': (2,), }\n", 8), "fortran_order");
  mentions(file_with("{'descr': '<f4', 'fortran_order': False}\n", 8), "no shape");
  mentions(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, x), }\n", 8), "cannot be read");
  mentions(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", 23), "truncated: 23 bytes of data where the header promises 24");
  mentions(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", 25), "1 bytes behind the array");
  mentions(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 9999999999, 9999999999), }\n", 8),
           "larger than memory");
  mentions(file_with("{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999,), }\n", 8), "truncated");
  std::filesystem::remove(path);
  std::filesystem::remove(temporary("pqkv_bad.npy"));
}

TEST_CASE("a file that cannot be written is an error") {
  const std::vector<std::size_t> shape = {2};
  const std::vector<float> data = {1, 2};
  const Status status = write_npy("/nonexistent/file.npy", shape, data);
  REQUIRE_FALSE(status);
  CHECK(status.error().code == Errc::bad_file);
}
