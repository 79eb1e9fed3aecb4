#!/usr/bin/env bash
# Builds and runs the whole test suite. Installs what is missing with apt-get (as root). Arguments go to ctest.
set -euo pipefail
cd "$(dirname "$0")/.."
. cmake/debian_packages.sh
install_missing cmake g++ ninja-build libeigen3-dev libfmt-dev catch2 libbenchmark-dev zlib1g-dev
echo "building and running all tests on $(nproc) cores: 15 to 20 minutes on two slow ones the first time"
cmake -S . -B build/tests -G Ninja -DCMAKE_BUILD_TYPE= -DCMAKE_CXX_FLAGS=-O2
cmake --build build/tests
ctest --test-dir build/tests --output-on-failure -j "$(nproc)" "$@"
