#!/usr/bin/env python3
"""Two builds of pqkv_bench against each other, in turns A B A B: ratios with their spread.

    bench/compare.py build/old/bench/pqkv_bench build/new/bench/pqkv_bench --filter 'attend/.*cold' --rounds 7

Prints, per benchmark, the median time of A, that of B, and how many times faster B was: the median, least and most of the
rounds' own ratios. A difference smaller than the spread is none.
"""
import argparse
import json
import statistics
import subprocess
import sys


def run(program, pattern, seconds):
    """Nanoseconds of processor time per benchmark."""
    command = [program, "--benchmark_format=json", f"--benchmark_filter={pattern}", f"--benchmark_min_time={seconds}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if done.returncode != 0 or not done.stdout.strip():
        sys.exit(f"{program} failed, or no benchmark matches {pattern!r}")
    return {entry["name"]: entry["cpu_time"] for entry in json.loads(done.stdout)["benchmarks"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", help="pqkv_bench of the build to compare with")
    parser.add_argument("b", help="pqkv_bench of the build that is compared")
    parser.add_argument("--filter", default=".", help="regular expression on benchmark names")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--min-time", default="0.05", help="seconds per benchmark and round")
    arguments = parser.parse_args()

    times = []
    for turn in range(arguments.rounds):
        # Who begins changes from round to round, so that neither always runs on the warmer machine.
        order = ("a", "b") if turn % 2 == 0 else ("b", "a")
        results = {which: run(getattr(arguments, which), arguments.filter, arguments.min_time) for which in order}
        times.append(results)
        print(f"round {turn + 1} of {arguments.rounds}", file=sys.stderr)

    names = [name for name in times[0]["a"] if name in times[0]["b"]]
    width = max((len(name) for name in names), default=9)
    print(f"{'benchmark':{width}}  {'A ns':>12}  {'B ns':>12}  {'B faster by':>12}  least..most")
    for name in names:
        a = [results["a"][name] for results in times]
        b = [results["b"][name] for results in times]
        ratios = [x / y for x, y in zip(a, b)]
        print(f"{name:{width}}  {statistics.median(a):12.1f}  {statistics.median(b):12.1f}  "
              f"{statistics.median(ratios):12.3f}  {min(ratios):.3f}..{max(ratios):.3f}")
    for which, other in (("a", "b"), ("b", "a")):
        missing = [name for name in times[0][which] if name not in times[0][other]]
        if missing:
            print(f"only in {which.upper()}: {', '.join(missing)}")


if __name__ == "__main__":
    main()
