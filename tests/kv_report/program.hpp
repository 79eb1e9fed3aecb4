// kv_report as a user runs it: calls of the program, its figures, and small files made on the spot.
#pragma once

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "catch.hpp"
#include "kv_report/run.hpp"
#include "support/data.hpp"

namespace pqkv::test::report_program {

namespace files = std::filesystem;

struct Outcome {
  int code;
  std::string out;
  std::string err;
};

inline std::string contents(std::FILE* file) {
  std::string text;
  std::rewind(file);
  for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) text.push_back(static_cast<char>(c));
  std::fclose(file);
  return text;
}

inline Outcome run(const std::vector<std::string>& arguments) {
  std::FILE* out = std::tmpfile();
  std::FILE* err = std::tmpfile();
  const int code = kv_report::run(arguments, out, err);
  return {code, contents(out), contents(err)};
}

inline std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

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
  std::vector<std::string> arguments(const std::string& q = "q", const std::string& k = "k",
                                     const std::string& v = "v") const {
    return {"--queries", path(q), "--keys", path(k), "--values", path(v), "--threads", "2"};
  }
};

inline void refused(const std::vector<std::string>& arguments, const std::string& text) {
  const Outcome outcome = run(arguments);
  INFO(outcome.err);
  CHECK(outcome.code == 2);
  CHECK(outcome.out.find("policy") == std::string::npos);
  CHECK(outcome.err.find(text) != std::string::npos);
}

inline std::vector<std::string> operator+(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace pqkv::test::report_program
