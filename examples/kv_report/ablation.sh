#!/usr/bin/env bash
# bash examples/kv_report/ablation.sh FOLDER: what each idea in front of product codes does on its own and with the others,
# on the calibration_* and evaluation_* texts of a folder (queries, keys, values of a model with RoPE base 10,000 and
# neighbouring pairs). Writes build/ablation.{txt,json,html}. Expects what examples/run.sh installs.
set -euo pipefail
if [ $# -ne 1 ]; then
  echo "usage: bash examples/kv_report/ablation.sh FOLDER" >&2
  exit 2
fi
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
program=build/examples/examples/kv_report/kv_report
cmake -S . -B build/examples -G Ninja -DCMAKE_BUILD_TYPE=Release -DPQKV_BUILD_TESTS=OFF -DPQKV_BUILD_BENCH=OFF >/dev/null
cmake --build build/examples --target kv_report

arguments=(--rope-theta 10000)
for keys in "$folder"/*_keys.npy; do
  text=${keys%_keys.npy}
  case $(basename "$text") in
    calibration_*) kind=calibration- ;;
    evaluation_*) kind= ;;
    *) continue ;;
  esac
  arguments+=(--${kind}queries "${text}_queries.npy" --${kind}keys "$keys" --${kind}values "${text}_values.npy")
done

# Keys at half a bit and a bit per element, nothing kept exact.
for m in 4 8; do
  for fitted in "" :importance=1 :metric=1 :rotate=opq :run=64 :run=64:centre=1 :run=64:centre=1:rotate=deal \
    :run=64:centre=1:rotate=hadamard :run=64:centre=1:rotate=balance :run=64:centre=1:metric=1 \
    :run=64:centre=1:metric=1:rotate=deal :run=64:centre=1:metric=1:rotate=auto :run=64:centre=1:metric=1:rotate=opq \
    :run=64:centre=1:metric=1:rotate=opq:importance=1 :fit=64 :fit=16 :fit=256 :fit=1024; do
    arguments+=(--policy "k=pq8:m=$m$fitted,v=exact:f16,window=f16")
  done
done
# Fidelity grows with the number of subspaces.
for m in 2 16 32; do arguments+=(--policy "k=pq8:m=$m:fit=64,v=exact:f16,window=f16"); done
for m in 2 4 8 32; do arguments+=(--policy "k=pq4:m=$m:fit=64,v=exact:f16,window=f16"); done
# Values at a bit per element; their metric needs the output projection, which is not in these files.
for fitted in "" :centre=1 :rotate=balance :rotate=opq :centre=1:rotate=opq :importance=1 :fit=1:metric=0; do
  arguments+=(--policy "k=exact:f16,v=pq8:m=8$fitted,window=f16")
done
# Formats at a bit per element.
for format in pq4:m=16 pq6:m=8 pq4:m=8:stages=2 pq8:m=8 pq8:m=4:stages=2; do
  arguments+=(--policy "k=$format:fit=64,v=exact:f16,window=f16")
done
for format in pq8:m=4:stages=2 pq8:m=4:stages=2:fit=1:metric=0; do
  arguments+=(--policy "k=exact:f16,v=$format,window=f16")
done
# The scalar formats of the field, keys alone and values alone.
for format in kivi4 kivi2 q4_0 turbo4 turbo3 turbo2 nuq4 nuq2 nuq2:outliers=0; do
  arguments+=(--policy "k=$format,v=exact:f16,window=f16")
done
for format in int4:g=32 int2:g=32 int2:g=32:fine=2 q4_0 turbo4 turbo2 nuq4 nuq2; do
  arguments+=(--policy "k=exact:f16,v=$format,window=f16")
done
# They in runs and centred, and integers whose scales are sought for the least error.
for format in kivi2:run=64 kivi4:run=64:centre=1 kivi2:run=64:centre=1 kivi2:search=1 kivi2:search=1:run=64:centre=1 \
  q4_0:run=64:centre=1 turbo4:run=64:centre=1 turbo3:run=64:centre=1 turbo2:run=64:centre=1 nuq2:run=64:centre=1; do
  arguments+=(--policy "k=$format,v=exact:f16,window=f16")
done
for format in int4:g=32:search=1 int2:g=32:centre=1 int2:g=32:search=1 int2:g=32:search=1:centre=1 \
  int2:g=64:search=1:centre=1 q4_0:centre=1 turbo2:centre=1; do
  arguments+=(--policy "k=exact:f16,v=$format,window=f16")
done
# Heavy tokens finer: which they are is known from queries that come while tokens wait in the recent window.
for format in turbo2 turbo2:heavy=2 turbo2:heavy=4 turbo2:heavy=8 turbo3 turbo3:heavy=4 turbo4 int2:g=64:search=1 \
  int2:g=64:search=1:heavy=4 int2:search=1 int2:g=16:search=1 pq8:m=8:fit=1:metric=0 pq8:m=8:fit=1:metric=0:heavy=4 \
  pq8:m=16:fit=1:metric=0; do
  arguments+=(--policy "k=exact:f16,v=$format,sinks=4,recent=32,window=f16")
done
for recent in "" ,sinks=4,recent=16 ,sinks=4,recent=64; do
  for format in turbo2 turbo2:heavy=4 turbo3; do arguments+=(--policy "k=exact:f16,v=$format$recent,window=f16"); done
done
$program "${arguments[@]}" --json build/ablation.json --html build/ablation.html | tee build/ablation.txt
