#!/usr/bin/env bash
# Installs the Debian packages that pith needs and that are missing here, as root or with sudo.
# Usage: tools/packages.sh GROUP...     groups: build demo test
# For Debian 12 and Ubuntu 22.04 and 24.04. On other systems it only says what is needed.
set -euo pipefail

build=(
  g++ cmake ninja-build ccache pkg-config git
  libfmt-dev nlohmann-json3-dev libcli11-dev  # text and settings
  libyaml-dev                                 # recipes
  libprotobuf-dev protobuf-compiler           # manifest of the packed file
  libpcre2-dev libutf8proc-dev libxxhash-dev  # tokenizers, checksums
  zlib1g-dev libedit-dev                      # texts in .gz, line editing of chat
  libgtest-dev libgmock-dev libbenchmark-dev  # tests and benchmarks
)
demo=(python3 python3-pip)
test=(clang clang-format libclang-rt-dev)  # fuzz targets, format check

wanted=()
for group in "$@"; do
  case $group in
    build) wanted+=("${build[@]}") ;;
    demo) wanted+=("${demo[@]}") ;;
    test) wanted+=("${test[@]}") ;;
    *) echo "packages.sh: no group \"$group\": build demo test" >&2; exit 2 ;;
  esac
done

if ! command -v apt-get >/dev/null; then
  echo "Not a Debian system; these packages are needed under whatever name: ${wanted[*]}"
  exit 0
fi

missing() {  # the names among $@ that are not installed
  local name
  for name in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || echo "$name"
  done
}

mapfile -t need < <(missing "${wanted[@]}")
((${#need[@]})) || exit 0

root=()
if [[ $(id -u) != 0 ]]; then
  command -v sudo >/dev/null || { echo "Run as root: apt-get install ${need[*]}" >&2; exit 1; }
  root=(sudo)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() { "$@" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }; }

quietly "${root[@]}" apt-get update -q
# Ubuntu 22.04 has clang's runtime in clang itself.
known=()
for name in "${need[@]}"; do
  if [[ $name != libclang-rt-dev ]] || apt-cache show "$name" >/dev/null 2>&1; then
    known+=("$name")
  fi
done
((${#known[@]})) || exit 0
echo "Installing: ${known[*]}"
quietly "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -q -y --no-install-recommends "${known[@]}"
