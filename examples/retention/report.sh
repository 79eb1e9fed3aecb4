#!/usr/bin/env bash
# The tables of README.md: report.sh FOLDER judges the evaluation texts of a folder of .npy rows, with everything that is
# calibrated taken from its calibration texts. Without a folder: the sample data. Needs a build with the release preset.
set -euo pipefail
cd "$(dirname "$0")/../.."
program=build/release/examples/retention/retention
if [ $# -eq 0 ]; then
  exec $program --evaluation examples/data/evaluation --calibration examples/data/calibration --new 32 --window 8
fi
arguments=()
for keys in "$1"/evaluation*_keys.npy; do arguments+=(--evaluation "${keys%_keys.npy}"); done
for keys in "$1"/calibration*_keys.npy; do arguments+=(--calibration "${keys%_keys.npy}"); done
exec $program "${arguments[@]}" "${@:2}"
