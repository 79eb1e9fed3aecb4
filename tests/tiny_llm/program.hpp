// tiny_llm as a user runs it: a two-layer random model and texts made on the spot, calls of the program, and its figures.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "support/program.hpp"
#include "tiny_llm/model_files.hpp"

namespace pqkv::test::llm_program {

namespace files = std::filesystem;

/// The program, compiled once for all tests (program.cpp).
Outcome tiny(const Words& words);

/// The model, 4 chunks of random tokens to calibrate on, 3 others to judge on.
struct Files {
  files::path folder = files::temp_directory_path() / "pqkv_tiny_llm_program_test";
  explicit Files(std::size_t rotary = 16) {
    files::create_directories(folder);
    RandomModel model{.rotary = rotary, .type = tiny_llm::TensorType::f16};
    model.draw();
    std::ofstream(path("model.gguf"), std::ios::binary) << model.gguf().file();
    std::ofstream(path("model.bin"), std::ios::binary) << model.checkpoint();
    write_tokens("calibration.npy", 4 * 128, 1, 262);
    write_tokens("evaluation.npy", 3 * 128 + 5, 2, 262);
  }
  ~Files() { files::remove_all(folder); }
  [[nodiscard]] std::string path(const std::string& name) const { return (folder / name).string(); }
  void write_tokens(const std::string& name, std::size_t count, std::uint64_t seed, std::size_t below) const {
    std::string header = "{'descr': '<u2', 'fortran_order': False, 'shape': (" + std::to_string(count) + ",), }";
    header.resize(117, ' ');
    std::string bytes = "\x93NUMPY\x01";
    bytes += std::string("\0\x76\0", 3) + header + "\n";
    pqkv::Random random(seed);
    for (std::size_t i = 0; i < count; ++i) put(bytes, static_cast<std::uint16_t>(random.below(below)));
    std::ofstream(path(name), std::ios::binary) << bytes;
  }
  [[nodiscard]] Words command(const std::string& name, const std::string& tokens = "") const {
    Words words = {name, "--model", path("model.gguf"), "--threads", "2"};
    if (!tokens.empty()) words = words + Words{"--tokens", path(tokens)};
    return words;
  }
};

/// The fields of each object of a JSON array, in order.
inline std::vector<std::vector<std::pair<std::string, std::string>>> objects(const std::string& json) {
  std::vector<std::vector<std::pair<std::string, std::string>>> all;
  for (std::size_t at = json.find('{'); at != std::string::npos; at = json.find('{', at + 1)) {
    auto& fields = all.emplace_back();
    const std::size_t end = json.find('}', at);
    for (std::size_t name = json.find('"', at); name < end;) {
      const std::size_t name_end = json.find('"', name + 1);
      const std::size_t value = name_end + 3;
      const bool text = json[value] == '"';
      const std::size_t value_end = text ? json.find('"', value + 1) + 1 : json.find_first_of(",}", value);
      fields.emplace_back(json.substr(name + 1, name_end - name - 1), json.substr(value, value_end - value));
      name = json.find('"', value_end);
    }
  }
  return all;
}

inline double field(const std::vector<std::pair<std::string, std::string>>& fields, const std::string& name) {
  for (const auto& [key, value] : fields) {
    if (key == name) return std::stod(value);
  }
  FAIL(name + " is missing");
  return 0;
}

inline void refused(const Words& words, const std::string& text) {
  const Outcome outcome = tiny(words);
  INFO(outcome.err << "\nexpected: " << text);
  CHECK(outcome.code == 2);
  CHECK(outcome.out.empty());
  CHECK(outcome.err.find(text) != std::string::npos);
}

}  // namespace pqkv::test::llm_program
