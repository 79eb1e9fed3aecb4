#!/usr/bin/env python3
"""What including and using pqkv costs a compiler: processor seconds, peak memory, and the ratio to <Eigen/Dense>.

    bench/compile_times.py                    # the compiler is $CXX or g++; three minutes on a slow core
    bench/compile_times.py --build build/dev  # also the units of a build folder with compile_commands.json (minutes)

Ratios are what to compare between machines: each unit is compiled in turn with Eigen's, and the median of their ratios taken.
"""
import argparse
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
EIGEN = "#include <Eigen/Dense>\nint main() {\n  Eigen::MatrixXf a(3, 3);\n  a.setZero();\n  return static_cast<int>(a(0, 0));\n}\n"
ANY_CACHE = """#include <pqkv/pqkv.hpp>
#include <cstdio>
#include <vector>
int main() {
  const auto spec = pqkv::parse_cache_spec("k=turbo4,v=int4:g=32,sinks=4,recent=64");
  if (!spec) return 1;
  auto cache = pqkv::make_any_cache({1, 2, 64}, {*spec});
  if (!cache) return 1;
  auto workspaces = pqkv::make_workspaces(*cache, 2);
  std::vector<float> row(128, 0.5f), queries(256, 0.1f), out(256);
  for (int token = 0; token < 200; ++token) {
    if (!cache->append_layer(0, pqkv::Rows(row.data(), 1, 128), pqkv::Rows(row.data(), 1, 128))) return 1;
    pqkv::attend_layer(*cache, 0, pqkv::FloatRows(queries.data(), 4, 64), out.data(), 64, workspaces);
  }
  std::printf("%f\\n", static_cast<double>(out[0]));
}
"""


def empty(header):
    return f"#include <pqkv/{header}>\nint main() {{}}\n"


def units():
    """(name, text, flags, seconds wanted where Eigen's unit takes 2.5)"""
    extern, compiled = ["-DPQKV_EXTERN_KERNELS"], ["-DPQKV_COMPILED"]
    rows = [(f"empty main + {header}", empty(header), extern, None) for header in ("policy.hpp", "keys.hpp", "cache.hpp", "attend.hpp")]
    rows += [(f"empty main + {header}, {mode}", empty(header), flags, wanted)
             for header, wanted in (("pqkv.hpp", 4), ("train.hpp", 12))
             for mode, flags in (("header-only", extern), ("PQKV_COMPILED", compiled))]
    rows.append(("README's first program, header-only with its kernels", (ROOT / "examples/01_first_cache.cpp").read_text(), [], 15))
    rows.append(("make_any_cache, append_layer, attend_layer, PQKV_COMPILED", ANY_CACHE, compiled, 6))
    return rows


def cost(command, folder):
    """Processor seconds and peak megabytes of one compilation."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    message = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{shlex.join(command)}\n{message}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--eigen", default="/usr/include/eigen3", help="the folder that holds Eigen/")
    parser.add_argument("--build", help="a build folder whose units are compiled as well, the ten dearest being listed")
    arguments = parser.parse_args()
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    with tempfile.TemporaryDirectory() as folder:
        def compile_text(text, flags):
            source = pathlib.Path(folder) / "unit.cpp"
            source.write_text(text)
            return cost([*compiler, "-std=c++20", "-O2", *flags, f"-I{ROOT}/include", f"-isystem{arguments.eigen}", "-c",
                         str(source), "-o", str(source.with_suffix(".o"))], folder)

        print("| unit | CPU s | MB | × <Eigen/Dense> | wanted |\n|---|---|---|---|---|")
        for name, text, flags, wanted in units():
            own, eigen = [], []
            for _ in range(arguments.rounds):
                eigen.append(compile_text(EIGEN, []))
                own.append(compile_text(text, flags))
            ratio = statistics.median(o[0] / e[0] for o, e in zip(own, eigen))
            goal = f"≤ {wanted / 2.5:.1f}" if wanted else ""
            print(f"| {name} | {statistics.median(o[0] for o in own):.1f} | {max(o[1] for o in own):.0f} | {ratio:.1f} | {goal} |",
                  flush=True)
        if arguments.build:
            commands = json.loads((pathlib.Path(arguments.build) / "compile_commands.json").read_text())
            costs = sorted(((*cost(shlex.split(each["command"]), each["directory"]), each["file"]) for each in commands), reverse=True)
            print(f"\n{len(costs)} units, {sum(c[0] for c in costs):.0f} CPU s; at most {max(c[1] for c in costs):.0f} MB")
            for seconds, megabytes, file in costs[:10]:
                print(f"  {seconds:6.1f} s  {megabytes:5.0f} MB  {os.path.relpath(file, ROOT)}")


if __name__ == "__main__":
    main()
