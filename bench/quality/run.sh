#!/usr/bin/env bash
# What each method costs a model: quantizes it once for every row of rows.txt and measures all results
# against the original in one pass per text.
#
# Usage: bench/quality/run.sh BUILD_DIR MODEL CALIBRATION_TEXT OUT_DIR PROTOCOL WINDOWS TEXT...
#   ROWS=REGEX    only rows whose name matches     NSAMPLES, SEQLEN    calibration windows
#   MODELS="NAME=FILE ..."    other files to measure beside (a peer's GGUF, an HF folder)
# Writes OUT_DIR/quality.json and prints the table. The calibration text must not be among the TEXTs.
set -euo pipefail

(($# >= 7)) || { sed -n '2,9s/^# \?//p' "$0" >&2; exit 2; }
pith=$1/pith model=$2 calibration=$3 out=$4 protocol=$5 windows=$6
shift 6
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"

names=() files=()
while IFS='|' read -r name arguments; do
  [[ -z $name || $name == '#'* ]] && continue
  name=${name%% *}
  [[ $name =~ ${ROWS:-.} ]] || continue
  file=$out/$name.pith
  read -ra words <<<"$arguments"
  if [[ " ${words[*]} " == *" CALIB "* ]]; then
    words=("${words[@]/CALIB/}")
    words+=(--calib "$calibration" --nsamples "${NSAMPLES:-64}" --seqlen "${SEQLEN:-1024}")
  fi
  if [[ ! -e $file ]]; then
    echo "$name: ${words[*]}" >&2
    # shellcheck disable=SC2086  # empty words vanish
    "$pith" quantize "$model" "$file" ${words[*]} -q --json "$out/$name.json" >"$out/$name.log" 2>&1 ||
      { tail -1 "$out/$name.log" >&2; continue; }
  fi
  names+=("$name") files+=("$file")
done <"$here/rows.txt"
for pair in ${MODELS:-}; do
  names+=("${pair%%=*}") files+=("${pair#*=}")
done

evaluations=()
for text in "$@"; do
  result=$out/eval-$(basename "$text").json
  "$pith" eval kl "${files[@]}" --base "$model" --text "$text" \
    --protocol "$protocol" --max-windows "$windows" --exact-inputs -q --json "$result" >/dev/null
  evaluations+=("$result")
done
python3 "$here/table.py" "$out" "$(IFS=,; echo "${names[*]}")" "$(IFS=,; echo "${files[*]}")" "${evaluations[@]}"
