#!/usr/bin/env bash
# bash examples/kv_report/ablation.sh KV_FOLDER [MODEL_FOLDER]: what each idea does on its own and with the others. Judged on
# the calibration_* and evaluation_* texts of a folder (queries, keys, values of a model with RoPE base 10,000 and neighbouring
# pairs), and where a folder with the model is given (*.gguf, tokens_calibration.npy, tokens_evaluation.npy) by its next-token
# divergence. Writes build/ablation.{md,csv,html}, the README's table and more. Expects what examples/run.sh installs.
set -euo pipefail
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: bash examples/kv_report/ablation.sh KV_FOLDER [MODEL_FOLDER]" >&2
  exit 2
fi
folder=$(cd "$1" && pwd)
model=${2:+$(cd "$2" && pwd)}
cd "$(dirname "$0")/../.."
programs=build/examples/examples
cmake -S . -B build/examples -G Ninja -DCMAKE_BUILD_TYPE=Release -DPQKV_BUILD_TESTS=OFF -DPQKV_BUILD_BENCH=OFF >/dev/null
cmake --build build/examples --target kv_report ${model:+tiny_llm}

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

# Rows of the table: formats of one side, the other side exact, nothing else kept exact. An empty `divergence` leaves out the
# model, which trains codebooks on sixteen times as many tokens: half a bit would repeat what a bit shows.
policies=() caches=() divergence=1
row() {
  policies+=(--policy "$1")
  [ -z "$divergence" ] || caches+=(--cache "$1")
}
keys() { for format in "$@"; do row "k=$format,v=exact:f16,window=f16"; done; }
values() { for format in "$@"; do row "k=exact:f16,v=$format,window=f16"; done; }

for m in 4 8; do
  keys pq8:m=$m
  [ $m = 8 ] || divergence=
  for fitted in importance=1 metric=1 rotate=opq run=64 run=64:centre=1 run=64:centre=1:rotate=deal \
    run=64:centre=1:rotate=hadamard run=64:centre=1:rotate=balance run=64:centre=1:metric=1 \
    run=64:centre=1:metric=1:rotate=deal run=64:centre=1:metric=1:rotate=auto run=64:centre=1:metric=1:rotate=opq \
    run=64:centre=1:metric=1:rotate=opq:importance=1; do
    keys pq8:m=$m:$fitted
  done
  divergence=1
  for run in 64 16 256 1024; do keys pq8:m=$m:fit=$run; done
done
# Fidelity grows with the number of subspaces.
for m in 2 16 32; do keys pq8:m=$m:fit=64; done
for m in 2 4 8 16 32; do keys pq4:m=$m:fit=64; done
# Formats at a bit per element.
keys pq6:m=8:fit=64 pq4:m=8:stages=2:fit=64 pq8:m=4:stages=2:fit=64
# Values at a bit per element; their metric needs the output projection, which is not in these files.
for fitted in "" :centre=1 :rotate=balance :rotate=opq :centre=1:rotate=opq :importance=1 :fit=1:metric=0; do
  values "pq8:m=8$fitted"
done
values pq8:m=4:stages=2 pq8:m=4:stages=2:fit=1:metric=0
# Lengths apart, for an eighth of a bit at dim 64; and the next finer formats, to compare at equal bits.
keys pq8:m=8:gain=1 pq8:m=16 pq8:m=8:fit=64:gain=1 pq4:m=16:fit=64:gain=1 pq8:m=4:stages=2:fit=64:gain=1 \
  pq8:m=8:stages=2:fit=64
values pq8:m=8:fit=1:metric=0:gain=1 pq8:m=16:fit=1:metric=0 pq4:m=16:fit=1:metric=0 pq4:m=16:fit=1:metric=0:gain=1 \
  pq4:m=32:fit=1:metric=0 pq8:m=4:stages=2:fit=1:metric=0:gain=1 pq8:m=8:stages=2:fit=1:metric=0
# The scalar formats of the field, keys alone and values alone.
keys kivi4 kivi2 q4_0 turbo4 turbo3 turbo2 nuq4 nuq2 nuq2:outliers=0
values int4:g=32 int2:g=32 int2:g=32:fine=2 q4_0 turbo4 turbo2 nuq4 nuq2
# They in runs and centred, and integers whose scales are sought for the least error.
keys kivi2:run=64 kivi4:run=64:centre=1 kivi2:run=64:centre=1 kivi2:search=1 kivi2:search=1:run=64:centre=1 \
  q4_0:run=64:centre=1 turbo4:run=64:centre=1 turbo3:run=64:centre=1 turbo2:run=64:centre=1 nuq2:run=64:centre=1
values int4:g=32:search=1 int2:g=32:centre=1 int2:g=32:search=1 int2:g=32:search=1:centre=1 int2:g=64:search=1:centre=1 \
  q4_0:centre=1 turbo2:centre=1

# Heavy tokens finer: which they are is known from queries that come while tokens wait in the recent window.
kept() { for format in "$@"; do row "k=exact:f16,v=$format,sinks=4,recent=$recent,window=f16"; done; }
recent=32
kept turbo2 turbo2:heavy=2 turbo2:heavy=4 turbo2:heavy=8 turbo3 turbo3:heavy=4 turbo4 int2:g=64:search=1 \
  int2:g=64:search=1:heavy=4 int2:search=1 int2:g=16:search=1 pq8:m=8:fit=1:metric=0 pq8:m=8:fit=1:metric=0:heavy=4 \
  pq8:m=16:fit=1:metric=0
divergence=
values turbo2:heavy=4 turbo3
for recent in 16 64; do kept turbo2 turbo2:heavy=4 turbo3; done

$programs/kv_report/kv_report "${arguments[@]}" "${policies[@]}" --csv build/ablation.csv --html build/ablation.html
if [ -n "$model" ]; then
  weights=("$model"/*.gguf)
  $programs/tiny_llm/tiny_llm perplexity --model "${weights[0]}" --calibration "$model/tokens_calibration.npy" \
    --tokens "$model/tokens_evaluation.npy" --chunks 4 --from 256 --code-waiting 1 "${caches[@]}" --json build/ablation_model.json
fi
awk -v judged="${model:+build/ablation_model.json}" '
  BEGIN {
    while (judged != "" && (getline line < judged) > 0) {
      if (split(line, part, "\"") < 5) continue
      sub(/.*"kld_mean": /, "", line)
      divergence[part[4]] = line + 0
    }
    FS = "\""
    print "| policy | bits | cosine | worst head | KL | logit r, worst head | output error | KLD |"
    print "|---|---|---|---|---|---|---|---|"
  }
  NR > 1 {
    split($3, x, ",")  # after key_bits, value_bits and codebook_bytes: means and worst heads
    keys = $2 ~ /v=exact/
    split($2, side, ",")
    kept = $2
    gsub(/^k=[^,]*,v=[^,]*|,window=f16$/, "", kept)
    scores = keys ? sprintf("%.3f | %.3f", x[7], x[9]) : "– | –"
    last = $2 in divergence ? sprintf("%#.3g", divergence[$2]) : "–"
    printf "| `%s` | %.2f | %.4f | %.3f | %s | %.3f | %s |\n", side[keys ? 1 : 2] kept, x[keys ? 2 : 3], x[5], x[6], scores, x[12], last
  }' build/ablation.csv >build/ablation.md
cat build/ablation.md
