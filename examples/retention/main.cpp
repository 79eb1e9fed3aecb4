// What each retention policy does to attention, at each token budget. See README.md.
#include "retention/run.hpp"

int main(int argc, char** argv) { return retention_report::run({argv + 1, argv + argc}, stdout, stderr); }
