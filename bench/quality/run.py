#!/usr/bin/env python3
"""What each method costs a model: makes a file for every row of a table, and measures all of them, and those of
other tools beside them, against the original on several texts.

  bench/quality/texts.sh texts
  bench/quality/run.py --calib wiki.valid.tokens --tokens 16k 64k --rows bench/quality/domains.txt \\
      --peers peers/sizes.csv -o bench/results/domains.json build/release/pith MODEL OUT_DIR texts/*

Prints tables in Markdown: mean KL, its 99.9 % quantile, the tokens whose likeliest successor is the same, perplexity;
where there are peers, KL as a share of the best peer's of no fewer bytes. Files that OUT_DIR has are not made again,
and those that have not changed since are not measured again.

A row is NAME | ARGUMENTS of `pith quantize MODEL OUT`, in which
  CALIB            stands for the texts of --calib, with as many windows as --tokens makes
  CALIB:self,FILE  for these instead
  COSTS            for a file that rows with the same calibration share (--costs of mixed precision)
"""
import argparse
import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path


def tokens_of(text):
    return int(text[:-1]) * 1024 if text.endswith("k") else int(text)


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("pith", type=Path)
    p.add_argument("model")
    p.add_argument("out", type=Path)
    p.add_argument("texts", nargs="+", type=Path, help="plain text, or .jsonl of messages; none of the calibration's")
    p.add_argument("--rows", type=Path, default=Path(__file__).with_name("rows.txt"), help="default: rows.txt")
    p.add_argument("--only", default=".", help="only rows whose name matches this")
    p.add_argument("--calib", action="append", default=[], help="calibration of rows with CALIB; can be repeated")
    p.add_argument("--tokens", nargs="+", default=["64k"], help="of the calibration: each makes a file of such a row")
    p.add_argument("--seqlen", type=int, default=1024, help="of calibration windows")
    p.add_argument("--peers", action="append", default=[], help="files of other tools: NAME=FILE, a folder of .gguf, "
                   "or a .csv with columns name, file and, where FILE is not what the tool wrote, bytes")
    p.add_argument("--within", type=float, default=0.05, help="a peer to compare with has at most this share of "
                   "bytes more; where there is none, the next larger one is compared")
    p.add_argument("--protocol", default="text-2048")
    p.add_argument("--windows", type=int, default=4, help="of each text")
    p.add_argument("--batch", type=int, default=8, help="files that are in memory at a time")
    p.add_argument("--device", default="cpu")
    p.add_argument("--threads", type=int)
    p.add_argument("-o", "--results", type=Path, help="where the figures go (default: OUT_DIR/quality.json)")
    return p.parse_args()


def size_of(path):
    if path.is_file():
        return path.stat().st_size
    return sum(f.stat().st_size for f in path.glob("*.safetensors"))


def run(command, log):
    """Whether it succeeded. The log has what it printed."""
    with open(log, "w") as f:
        ok = subprocess.run([str(word) for word in command], stdout=f, stderr=subprocess.STDOUT).returncode == 0
    if not ok:
        print(f"{' '.join(map(str, command))}: failed, see {log}", file=sys.stderr)
    return ok


class Row:
    def __init__(self, name, file, bytes_=None, peer=False):
        self.name, self.file, self.peer = name, Path(file), peer
        self.bytes = int(bytes_) if bytes_ else size_of(self.file)
        self.made, self.texts = {}, {}


def calibration(args, sources, tokens):
    if not sources:
        sys.exit("run.py: a row with CALIB needs --calib")
    words = [word for source in sources for word in ("--calib", source)]
    return words + ["--nsamples", max(1, tokens_of(tokens) // args.seqlen), "--seqlen", args.seqlen]


def compressed(args):
    """A file for each row of the table, and for each number of calibration tokens."""
    for line in args.rows.read_text().splitlines():
        name, bar, arguments = line.partition("|")
        if not bar or name.startswith("#"):
            continue
        words = arguments.split()
        marks = [word for word in words if re.fullmatch(r"CALIB(:.*)?", word)]
        for tokens in args.tokens if marks else [None]:
            full = name.strip() + (f"@{tokens}" if marks and len(args.tokens) > 1 else "")
            if not re.search(args.only, full):
                continue
            file, report = args.out / f"{full}.pith", args.out / f"{full}.json"
            command = [args.pith, "quantize", args.model, file, "-q", "--json", report]
            command += [word for word in words if word not in marks and word != "COSTS"]
            sources = marks[0][len("CALIB:"):].split(",") if marks and ":" in marks[0] else args.calib
            if marks:
                command += calibration(args, sources, tokens)
            if "COSTS" in words:
                of_sources = "+".join(Path(source).name for source in sources)
                command += ["--costs", args.out / f"costs-{of_sources}@{tokens}"]
            if args.threads:
                command += ["-t", args.threads]
            if not file.exists():
                print(f"{full}:{arguments}", file=sys.stderr)
                if not run(command, args.out / f"{full}.log"):
                    continue
            row = Row(full, file)
            if report.exists():
                made = json.loads(report.read_text())
                row.made = {k: made[k] for k in ("type", "method", "bits_per_weight", "calibration_tokens", "seconds")}
            yield row


def peers(args):
    for source in args.peers:
        if "=" in source and not Path(source).exists():
            name, _, file = source.partition("=")
            yield Row(name, file, peer=True)
        elif source.endswith(".csv"):
            with open(source, newline="") as f:
                for r in csv.DictReader(f):
                    row = Row(r["name"], Path(source).parent / r["file"], r.get("bytes"), peer=True)
                    if r.get("bits"):
                        row.made["bits_per_weight"] = float(r["bits"])
                    yield row
        else:
            for file in sorted(Path(source).glob("*.gguf")):
                yield Row(file.stem, file, peer=True)


FIGURES = ("kl_mean", "kl_standard_error", "kl_median", "kl_p99", "kl_p99_standard_error", "kl_p999",
           "kl_p999_standard_error", "kl_max", "same_top", "perplexity", "ppl_ratio", "ppl_ratio_standard_error")


def measure(args, text, rows):
    """Fills in row.texts of this text, in batches that are kept as they are measured. What the figures depend on."""
    kept = args.out / f"eval-{text.name}.json"
    settings = {"model": args.model, "protocol": args.protocol, "windows": args.windows, "device": args.device}
    store = json.loads(kept.read_text()) if kept.exists() and kept.stat().st_mtime > text.stat().st_mtime else {}
    if store.get("settings") != settings:
        store = {"settings": settings, "about": {}, "files": {}}
    files = store["files"]

    def known(row):
        return files.get(str(row.file), {}).get("time") == row.file.stat().st_mtime

    waiting = [row for row in rows if not known(row)]
    for first in range(0, len(waiting), args.batch):
        batch = waiting[first:first + args.batch]
        print(f"{text.name}: {', '.join(row.name for row in batch)}", file=sys.stderr)
        result = args.out / "eval.json"
        command = [args.pith, "eval", "kl", *(row.file for row in batch), "--base", args.model, "--text", text,
                   "--protocol", args.protocol, "--max-windows", args.windows, "--exact-inputs", "--no-noise-floor",
                   "--device", args.device, "-q", "--json", result]
        if args.threads:
            command += ["-t", args.threads]
        if not run(command, args.out / f"eval-{text.name}.log"):
            sys.exit(1)
        e = json.loads(result.read_text())
        store["about"] = {k: e[k] for k in ("protocol", "windows", "tokens", "text_hash", "base_perplexity")}
        for row, figures in zip(batch, e["models"]):
            files[str(row.file)] = {"time": row.file.stat().st_mtime, **{k: figures.get(k) for k in FIGURES}}
        kept.write_text(json.dumps(store, indent=1))
    for row in rows:
        row.texts[text.name] = {k: files[str(row.file)][k] for k in FIGURES}
    return store["about"]


def best_peer(row, others, figure, within):
    """The peer of no fewer bytes with the least of this figure, of those that are not much larger; none: None."""
    larger = sorted((p for p in others if p.bytes >= row.bytes), key=lambda p: p.bytes)
    near = [p for p in larger if p.bytes <= row.bytes * (1 + within)] or larger[:1]
    return min(near, key=figure, default=None)


def against_peers(rows, texts, within):
    """row.peers[text][key]: (peer's name, ratio, standard error) of the mean and of the 99.9 % quantile."""
    others = [row for row in rows if row.peer]
    for row in rows:
        row.peers = {}
        for text in texts if not row.peer and others else []:
            row.peers[text] = {}
            for key, error in (("kl_mean", "kl_standard_error"), ("kl_p999", "kl_p999_standard_error")):
                peer = best_peer(row, others, lambda p: p.texts[text][key], within)
                if peer is None:
                    continue
                a, b = row.texts[text], peer.texts[text]
                ratio = a[key] / b[key]
                # Both errors as if of different texts: on the same one the ratio scatters less.
                errors = [(f[error] or 0) / f[key] for f in (a, b)]
                row.peers[text][key] = (peer.name, ratio, ratio * (errors[0] ** 2 + errors[1] ** 2) ** 0.5)


def table(title, heads, lines):
    print(f"\n{title}\n\n| {' | '.join(['', 'MB', *heads])} |\n|{' --- |' * (len(heads) + 2)}")
    for row, cells in lines:
        print(f"| {row.name} | {row.bytes / 1e6:.2f} | {' | '.join(cells)} |")


def plus_minus(value, error):
    return f"{value:.4f}" + (f" ± {error:.4f}" if error is not None else "")


def print_tables(rows, about):
    for text, a in about.items():
        print(f"{text}: {a['protocol']}, {a['windows']} windows, {a['tokens']} tokens, base perplexity "
              f"{a['base_perplexity']:.3f}")
    texts = list(about)
    heads = [Path(text).stem for text in texts]
    by_size = sorted(rows, key=lambda r: r.bytes)

    def by_text(title, cell):
        table(title, heads, [(r, [cell(r.texts[t]) for t in texts]) for r in by_size])

    by_text("Mean KL", lambda f: plus_minus(f["kl_mean"], f["kl_standard_error"]))
    by_text("99.9 % of KL", lambda f: plus_minus(f["kl_p999"], f["kl_p999_standard_error"]))
    by_text("Same top token", lambda f: f"{100 * f['same_top']:.1f} %")
    by_text("Perplexity", lambda f: f"{f['perplexity']:.3f} ({100 * (f['ppl_ratio'] - 1):+.2f} ± "
            f"{100 * f['ppl_ratio_standard_error']:.2f} %)")
    for key, title in (("kl_mean", "Mean KL"), ("kl_p999", "99.9 % of KL")):
        compared = [r for r in by_size if r.peers and all(key in r.peers[t] for t in texts)]
        if compared:
            table(f"{title}, as a share of the best peer's of no fewer bytes", [*heads, "worst"], [
                (r, [f"{r.peers[t][key][1]:.2f} ± {r.peers[t][key][2]:.2f} ({r.peers[t][key][0]})" for t in texts] +
                 [f"{max(r.peers[t][key][1] for t in texts):.2f}"]) for r in compared])


def main():
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = [*compressed(args), *peers(args)]
    if not rows:
        sys.exit("run.py: no row")
    about = {text.name: measure(args, text, rows) for text in args.texts}
    against_peers(rows, about, args.within)
    results = args.results or args.out / "quality.json"
    results.write_text(json.dumps({"texts": about, "rows": [
        {"name": r.name, "bytes": r.bytes, **({"peer": True} if r.peer else {}), **r.made, "texts": r.texts,
         **({"peers": r.peers} if r.peers else {})} for r in rows]}, indent=1) + "\n")
    print_tables(rows, about)


if __name__ == "__main__":
    main()
