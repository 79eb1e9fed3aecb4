// A small CPU decoder whose KV cache and attention are pqkv. See README.md.
#include "tiny_llm/commands.hpp"

int main(int argc, char** argv) { return tiny_llm::run({argv + 1, argv + argc}, stdout, stderr); }
