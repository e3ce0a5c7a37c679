#!/usr/bin/env python3
"""The loops of kernels as machine code: how many instructions of what kind, all their paths counted.

  bench/gpu/instructions.py build/cuda/libpith_cuda.so --kernel 'quant_gemv_kernel<F16Math<NumberFormat::kInt4>'
  bench/gpu/instructions.py build/cuda/libpith_cuda.so --forbid-division       fails where an inner loop divides integers

A multiprocessor of a GPU begins four instructions of a warp a clock: 132 of them at 1.7 GHz have 0.3 for each byte that
3 TB/s bring. A loop that needs more a byte is bound by them and not by memory, whatever else is right.

Needs cuobjdump (of the CUDA Toolkit) and c++filt, no GPU.
"""
import argparse
import collections
import re
import subprocess
import sys

from resources import short_name

# By NumberFormat of formats/encodings/number_format.h.
FORMATS = ("F32", "F16", "BF16", "E4M3", "E5M2", "Int8", "Int4", "Int2", "Int3", "Int5", "Int6", "Nf4", "E2M1")
WHAT = {
    "tensor": ("HMMA", "IMMA"),
    "global": ("LDG", "LDGSTS", "STG"),
    "shared": ("LDS", "LDSM", "STS"),
    "branch": ("BRA", "CALL", "BSSY", "BSYNC"),
}


def disassemble(cuobjdump, library, arch):
    """[(kernel, [(address, instruction)])]"""
    text = subprocess.run([cuobjdump, "-sass", "-arch", arch, library], capture_output=True, text=True, check=True).stdout
    text = subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout
    kernels = []
    for line in text.splitlines():
        if m := re.search(r"Function : (.*)", line):
            kernels.append((name_of(m[1]), []))
        elif (m := re.match(r"\s+/\*([0-9a-f]{4,})\*/\s+(.*?);", line)) and kernels:
            kernels[-1][1].append((int(m[1], 16), m[2].strip()))
    return kernels


def name_of(function):
    return short_name(re.sub(r"\(pith::NumberFormat\)(\d+)", lambda m: f"NumberFormat::k{FORMATS[int(m[1])]}", function))


def inner_loops(code):
    """(first, last) of loops without another in them, and of those around tensor instructions."""
    at = {address: i for i, (address, _) in enumerate(code)}
    last = {}
    for i, (address, text) in enumerate(code):
        if m := re.search(r"\bBRA\S* .*?0x([0-9a-f]+)", text):
            to = int(m[1], 16)
            if to < address and to in at:
                last[at[to]] = i
    loops = sorted(last.items())
    within = lambda of, b, e: any(b < b2 and e2 <= e for b2, e2 in of)
    tensor = [(b, e) for b, e in loops if any("MMA." in text for _, text in code[b:e + 1])]
    inner = {(b, e) for b, e in loops if not within(loops, b, e)}
    return sorted(inner | {(b, e) for b, e in tensor if not within(tensor, b, e)})


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("library")
    p.add_argument("--arch", default="sm_90a")
    p.add_argument("--kernel", default="", help="a regular expression")
    p.add_argument("--least", type=int, default=48, help="instructions of a loop to be shown (default: %(default)s)")
    p.add_argument("--cuobjdump", default="cuobjdump")
    p.add_argument("--forbid-division", action="store_true")
    args = p.parse_args()
    bad = 0
    for kernel, code in disassemble(args.cuobjdump, args.library, args.arch):
        if not re.search(args.kernel, kernel):
            continue
        for begin, end in inner_loops(code):
            texts = [re.sub(r"^@!?U?P\d+ ", "", t) for _, t in code[begin:end + 1]]
            kinds = collections.Counter(t.split()[0].split(".")[0] for t in texts)
            divides = sum(t.startswith(("I2F.U32.RP", "I2F.U64.RP")) for t in texts)
            if len(texts) < args.least:
                continue
            counts = "  ".join(f"{name} {sum(kinds[k] for k in of)}" for name, of in WHAT.items())
            if divides and args.forbid_division:
                bad += 1
                print(f"{kernel}: {divides} divisions of integers in a loop of {len(texts)} instructions")
            elif not args.forbid_division:
                most = ", ".join(f"{k} {n}" for k, n in kinds.most_common(6))
                print(f"{kernel}: {len(texts)} instructions  {counts}  divisions {divides}  ({most})")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
