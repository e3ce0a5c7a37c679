#!/usr/bin/env python3
"""Tokens per second of pith and of llama.cpp, in turns, so that what the machine does beside meets both.

  bench/peers/decode_prefill.py --pith build/release/pith --llama-bench PATH \
      --pair llama-850m:w4:Q4_0.gguf --pair llama-850m:w8:Q8_0.gguf -o bench/results/cpu.json

A pair is SHAPE:TYPE:FILE, a shape of `pith bench --synthetic` and a GGUF file of the same shape (weights may be
random). Prints a table of medians, the lowest and the highest in brackets.
"""
import argparse
import json
import statistics
import subprocess


def run_pith(pith, shape, kind, args):
    command = [pith, "bench", "--synthetic", shape, "--type", kind, "-p", str(args.prompt), "-n",
               str(args.generate), "-t", str(args.threads), "--repetitions", "1", "--json", "-", "-q"]
    out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return out["prefill_tokens_per_s"], out["decode_tokens_per_s"], out


def run_llama(bench, file, args):
    command = [bench, "-m", file, "-p", str(args.prompt), "-n", str(args.generate), "-t", str(args.threads), "-r",
               "1", "-o", "json"]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    prefill = next(r["avg_ts"] for r in rows if r["n_gen"] == 0)
    decode = next(r["avg_ts"] for r in rows if r["n_prompt"] == 0)
    return prefill, decode, rows[0]["model_size"]


def summary(values):
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--pith", required=True)
    p.add_argument("--llama-bench", required=True)
    p.add_argument("--pair", action="append", required=True)
    p.add_argument("--prompt", type=int, default=512)
    p.add_argument("--generate", type=int, default=64)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("-o", "--output")
    args = p.parse_args()
    results = []
    for pair in args.pair:
        shape, kind, file = pair.split(":", 2)
        ours, theirs = [], []
        for _ in range(args.rounds):
            ours.append(run_pith(args.pith, shape, kind, args))
            theirs.append(run_llama(args.llama_bench, file, args))
        last = ours[-1][2]
        results.append({
            "shape": shape, "type": kind, "peer": file.rsplit("/", 1)[-1].removesuffix(".gguf"),
            "threads": args.threads, "prompt": args.prompt, "generate": args.generate, "rounds": args.rounds,
            "pith_prefill": summary([o[0] for o in ours]), "pith_decode": summary([o[1] for o in ours]),
            "llama_cpp_prefill": summary([t[0] for t in theirs]),
            "llama_cpp_decode": summary([t[1] for t in theirs]),
            "pith_bytes_a_token": last["weight_bytes_per_token"], "llama_cpp_file_bytes": theirs[-1][2],
            "read_bytes_per_s": summary([o[2]["read_bytes_per_s"] for o in ours]),
            "decode_bandwidth_fraction": summary([o[2]["decode_bandwidth_fraction"] for o in ours]),
            "int8_peak_ops_per_s": summary([o[2]["int8_peak_ops_per_s"] for o in ours]),
            "prefill_ops_per_s": summary([o[2]["prefill_ops_per_s"] for o in ours]),
        })
    show = lambda s: f"{s['median']:.1f} ({s['low']:.1f} to {s['high']:.1f})"
    print("| model | pith prefill | llama.cpp prefill | pith decode | llama.cpp decode | of the bandwidth |")
    print("| --- | --- | --- | --- | --- | --- |")
    for r in results:
        print(f"| {r['shape']} {r['type']} / {r['peer']} | {show(r['pith_prefill'])} | {show(r['llama_cpp_prefill'])} | "
              f"{show(r['pith_decode'])} | {show(r['llama_cpp_decode'])} | "
              f"{100 * r['decode_bandwidth_fraction']['median']:.0f} % |")
    if args.output:
        with open(args.output, "w") as f:
            json.dump(results, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
