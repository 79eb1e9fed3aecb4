// Which instruction set a program runs on, in words.
#pragma once

#include <pqkv/isa/select.hpp>

#include <cstdio>
#include <string>

namespace common {

/// "instruction set avx2", and where the environment variable PQKV_ISA asked for another one, that it does not run here.
[[nodiscard]] inline std::string instruction_set() {
  const std::string chosen(pqkv::isa::best().name), requested(pqkv::isa::requested());
  std::string text = "instruction set " + chosen;
  if (!requested.empty() && requested != chosen) text += " (PQKV_ISA=" + requested + " does not run here)";
  return text;
}

/// A line on `err` where PQKV_ISA asked for a set that does not run here; for programs that say nothing otherwise.
inline void say_unmet_instruction_set(std::FILE* err) {
  if (pqkv::isa::requested().empty() || pqkv::isa::requested() == pqkv::isa::best().name) return;
  std::fprintf(err, "%s\n", instruction_set().c_str());
}

}  // namespace common
