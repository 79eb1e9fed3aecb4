// Which instruction set a program runs on, in words.
#pragma once

#include <pqkv/isa/select.hpp>

#include <cstdio>
#include <string>

namespace common {

[[nodiscard]] inline bool is_instruction_set_unmet() noexcept {
  return !pqkv::isa::requested().empty() && pqkv::isa::requested() != pqkv::isa::best().name;
}

/// "instruction set avx2", and where the environment variable PQKV_ISA asked for another one, that it does not run here.
[[nodiscard]] inline std::string instruction_set() {
  std::string text = "instruction set " + std::string(pqkv::isa::best().name);
  if (is_instruction_set_unmet()) text += " (PQKV_ISA=" + std::string(pqkv::isa::requested()) + " does not run here)";
  return text;
}

/// A line on `err` where PQKV_ISA asked for a set that does not run here; for programs that say nothing otherwise.
inline void say_unmet_instruction_set(std::FILE* err) {
  if (is_instruction_set_unmet()) std::fprintf(err, "%s\n", instruction_set().c_str());
}

}  // namespace common
