#!/usr/bin/env bash
# Sets the machine up, builds pith, compresses a real model, and compares the files: how large, how good and
# how fast is each, and what did calibration gain over plain rounding?
# Usage: tools/demo.sh [--model PATH] [--text FILE] [--types "w8 w4 ..."] [--windows N]
#   --model PATH   a Hugging Face folder or a GGUF file (SmolLM2-135M-Instruct)
#   --text FILE    English text to evaluate on (the Debian FAQ)
#   --types LIST   sizes to make, as `pith quantize --help` names them (w8 w6 w4)
#   --windows N    how many windows of 512 tokens of the text count (4)
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/common.sh
source tools/common.sh

model=
text=
types=(w8 w6 w4)
windows=4
usage() { sed -n '2,9s/^# //p' "$0"; exit "$1"; }
while (($#)); do
  [[ $1 != --help ]] || usage 0
  (($# > 1)) || usage 2
  case $1 in
    --model) model=$(realpath "$2") ;;
    --text) text=$(realpath "$2") ;;
    --types) read -r -a types <<<"$2" ;;
    --windows) windows=$2 ;;
    *) usage 2 ;;
  esac
  shift 2
done

out=build/demo
pith=build/release/pith
mkdir -p "$out"

# Text that the model was hardly trained on by heart, from a Debian package. The package is
# unpacked here, not installed: minimal systems leave documentation out when they install.
get_text() {
  text=$cache/debian-faq.en.txt
  [[ -s $text ]] && return
  local folder=$cache/download root=()
  [[ $(id -u) == 0 ]] || root=(sudo)
  rm -rf "$folder"
  mkdir -p "$folder"
  (cd "$folder" && { apt-get download -q debian-faq ||
    { "${root[@]}" apt-get update -q && apt-get download -q debian-faq; }; }) >"$folder/log" 2>&1 ||
    { cat "$folder/log" >&2; return 1; }
  dpkg-deb -x "$folder"/debian-faq_*.deb "$folder"
  gunzip -c "$folder/usr/share/doc/debian/FAQ/debian-faq.en.txt.gz" >"$text.new"
  mv "$text.new" "$text"
  rm -rf "$folder"
}

# The base has 16 bits. Of SmolLM2 a 4-bit file is what can be fetched without an account; decoded, its numbers are
# those of the file, so figures here are for each other. bench/quality has the ones that are published.
get_inputs() {
  [[ -n $text ]] || get_text
  if [[ -z $model ]]; then
    get_smollm2
    model=$out/base-f16.pith
    echo "SmolLM2-135M-Instruct is fetched as a file in 4 bits (Q4_1) and decoded to 16 bits once: that is the base."
    "$pith" quantize -q "$smollm2" "$model" f16 --embedding-type f16 >/dev/null
  fi
  ls -lhd "$model" "$text"
}

compress() {
  local type
  rm -rf "$out"/w*.pith "$out"/*.pith.work
  echo "Plain rounding to 4 bits, to compare with:"
  "$pith" quantize "$model" "$out/w4-rounded.pith" w4 --method minmax
  for type in "${types[@]}"; do
    printf '\n%s, as pith makes it by default:\n' "$type"
    "$pith" quantize "$model" "$out/$type.pith" "$type"
  done
  for type in "${types[@]}" w4-rounded; do "$pith" verify -q "$out/$type.pith"; done
}

compare() {
  local files=("${types[@]}" w4-rounded)
  files=("${files[@]/#/$out/}")
  "$pith" compare "$model" "${files[@]/%/.pith}" --text "$text" --protocol text-512 --max-windows "$windows" \
    --output "$out/comparison.html" --json "$out/comparison.json" | tee "$out/comparison.txt"
}

# With the smallest file whose mean KL divergence from the base is at most 0.1 nats. The prompt goes
# on as this text does: a question would ask what so small a model does not know.
generate() {
  local best
  best=$(sed -n 's/^ *"smallest_good": "\(.*\)",*$/\1/p' "$out/comparison.json")
  best=${best:-${types[0]}.pith}
  echo "With $best, the smallest that is still good (mean KL divergence of at most 0.1):"
  echo
  "$pith" run -q "$out/$best" -p "A free operating system is" -n 120 --temp 0
  echo
}

step "Packages" tools/packages.sh build demo
PITH_CUDA_ARCHITECTURE=$(gpu_architecture)
export PITH_CUDA_ARCHITECTURE
step "Build" build release pith
step "Model and text" get_inputs
step "Compression" compress
step "Comparison" compare
step "A paragraph" generate
print_times
printf '\n== Results\n'
cat "$out/comparison.txt"
echo "The same with a figure: $out/comparison.html"
