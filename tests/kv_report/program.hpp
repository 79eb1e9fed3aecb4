// kv_report as a user runs it: calls of the program, its figures, and small files made on the spot.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "catch.hpp"
#include "pqkv/io/npy.hpp"
#include "support/data.hpp"
#include "support/program.hpp"

namespace pqkv::test::report_program {

namespace files = std::filesystem;

/// The program, compiled once for all tests (program.cpp).
Outcome run(const Words& arguments);

/// The numbers of one JSON object per policy, in order.
inline std::vector<std::map<std::string, double>> parse(const std::string& json) {
  std::vector<std::map<std::string, double>> rows;
  for (std::size_t at = json.find("{\"policy\""); at != std::string::npos; at = json.find("{\"policy\"", at + 1)) {
    auto& row = rows.emplace_back();
    std::size_t place = json.find("\", \"", at) + 3;
    const std::size_t end = json.find('}', at);
    while (place < end) {
      const std::size_t close = json.find('"', place + 1);
      row[json.substr(place + 1, close - place - 1)] = std::stod(json.substr(close + 2));
      const std::size_t comma = json.find(", \"", close);
      place = comma == std::string::npos ? end : comma + 2;
    }
  }
  return rows;
}

/// Small files of one text, made on the spot.
struct Files {
  files::path folder = files::temp_directory_path() / "pqkv_kv_report_test";
  Files() {
    files::create_directories(folder);
    write("q", {2, 4, 40, 16}, 1);
    write("k", {2, 2, 40, 16}, 2);
    write("v", {2, 2, 40, 16}, 3);
  }
  ~Files() { files::remove_all(folder); }
  std::string path(const std::string& name) const { return (folder / (name + ".npy")).string(); }
  void write(const std::string& name, const std::vector<std::size_t>& shape, std::uint64_t seed) const {
    std::size_t count = 1;
    for (const std::size_t size : shape) count *= size;
    REQUIRE(pqkv::write_npy(path(name), shape, normal_floats(count, seed), pqkv::ScalarType::f16));
  }
  Words arguments(const std::string& q = "q", const std::string& k = "k", const std::string& v = "v") const {
    return {"--queries", path(q), "--keys", path(k), "--values", path(v), "--threads", "2"};
  }
};

inline void refused(const Words& arguments, const std::string& text) {
  const Outcome outcome = run(arguments);
  INFO(outcome.err);
  CHECK(outcome.code == 2);
  CHECK(outcome.out.find("policy") == std::string::npos);
  CHECK(outcome.err.find(text) != std::string::npos);
}

}  // namespace pqkv::test::report_program
