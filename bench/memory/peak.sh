#!/bin/bash
# Time and peak memory of `pith quantize` on a generated checkpoint.
#
#   bench/memory/peak.sh [BUILD_FOLDER] [SHAPE] [quantize options, default: w4 -g 32]
#
# The checkpoint and the result lie in a folder of $TMPDIR and are removed. Anonymous memory is what
# counts: pages of mapped files belong to the page cache.
set -euo pipefail
build=${1:-build/release}
shape=${2:-llama-850m}
shift $(($# < 2 ? $# : 2))
options=("${@:-w4}")
[ $# -eq 0 ] && options=(w4 -g 32)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$build/bin/make_checkpoint" "$shape" "$work/in"

begin=$(date +%s.%N)
"$build/pith" quantize "$work/in" "$work/out.pith" "${options[@]}" -q &
program=$!
anonymous=0 resident=0
while status=$(cat "/proc/$program/status" 2>/dev/null) && grep -q '^VmHWM' <<<"$status"; do
  a=$(awk '/^RssAnon/ {print $2}' <<<"$status")
  resident=$(awk '/^VmHWM/ {print $2}' <<<"$status")
  anonymous=$((a > anonymous ? a : anonymous))
  sleep 0.02
done
wait "$program"
end=$(date +%s.%N)

awk -v a="$anonymous" -v r="$resident" -v begin="$begin" -v end="$end" -v shape="$shape" -v o="${options[*]}" 'BEGIN {
  printf "%s  %s: %.1f s, peak anonymous %.0f MB, peak resident %.0f MB\n", shape, o, end - begin, a / 1024, r / 1024 }'
