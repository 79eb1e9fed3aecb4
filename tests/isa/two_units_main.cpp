// Fails when both units share one inline namespace although their flags differ, or when their outputs do.
#include <cmath>
#include <cstdio>

#include "isa/two_units.hpp"

int main() {
  float a[8] = {};
  float b[8] = {};
  const std::string name_a = attend_in_unit_a(a);
  // Unit b runs only where its flags may: the point is that unit a never runs unit b's code.
#if defined(__x86_64__)
  const bool runs_b = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  const bool runs_b = true;
#endif
  const std::string name_b = runs_b ? attend_in_unit_b(b) : "not run";
  std::printf("unit a: %s\nunit b: %s\n", name_a.c_str(), name_b.c_str());
#if defined(__x86_64__)
  if (name_a == name_b) return std::puts("both units share one namespace"), 1;
#endif
  for (int d = 0; runs_b && d < 8; ++d) {
    if (!(std::fabs(a[d] - b[d]) < 1e-5f)) return std::printf("output %d: %f and %f\n", d, double(a[d]), double(b[d])), 1;
  }
  return 0;
}
