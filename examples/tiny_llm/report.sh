#!/usr/bin/env bash
# bash examples/tiny_llm/report.sh MODEL_DIR [CHUNKS]: builds tiny_llm in release and measures every format family on the
# model in that folder at its full context (perplexity over CHUNKS contexts of the evaluation text, 12 by default), what can be
# retrieved, and decoding speed behind long histories. Writes build/tiny_llm/{perplexity,retrieve,speed}.* with tables as
# README.md has them, and plots. Installs what is missing with apt-get (as root).
set -euo pipefail
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: bash examples/tiny_llm/report.sh MODEL_DIR [CHUNKS]" >&2
  exit 2
fi
folder=$(cd "$1" && pwd)
chunks=${2:-12}
cd "$(dirname "$0")/../.."
missing=()
for package in cmake g++ ninja-build libeigen3-dev libfmt-dev zlib1g-dev; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing with apt-get: ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
cmake -S . -B build/examples -G Ninja -DCMAKE_BUILD_TYPE=Release -DPQKV_BUILD_TESTS=OFF -DPQKV_BUILD_BENCH=OFF
cmake --build build/examples --target tiny_llm
program=build/examples/examples/tiny_llm/tiny_llm
out=build/tiny_llm
mkdir -p $out
model=("$folder"/*.gguf)

common=(--model "${model[0]}" --calibration "$folder/tokens_calibration.npy")

windows=sinks=4,recent=32,window=f16
# Keys turned back to the origin of their run, centred, in the queries' metric, rotated, trained by importance; values
# likewise, but without runs; sums of two centroids per subspace; lengths of rows apart.
best() { echo "k=pq8:m=dim/$1:stages=2:fit=64:gain=1,v=pq8:m=dim/$2:stages=2:fit=1:gain=1,sinks=4,recent=$3,window=f16"; }
specs=(
  k=exact:f16,v=exact:f16,window=f16
  k=exact:f16,v=int8:g=32,$windows
  k=exact:f16,v=int4:g=32,$windows
  k=exact:f16,v=int2:g=32,$windows
  # the scalar formats of the field: KIVI, ggml, TurboQuant, KVQuant
  k=kivi4,v=int4:g=32,$windows
  k=kivi2,v=int2:g=32,$windows
  k=q8_0,v=q8_0,$windows
  k=q4_0,v=q4_0,$windows
  k=turbo4,v=turbo4,$windows
  k=turbo2,v=turbo2,$windows
  k=nuq3:run=64:importance=1,v=nuq3:importance=1,$windows
  k=nuq2:run=64:importance=1,v=nuq2:importance=1,$windows
  # they centred, keys in runs, integers by the scales of least error
  k=kivi2:search=1:run=64:centre=1,v=int2:g=32:search=1:centre=1,$windows
  k=q4_0:run=256:centre=1,v=q4_0:centre=1,$windows
  k=turbo2:run=256:centre=1,v=turbo2:centre=1,$windows
  k=turbo2:run=256:centre=1,v=int2:g=64:search=1:centre=1,$windows
  k=turbo3:run=256:centre=1,v=turbo3:centre=1,$windows
  k=nuq2:run=64:centre=1:importance=1,v=nuq2:centre=1:importance=1,$windows
  # LOOKAT: keys only, nothing kept exact; then with sinks and recent tokens
  k=pq8:m=dim/32,v=exact:f16,window=f16
  k=pq8:m=dim/16,v=exact:f16,window=f16
  k=pq8:m=dim/8,v=exact:f16,window=f16
  k=pq8:m=dim/4,v=exact:f16,window=f16
  k=pq8:m=dim/32,v=exact:f16,$windows
  k=pq8:m=dim/16,v=exact:f16,$windows
  k=pq8:m=dim/8,v=exact:f16,$windows
  k=pq8:m=dim/4,v=exact:f16,$windows
  # plain product quantisation of both sides
  k=pq4:m=dim/4,v=exact:f16,$windows
  k=pq4:m=dim/2,v=int4:g=32,$windows
  k=pq4:m=dim/4,v=pq4:m=dim/4,$windows
  k=pq8:m=dim/8,v=pq8:m=dim/8,$windows
  k=pq8:m=dim/4,v=pq8:m=dim/4,$windows
  # fitted: the keys of a LOOKAT row in one stage and two, 4-bit codes, and about 1, 2, 3 and 4 bits all told
  k=pq8:m=dim/8:fit=64,v=exact:f16,$windows
  k=pq8:m=dim/16:stages=2:fit=64,v=exact:f16,$windows
  k=pq4:m=dim/2:fit=64,v=int4:g=32,$windows
  k=pq4:m=dim/4:fit=64,v=pq4:m=dim/4:fit=1,$windows
  # lengths apart: the row before, and of the rows of two stages one without
  k=pq4:m=dim/4:fit=64:gain=1,v=pq4:m=dim/4:fit=1:gain=1,$windows
  k=pq8:m=dim/8:stages=2:fit=64,v=pq8:m=dim/8:stages=2:fit=1,$windows
  "$(best 32 32 32)"
  "$(best 8 16 32)"
  "$(best 8 8 64)"
  "$(best 4 8 64)"
)
# The same bits, given to each side of each head by the divergence that it causes there (on calibration text).
ladder=()
for parts in 64 32 16 8 4; do ladder+=(--cache "$(best $parts $parts 32)"); done
$program allocate --model "${model[0]}" --calibration "$folder/tokens_calibration.npy" --bits 1.04,1.53,2.01,3 --code-waiting 1 \
  "${ladder[@]}" -o $out/allocated.txt | tee $out/allocate.txt
mapfile -t allocated < $out/allocated.txt
specs+=("${allocated[@]}")
arguments=()
for spec in "${specs[@]}"; do arguments+=(--cache "$spec"); done
# --code-waiting: nothing but sinks and recent tokens is exact, so that bits count everything that a query can read.
$program perplexity "${common[@]}" --tokens "$folder/tokens_evaluation.npy" "${arguments[@]}" --chunks "$chunks" \
  --code-waiting 1 --json $out/perplexity.json --markdown $out/perplexity.md --svg $out/perplexity.svg | tee $out/perplexity.txt

$program retrieve "${common[@]}" --tokens "$folder/tokens_evaluation.npy" --code-waiting 1 --cache "${specs[0]}" \
  --cache k=pq8:m=dim/8,v=exact:f16,window=f16 --cache "$(best 32 32 32)" --cache "$(best 8 16 32)" \
  --cache "$(best 8 8 64)" --markdown $out/retrieve.md | tee $out/retrieve.txt

$program speed --model "${model[0]}" --tokens "$folder/tokens_calibration.npy" --fake-history 1024,4096,16384,65536,262144 \
  --cache k=exact:f16,v=exact:f16,window=f16 --cache k=exact:f16,v=int4:g=32,recent=32,window=f16 \
  --cache k=pq8:m=dim/8,v=exact:f16,recent=32,window=f16 --cache k=pq4:m=dim/4,v=int4:g=32,recent=32,window=f16 \
  --cache k=pq4:m=dim/4,v=pq4:m=dim/4,recent=32,window=f16 \
  --cache "k=pq4:m=dim/4:fit=128,v=int4:g=32,recent=32,window=f16" \
  --cache "k=pq8:m=dim/8:fit=256,v=int4:g=32,recent=32,window=f16" \
  --json $out/speed.json --markdown $out/speed.md --svg $out/speed.svg | tee $out/speed.txt
