#!/usr/bin/env python3
"""Registers, spills, stack and static shared memory of every kernel, as ptxas reports them.

  bench/gpu/resources.py -o bench/results/resources.json        compiles all kernels and writes the table
  bench/gpu/resources.py --check bench/results/resources.json   fails on a spill or a stack frame, or where the
                                                                table does not have the kernels that there are

Needs nvcc and c++filt, no GPU.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARCHITECTURES = ("sm_80", "sm_89", "sm_90a")


def compile_one(nvcc, source, architectures):
    codes = [f"-gencode=arch=compute_{a[3:]},code={a}" for a in architectures]
    command = [nvcc, "-std=c++17", "-O3", f"-I{ROOT}", "-fmad=false", "-Werror=all-warnings", "-Xptxas=-v", *codes,
               "-c", str(source), "-o", os.devnull]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(run.stderr)
    return run.stderr


def parse(text):
    rows, now = [], None
    for line in text.splitlines():
        if m := re.search(r"Compiling entry function '(\S+)' for '(\S+)'", line):
            now = {"kernel": m[1], "arch": m[2]}
        elif m := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            stack, spills = int(m[1]), int(m[2]) + int(m[3])
        elif now and (m := re.search(r"Used (\d+) registers", line)):
            shared = re.search(r"(\d+) bytes smem", line)
            rows.append(now | {"registers": int(m[1]), "spill_bytes": spills, "stack_bytes": stack,
                               "smem_bytes": int(shared[1]) if shared else 0})
            now = None
    return rows


def short_name(function):
    """Of a function, without namespaces (that of a file has other names elsewhere) and arguments."""
    name = re.sub(r"\(anonymous namespace\)::|_INTERNAL_\w+::|pith::(cuda::)?|^void ", "", function)
    depth = 0
    for at, c in enumerate(name):  # up to the arguments
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            return name[:at]
    return name


def name_of(mangled):
    return short_name(subprocess.run(["c++filt", mangled], capture_output=True, text=True, check=True).stdout.strip())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--nvcc", default="nvcc")
    p.add_argument("-o", "--output")
    p.add_argument("--check")
    p.add_argument("--arch", nargs="+", default=ARCHITECTURES, help="compile for these only")
    args = p.parse_args()
    sources = sorted((ROOT / "runtime" / "cuda_kernels").rglob("*.cu"))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        reports = list(pool.map(lambda s: compile_one(args.nvcc, s, args.arch), sources))
    rows = [row | {"kernel": name_of(row["kernel"])} for report in reports for row in parse(report)]
    rows.sort(key=lambda r: (r["kernel"], r["arch"]))
    bad = [r for r in rows if r["spill_bytes"] or r["stack_bytes"]]
    for r in bad:
        print(f"{r['kernel']} for {r['arch']}: {r['spill_bytes']} bytes of spills, {r['stack_bytes']} of stack")
    if args.output:
        lines = ",\n".join(" " + json.dumps(r) for r in rows)
        pathlib.Path(args.output).write_text(f"[\n{lines}\n]\n")
    if args.check:
        key = lambda r: (r["kernel"], r["arch"])
        there = {key(r) for r in json.loads(pathlib.Path(args.check).read_text()) if r["arch"] in args.arch}
        missing = sorted({key(r) for r in rows} ^ there)
        for kernel, arch in missing:
            print(f"{kernel} for {arch}: the table and the sources do not agree")
        bad += missing
    print(f"{len(rows)} kernels, at most {max(r['registers'] for r in rows)} registers")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
