#!/usr/bin/env bash
# Do two programs compress to the same weights? Runs 24 commands over methods, types and families, each with 1
# and with 3 threads, and prints one hash of all planes of each output. The manifest is left out: it may
# say more than it did, and the hash stays.
#
# Usage: bench/same_bytes.sh PITH [PITH2|TABLE]
#   TABLE   what this script printed for another program
#   ROWS=REGEX   only rows whose name matches       BUILD=build/release   where bin/tiny_checkpoint is (a target of its own)
# Exits with 1 where something differs or fails. Rows whose model is not on this machine are skipped.
set -euo pipefail

(($# == 1 || $# == 2)) || { sed -n '2,9s/^# \?//p' "$0" >&2; exit 2; }
pith=$(realpath "$1")
other=$(realpath "${2:-/dev/null}")
cd "$(dirname "$0")/.."
tiny=${BUILD:-build/release}/bin/tiny_checkpoint
data=../shared/data
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# name | model | arguments of `pith quantize MODEL OUT`
rows='
w4-minmax        | stories   | w4 --method minmax
w4-sym           | stories   | w4 -g 32 --sym --method rtn
w6-two-level     | stories   | w6 --two-level-scales --method rtn
w3-weighted      | stories   | w3 --method rtn CALIB
w8-gptq          | stories   | w8 --method gptq CALIB
w4-gptq          | stories   | w4 --method gptq CALIB
w3-gptq-plain    | stories   | int3-g32-asym-bf16 --method gptq CALIB --no-order --no-search --no-sequential --no-propagate --correct-inputs 0
w2-gptq-types    | stories   | w2 --method gptq CALIB --tensor-type down=w5 --ignore layers.0.attention.o --embedding-type int4-g64-asym
w4-gptq-self     | stories   | w4 --method gptq --calib self --nsamples 8 --seqlen 128 --seed 7
w4-awq-gptq      | stories   | w4 --method awq+gptq CALIB
w8a8-smooth      | stories   | w8a8 --method smoothquant CALIB
w8a8-rotate      | stories   | w8a8 --rotate --method smoothquant+gptq CALIB
nf4-gptq         | stories   | nf4 --method gptq CALIB
mxfp4            | stories   | mxfp4 --method rtn
fp8-static       | stories   | fp8_dynamic --static-inputs --method rtn CALIB
fp8-block-gptq   | stories   | fp8_block --method gptq CALIB --memory 1M
target-size      | stories   | --method gptq --target-size 500000 CALIB
w4a8-llama2c     | llama2c   | w4a8 -g 32 --method gptq CALIB
w4-mixtral       | mixtral   | w4 -g 16 --method gptq SELF
w4-gpt-oss       | gpt_oss   | w4 -g 16 --method gptq SELF --max-fallbacks 99
w3-deepseek      | deepseek_v3 | w3 -g 16 --method gptq SELF --max-fallbacks 99
w4-gemma         | gemma2    | w4 -g 16 --method awq SELF
w4-gguf          | gguf      | w4 --method minmax
w5-gguf          | gguf      | w5 --method rtn
'

# Where a model is; nothing where it is not on this machine.
model_path() {
  case $1 in
    stories) ls -d "$data/tinystories-656K/bf16" ;;
    llama2c) ls "$data/stories260K/stories260K.bin" ;;
    gguf) ls "${XDG_CACHE_HOME:-$HOME/.cache}/pith/SmolLM2-135M-Instruct.Q4_1.gguf" ;;
    *)
      [[ -e $work/$1 ]] || "$tiny" "tests/golden/arch/$1/config.json" "$work/$1"
      echo "$work/$1"
      ;;
  esac
}

# One line for each linear and vector of a packed file: its name, and size and XXH3 of its planes.
planes() {
  tail -c +$(($(od -An -tu8 -j24 -N8 "$1") + 1)) "$1" |
    protoc --decode=pith.proto.Manifest -I formats formats/pith.proto |
    awk '/^(linears|vectors) \{/ { inside = 1 }
         inside && $1 ~ /^(name|bytes|xxh3):$/ { record = record " " $2 }
         /^\}/ { if (inside) print record; inside = 0; record = "" }' | LC_ALL=C sort
}

# hash_of PITH MODEL ARGUMENTS: of all planes; "failed" where the command fails, "threads" where their number matters.
hash_of() {
  local program=$1 model=$2 threads hash='' now
  shift 2
  for threads in 1 3; do
    rm -rf "$work"/out.pith*
    "$program" quantize "$model" "$work/out.pith" "$@" -t $threads -q >"$work/log" 2>&1 ||
      { cat "$work/log" >&2; echo failed; return; }
    now=$(planes "$work/out.pith" | sha256sum | cut -c 1-16)
    [[ -z $hash || $hash == "$now" ]] || { echo threads; return; }
    hash=$now
  done
  echo "$hash"
}

status=0
while IFS='|' read -r name model arguments; do
  [[ -n $name ]] || continue
  name=${name// /} model=${model// /}
  [[ $name =~ ${ROWS:-.} ]] || continue
  path=$(model_path "$model" 2>/dev/null) || { printf '%-16s skipped: no %s\n' "$name" "$model"; continue; }
  words=${arguments/CALIB/--calib $data/text/TinyStories-valid-30k.txt --nsamples 16 --seqlen 256}
  words=${words/SELF/--calib self --nsamples 16 --seqlen 48}
  read -ra words <<<"$words"
  hash=$(hash_of "$pith" "$path" "${words[@]}")
  before=$hash
  if [[ -f $other && -x $other ]]; then
    before=$(hash_of "$other" "$path" "${words[@]}")
  elif [[ -f $other ]]; then
    before=$(awk -v name="$name" '$1 == name { print $2 }' "$other")
  fi
  verdict=
  if [[ $hash != "$before" ]]; then verdict="differs from $before"; fi
  if [[ -n $verdict || $hash == failed || $hash == threads ]]; then status=1; fi
  printf '%-16s %-16s  %s\n' "$name" "$hash" "${verdict:-${arguments# }}"
done <<<"$rows"
exit $status
