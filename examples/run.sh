#!/usr/bin/env bash
# The main job: builds kv_report in release and runs it on the sample data. Further arguments go to kv_report.
# Installs what is missing with apt-get (as root).
set -euo pipefail
cd "$(dirname "$0")/.."
. cmake/debian_packages.sh
install_missing cmake g++ ninja-build libeigen3-dev libfmt-dev
echo "building kv_report and running it on examples/data: about 2 minutes on two slow cores the first time"
cmake -S . -B build/examples -G Ninja -DCMAKE_BUILD_TYPE=Release -DPQKV_BUILD_TESTS=OFF -DPQKV_BUILD_BENCH=OFF
cmake --build build/examples --target kv_report
data=examples/data
texts=()
for text in calibration calibration2; do
  texts+=(--calibration-queries $data/${text}_queries.npy
          --calibration-keys $data/${text}_keys.npy --calibration-values $data/${text}_values.npy)
done
build/examples/examples/kv_report/kv_report \
  --queries $data/evaluation_queries.npy --keys $data/evaluation_keys.npy --values $data/evaluation_values.npy \
  "${texts[@]}" --rope-theta 10000 \
  --json build/kv_report.json --csv build/kv_report.csv --html build/kv_report.html "$@"
