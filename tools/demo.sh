#!/usr/bin/env bash
# Sets the machine up, builds pith, and compresses a real model to several sizes: how large, how
# good and how fast is each?
# Usage: tools/demo.sh [--model PATH] [--text FILE] [--types "w8 w4 ..."] [--windows N]
#   --model PATH   a Hugging Face folder, a GGUF file or a .pith file (SmolLM2-135M-Instruct)
#   --text FILE    English text to evaluate on (the Debian FAQ)
#   --types LIST   sizes to make, as `pith quantize --help` names them (w8 w6 w5 w4 nf4 w3)
#   --windows N    how many windows of 512 tokens of the text count (8)
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/common.sh
source tools/common.sh

model=
text=
types=(w8 w6 w5 w4 nf4 w3)
windows=8
usage() { sed -n '2,8s/^# //p' "$0"; exit "$1"; }
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

get_inputs() {
  if [[ -z $model ]]; then
    get_smollm2
    model=$smollm2
  fi
  [[ -n $text ]] || get_text
  ls -lh "$model" "$text"
}

measure() {  # measure NAME FILE: speed and size, and quality beside the base
  "$pith" inspect "$2" --json "$out/$1.inspect.json" >/dev/null
  "$pith" bench -q "$2" --json "$out/$1.bench.json" >/dev/null
  [[ $1 == base ]] || "$pith" eval kl "$2" --base "$model" --text "$text" --protocol gptq-512 \
    --max-windows "$windows" --no-noise-floor -q --json "$out/$1.kl.json" >/dev/null
}

compress_and_measure() {  # TYPE
  rm -rf "$out/$1.pith" "$out/$1.pith.work"
  "$pith" quantize -q "$model" "$out/$1.pith" "$1"
  "$pith" verify -q "$out/$1.pith"
  measure "$1" "$out/$1.pith"
}

# The smallest file whose mean KL divergence from the base is at most 0.1 nats, else the best one.
choose() {
  python3 - "$out" "${types[@]}" <<'END'
import json, os, sys
folder, types = sys.argv[1], sys.argv[2:]
kl = {t: json.load(open(f"{folder}/{t}.kl.json"))["kl_mean"] for t in types}
good = [t for t in types if kl[t] <= 0.1] or [min(types, key=kl.get)]
print(min(good, key=lambda t: os.path.getsize(f"{folder}/{t}.pith")))
END
}

generate() {
  best=$(choose)
  echo "With $best, the smallest that is still good (mean KL divergence of at most 0.1):"
  echo
  "$pith" run -q "$out/$best.pith" -p "A free operating system is" -n 120 --temp 0
  echo
}

table() {
  python3 - "$out" base "${types[@]}" <<'END'
import json, sys
folder, names = sys.argv[1], sys.argv[2:]
load = lambda name, what: json.load(open(f"{folder}/{name}.{what}.json"))
row = "{:<6} {:>9} {:>11} {:>11} {:>9} {:>9} {:>9}"
print(row.format("", "file, MB", "bits/weight", "perplexity", "mean KL", "same top", "tokens/s"))
for name in names:
    size, speed = load(name, "inspect"), load(name, "bench")
    kl = load(names[1] if name == "base" else name, "kl")
    quality = ([f'{kl["base_perplexity"]:.3f}', "", ""] if name == "base" else
               [f'{kl["perplexity"]:.3f}', f'{kl["kl_mean"]:.4f}', f'{100 * kl["same_top"]:.1f} %'])
    print(row.format(name, f'{size["file_bytes"] / 1e6:.1f}', f'{size["bits_per_weight"]:.2f}',
                     *quality, f'{speed["decode_tokens_per_s"]:.1f}'))
print(f'\n{kl["tokens"]} tokens scored, protocol gptq-512. Base: {load("base", "inspect")["file_bytes"] / 1e6:.1f} MB'
      ' as it was published; mean KL in nats from the base; tokens/s while generating.')
END
}

step "Packages" tools/packages.sh build demo
step "Build" build release pith
step "Model and text" get_inputs
step "Base" measure base "$model"
for type in "${types[@]}"; do
  step "$type" compress_and_measure "$type"
done
step "A paragraph" generate
print_times
printf '\n== Results\n'
table
