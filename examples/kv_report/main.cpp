// What a compressed KV cache does to attention, measured on dumped queries, keys and values. See README.md.
#include "kv_report/run.hpp"

int main(int argc, char** argv) { return kv_report::run({argv + 1, argv + argc}, stdout, stderr); }
