#!/usr/bin/env bash
# Builds and runs the whole test suite. Installs what is missing with apt-get (as root). Arguments go to ctest.
set -euo pipefail
cd "$(dirname "$0")/.."
missing=()
for package in cmake g++ ninja-build libeigen3-dev libfmt-dev catch2 libbenchmark-dev zlib1g-dev; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing with apt-get: ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
cmake -S . -B build/tests -G Ninja -DCMAKE_BUILD_TYPE= -DCMAKE_CXX_FLAGS=-O2
cmake --build build/tests
ctest --test-dir build/tests --output-on-failure "$@"
