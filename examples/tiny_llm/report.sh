#!/usr/bin/env bash
# bash examples/tiny_llm/report.sh MODEL_DIR [arguments of perplexity]: builds tiny_llm in release and measures every
# format family on the model in that folder at its full context, then decoding speed behind long histories. Writes
# build/tiny_llm/{perplexity,lookat,speed}.{json,txt} and plots. Installs what is missing with apt-get (as root).
set -euo pipefail
if [ $# -lt 1 ]; then
  echo "usage: bash examples/tiny_llm/report.sh MODEL_DIR [arguments of tiny_llm perplexity]" >&2
  exit 2
fi
folder=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/../.."
missing=()
for package in cmake g++ ninja-build libeigen3-dev libfmt-dev; do
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

windows=sinks=4,recent=32,window=f16
better=run=128:centre=1:metric=1:rotate=opq
specs=(
  k=exact:f32,v=exact:f32
  k=exact:f16,v=exact:f16
  k=exact:f16,v=int8:g=32,$windows
  k=exact:f16,v=int4:g=32,$windows
  k=exact:f16,v=int2:g=32,$windows
  # plain LOOKAT: keys only, nothing kept exact but what waits for its block; then with sinks and recent tokens
  k=pq8:m=dim/32,v=exact:f16
  k=pq8:m=dim/16,v=exact:f16
  k=pq8:m=dim/8,v=exact:f16
  k=pq8:m=dim/4,v=exact:f16
  k=pq8:m=dim/32,v=exact:f16,$windows
  k=pq8:m=dim/16,v=exact:f16,$windows
  k=pq8:m=dim/8,v=exact:f16,$windows
  k=pq8:m=dim/4,v=exact:f16,$windows
  k=pq4:m=dim/4,v=exact:f16,$windows
  k=pq4:m=dim/2,v=exact:f16,$windows
  k=pq4:m=dim/2,v=int4:g=32,$windows
  k=pq4:m=dim/4,v=int2:g=32,$windows
  k=pq4:m=dim/2,v=pq4:m=dim/2,$windows
  k=pq4:m=dim/4,v=pq4:m=dim/4,$windows
  k=pq8:m=dim/4,v=pq8:m=dim/4,$windows
  k=pq8:m=dim/8,v=pq8:m=dim/8,$windows
  # keys turned to their run's origin, centred, in the queries' metric, rotated; values likewise
  k=pq8:m=dim/8:$better,v=exact:f16,$windows
  k=pq8:m=dim/4:$better,v=int4:g=32,$windows
  k=pq4:m=dim/2:$better,v=pq4:m=dim/2:centre=1:metric=1:rotate=opq,$windows
  k=pq8:m=dim/4:$better,v=pq8:m=dim/4:centre=1:metric=1:rotate=opq,$windows
  k=pq8:m=dim/8:$better,v=pq8:m=dim/8:centre=1:metric=1:rotate=opq,$windows
)
arguments=()
for spec in "${specs[@]}"; do arguments+=(--cache "$spec"); done
$program perplexity --model "${model[0]}" --tokens "$folder/tokens_evaluation.npy" \
  --calibration "$folder/tokens_calibration.npy" "${arguments[@]}" --json $out/perplexity.json --svg $out/perplexity.svg \
  "$@" | tee $out/perplexity.txt

# Plain LOOKAT to the letter: the newest tokens are not exact for a while either.
arguments=()
for m in 32 16 8 4; do arguments+=(--cache k=pq8:m=dim/$m,v=exact:f16); done
$program perplexity --model "${model[0]}" --tokens "$folder/tokens_evaluation.npy" \
  --calibration "$folder/tokens_calibration.npy" "${arguments[@]}" --code-waiting 1 --json $out/lookat.json "$@" |
  tee $out/lookat.txt

$program speed --model "${model[0]}" --tokens "$folder/tokens_calibration.npy" --fake-history 1024,4096,16384,65536,262144 \
  --cache k=exact:f16,v=exact:f16,$windows --cache k=exact:f16,v=int4:g=32,$windows \
  --cache k=pq8:m=dim/8,v=exact:f16,$windows --cache k=pq4:m=dim/4,v=int4:g=32,$windows \
  --cache k=pq4:m=dim/4,v=pq4:m=dim/4,$windows --json $out/speed.json --svg $out/speed.svg | tee $out/speed.txt
