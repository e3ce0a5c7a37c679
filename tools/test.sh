#!/usr/bin/env bash
# Sets the machine up, builds pith and tests all of it. The first failure ends it.
# Usage: tools/test.sh [--fuzz-seconds N] [--quick]
#   --fuzz-seconds N   how long each fuzz target runs (10)
#   --quick            only the release build, its tests and the checks of the sources
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/common.sh
source tools/common.sh

fuzz_seconds=10
quick=
while (($#)); do
  case $1 in
    --fuzz-seconds) fuzz_seconds=${2:?"--fuzz-seconds needs a number"}; shift ;;
    --quick) quick=1 ;;
    *) sed -n '2,5s/^# //p' "$0"; [[ $1 == --help ]] && exit 0 || exit 2 ;;
  esac
  shift
done

library=(core formats runtime quant prune lowrank distill)

library_sources=("${library[@]/%//*.cc}" "${library[@]/%//*.h}")  # patterns for git

check_format() {
  local version
  version=$(clang-format --version | grep -oE 'version [0-9]+' | grep -oE '[0-9]+')
  if [[ $version != 14 ]]; then
    echo "Skipped: this is clang-format $version, the sources are formatted by 14 (Debian 12)."
    return
  fi
  local files
  mapfile -t files < <(git ls-files '*.cc' '*.h' '*.cu' '*.cuh')
  clang-format --dry-run -Werror "${files[@]}" || {
    echo "Remedy: git ls-files '*.cc' '*.h' '*.cu' '*.cuh' | xargs clang-format -i" >&2
    return 1
  }
}

# Calls that have no place in the library or the program: unsafe, locale-dependent, or destructive.
check_calls() {
  local found
  found=$(
    git grep -nE '\bstd::regex|\b(atoi|atof|v?sprintf|strcpy|strcat|gets|system|popen|s?rand)\(|\bO_TRUNC\b' \
      -- "${library_sources[@]}" "tools/*.cc" "tools/*.h" || true
    # The library reports through Error and Progress: it does not print and does not end the process.
    # The program prints by say() and tell() of tools/terminal.h, which escape what files say.
    git grep -nE '\bstd::(cout|cerr|clog)\b|\b(f?printf|puts|fputs|putchar|fwrite|perror|abort|exit)\(|\bfmt::print\(|(^|[^/])\bstd(out|err)\b' \
      -- "${library_sources[@]}" "tools/*.cc" "tools/*.h" ":!tools/terminal.*" ":!tools/line_editor.cc" || true
  )
  [[ -z $found ]] || { printf '%s\n' "$found" "Forbidden calls." >&2; return 1; }
}

# The places that docs/glossary.md names exist.
check_glossary() {
  local place missing=
  # shellcheck disable=SC2016  # the backquotes are those of Markdown
  while read -r place; do
    [[ -e $place ]] || missing+="$place "
  done < <(grep -oE '`[a-z_]+/[a-z0-9_./]*`' docs/glossary.md | tr -d '`')
  [[ -z $missing ]] || { echo "docs/glossary.md names what is not there: $missing" >&2; return 1; }
}

# The arrows of docs/design.md: what the files of a folder may include; :(glob) is the folder without those in it.
arrows='
core/                 core/
:(glob)formats/       core/ formats/[a-z0-9_]+\.h formats/encodings/
formats/encodings/    core/ formats/encodings/
formats/jinja/        core/ formats/jinja/
formats/tokenizer/    core/ formats/[a-z0-9_]+\.h formats/jinja/ formats/tokenizer/
runtime/model/        core/ formats/ runtime/model/
runtime/algebra/      core/ runtime/algebra/
runtime/forward/      core/ formats/ runtime/model/ runtime/forward/
runtime/cpu/          core/ formats/ runtime/model/ runtime/algebra/ runtime/forward/ runtime/cpu/
runtime/cuda/         core/ formats/ runtime/model/ runtime/algebra/ runtime/forward/ runtime/cuda/ runtime/cuda_kernels/
runtime/cuda_kernels/ core/ formats/encodings/ runtime/cuda_kernels/
runtime/eval/         core/ formats/ runtime/model/ runtime/forward/ runtime/cpu/ runtime/backends runtime/eval/
runtime/compress/     core/ formats/ runtime/model/ runtime/algebra/ runtime/forward/ runtime/cpu/ runtime/backends runtime/eval/ runtime/compress/
runtime/backends      core/ runtime/forward/ runtime/cpu/ runtime/cuda/ runtime/backends
runtime/engine        core/ formats/ runtime/model/ runtime/forward/ runtime/cpu/ runtime/backends runtime/engine
quant/                core/ formats/ runtime/ quant/
prune/                core/ formats/ runtime/ prune/
lowrank/              core/ formats/ runtime/ lowrank/
distill/              core/ formats/ runtime/ distill/
'
check_arrows() {
  local from to found=
  while read -r from to; do
    [[ -n $from ]] || continue
    found+=$(git grep -nE '^#include "[a-z_]+/' -- "$from*" | grep -vE "#include \"(${to// /|})" || true)
  done <<<"$arrows"
  [[ -z $found ]] || { printf '%s\n' "$found" "Includes against the arrows." >&2; return 1; }
}

check_scripts() {
  command -v shellcheck >/dev/null || { echo "Skipped: no shellcheck."; return; }
  shellcheck -x tools/*.sh bench/*.sh bench/*/*.sh .ci/run
}

check_sources() {
  check_format
  check_calls
  check_arrows
  check_glossary
  check_scripts
}

# The CUDA backend for one architecture; `cmake --preset cuda` has all of them.
build_release() {
  [[ -n $(nvcc_path) ]] || echo "No nvcc: everything but the CUDA backend."
  PITH_CUDA_ARCHITECTURE=90a-real build release
}

# All tests, the replay of the fuzz corpora among them. The summary is shown again at the end.
run_ctest() {
  if get_smollm2; then
    export PITH_SMOLLM2=$smollm2  # tests that want a real model skip themselves without
  else
    echo "Without SmolLM2: it could not be fetched."
  fi
  ctest --test-dir build/release --quiet --output-on-failure -j "$jobs" \
    --output-log build/ctest.log || {
      grep -vE ' Passed +[0-9.]+ sec|^ +Start +[0-9]+:' build/ctest.log >&2
      return 1
    }
}

fuzz_targets() { basename -a -s .cc tests/fuzz/*_fuzz.cc; }

build_sanitized() {
  local targets
  mapfile -t targets < <(fuzz_targets)
  build fuzz core_test formats_test "${targets[@]}"
}

sanitized_tests() {
  local name
  for name in core_test formats_test; do
    UBSAN_OPTIONS=print_stacktrace=1 "build/fuzz/bin/$name" --gtest_brief=1
  done
}

# What it finds goes into the first folder; the committed corpus stays as it is.
fuzz_one() {
  local name=$1 found=build/fuzz/found/$1 corpus=tests/fuzz/corpus/${1%_fuzz}
  mkdir -p "$found" "$corpus"
  "build/fuzz/bin/$name" -max_total_time="$fuzz_seconds" -timeout=10 -rss_limit_mb=2048 \
    -artifact_prefix="$found-" -print_final_stats=1 "$found" "$corpus" >"$found.log" 2>&1 || {
      tail -n 60 "$found.log" >&2
      echo "$name failed; its input lies beside $found.log" >&2
      return 1
    }
  printf '%-24s %s executions\n' "$name" \
    "$(sed -n 's/^stat::number_of_executed_units: *//p' "$found.log")"
}

fuzz() {
  export -f fuzz_one
  export fuzz_seconds
  fuzz_targets | xargs -P "$jobs" -I{} bash -euc 'fuzz_one {}'
}

groups=(build demo)
[[ -n $quick ]] || groups+=(test)
step "Packages" tools/packages.sh "${groups[@]}"
step "Sources: format, calls, includes" check_sources
step "Release build" build_release
step "Tests" run_ctest
if [[ -z $quick ]]; then
  step "Build with ASan, UBSan and libFuzzer" build_sanitized
  step "Parser tests with ASan and UBSan" sanitized_tests
  step "Fuzzing, $fuzz_seconds s a target" fuzz
fi
print_times

printf '\n== Tests\n'
sed -n '/tests passed/,$p' build/ctest.log
