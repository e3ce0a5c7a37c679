#!/usr/bin/env bash
# Makes texts of five domains for run.py: what models are used for, none of it in a text that pith or this bench
# calibrates on. About 300 KB each, the same bytes for the same package versions. README.md names them.
#
# Usage: bench/quality/texts.sh OUT_DIR
#   ROOT=DIR       where the packages' files are already (DIR/usr/...), on a system without apt
#   WIKITEXT=FILE  WikiText-2's test text (wiki.test.raw), as a sixth
# Files of packages that are installed are read where they are; other packages are downloaded and unpacked into a
# temporary folder. Nothing is installed, and it needs no root. Prints the SHA-256 of each text.
set -euo pipefail

(($# == 1)) || { sed -n '2,10s/^# \?//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# package | a file of it
packages='
r-cran-janeaustenr      | usr/lib/R/site-library/janeaustenr/data/Rdata.rdb
debian-reference-en     | usr/share/debian-reference/ch01.en.html
developers-reference-de | usr/share/developers-reference/de/pkgs.html
xtables-addons-dkms     | usr/src/xtables-addons-*/extensions/xt_ECHO.c
python3-jinja2          | usr/lib/python3/dist-packages/jinja2/environment.py
ltsp                    | usr/share/ltsp/common/ltsp/55-ltsp.sh
debian-faq              | usr/share/doc/debian/FAQ/pkg-basics.en.html
perl-doc                | usr/share/perl/5*/pod/perlfaq4.pod
'
roots=("${ROOT:-/}")
while IFS=' |' read -r package file; do
  if [[ -z $package ]] || compgen -G "${ROOT:-}/$file" >/dev/null; then continue; fi
  if [[ -n ${ROOT:-} ]] || ! command -v apt-get >/dev/null; then
    echo "texts.sh: no /$file: unpack Debian's package $package into a folder DIR and run again with ROOT=DIR" >&2
    exit 1
  fi
  if ! (cd "$work" && apt-get download -qq "$package" >log 2>&1); then
    cat "$work/log" >&2
    echo "texts.sh: cannot download $package; where apt knows no packages yet, apt-get update tells it" >&2
    exit 1
  fi
  dpkg-deb -x "$work/$package"_*.deb "$work/$package"
  roots+=("$work/$package")
done <<<"$packages"

python3 "$here/texts.py" "$out" "${roots[@]}"
if [[ -n ${WIKITEXT:-} ]]; then cp "$WIKITEXT" "$out/wikitext.txt"; fi
cd "$out"
sha256sum ./*.txt ./*.jsonl
