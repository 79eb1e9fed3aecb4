// Programs as a user runs them: what they print, what they return, what they leave in files.
#pragma once

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace pqkv::test {

using Words = std::vector<std::string>;

inline Words operator+(Words a, const Words& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

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

/// `program(words, out, err)` returns an exit code.
template <class Program>
Outcome run(const Program& program, const Words& words) {
  std::FILE* out = std::tmpfile();
  std::FILE* err = std::tmpfile();
  const int code = program(words, out, err);
  return {code, contents(out), contents(err)};
}

inline std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace pqkv::test
