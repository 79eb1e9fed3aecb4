// safetensors files: what the format's description says, and files that lie.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "catch.hpp"
#include "pqkv/io/safetensors.hpp"

using namespace pqkv;

namespace {

std::string write(const std::string& header, const std::string& data) {
  const std::string path = (std::filesystem::temp_directory_path() / "pqkv_test.safetensors").string();
  std::ofstream file(path, std::ios::binary);
  const std::uint64_t size = header.size();
  file.write(reinterpret_cast<const char*>(&size), 8);
  file << header << data;
  return path;
}

}  // namespace

TEST_CASE("safetensors are read by name") {
  const float numbers[] = {1.5f, -2.0f, 3.0f, 0.0f, 5.0f, 6.5f};
  std::string data(reinterpret_cast<const char*>(numbers), sizeof numbers);
  data += std::string("\x00\x3c\x00\xc0", 4);  // f16: 1, −2
  data += std::string("\x80\x3f\x00\xc0", 4);  // bf16: 1, −2
  data += std::string(8, '\0');
  const std::string path =
      write(R"({"__metadata__": {"format": "pt"}, "keys": {"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
    "half\u00e9\n": {"shape":[2], "dtype":"F16", "data_offsets":[24,28]}, "brain":{"dtype":"BF16","shape":[2,1],"data_offsets":[28,32]},
    "ids":{"dtype":"I64","shape":[1],"data_offsets":[32,40]},"none":{"dtype":"F32","shape":[0,7],"data_offsets":[40,40]} }   )",
            data);
  const auto file = Safetensors::open(path).value();
  REQUIRE(file.tensors().size() == 5);
  const auto keys = file.read("keys").value();
  CHECK(keys.shape == std::vector<std::size_t>{2, 3});
  CHECK(std::memcmp(keys.data.data(), numbers, sizeof numbers) == 0);
  CHECK(file.read("half\xc3\xa9\n").value().data == std::vector<float>{1.0f, -2.0f});
  CHECK(file.read("brain").value().data == std::vector<float>{1.0f, -2.0f});
  CHECK(file.read("none").value().data.empty());
  CHECK(file.read("ids").error().message.find("'ids' is I64") != std::string::npos);
  CHECK(file.read("what").error().message.find("no tensor 'what'") != std::string::npos);
  CHECK(file.find("ids")->end == 40);
}

TEST_CASE("safetensors that lie are refused before anything is allocated") {
  const auto refused = [](const std::string& header, const char* text) {
    INFO(header);
    const auto file = Safetensors::open(write(header, std::string(16, 'x')));
    REQUIRE_FALSE(file);
    INFO(file.error().message);
    CHECK(file.error().code == Errc::bad_file);
    CHECK(file.error().message.find(text) != std::string::npos);
  };
  refused(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,15]}})", "'a' of 16 bytes lies at 0 to 15 of 16");
  refused(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[4,20]}})", "lies at 4 to 20");
  refused(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})", "lies at 16 to 0");
  refused(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,16]}})", "larger than the file");
  refused(R"({"a":{"dtype":"F3","shape":[4],"data_offsets":[0,16]}})", "unknown type 'F3'");
  for (const char* broken :
       {"", "{", "[]", R"({"a":1})", R"({"a":{}})", R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0]}})",
        R"({"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})", R"({"a\q":{}})", R"({"a\ud800":{}})", R"({} x)",
        "{\"a"}) {
    refused(broken, "header is not that of a safetensors file");
  }
  const std::string path = write("{}", "");
  std::filesystem::resize_file(path, 9);
  CHECK(Safetensors::open(path).error().message.find("claims a header of 2 bytes where 1") != std::string::npos);
  std::filesystem::resize_file(path, 4);
  CHECK(Safetensors::open(path).error().message.find("too short") != std::string::npos);
  std::filesystem::remove(path);
}
