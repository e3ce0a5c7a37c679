#!/usr/bin/env python3
"""How tokens per second change with context, batch and threads, and the figures of it.

  bench/cpu/curves.py measure --pith build/release/pith -o bench/results/cpu-curves.json
  bench/cpu/curves.py draw bench/results/cpu-curves.json docs/figures

Points are measured in turns, `--rounds` times; the figures show medians, bars the lowest and the highest.
"""
import argparse
import json
import math
import os
import statistics
import subprocess

CONTEXTS = [0, 1024, 2048, 4096, 8192, 16384, 32768]
CACHES = ["f16", "int8", "int4"]
BATCHES = [1, 2, 4, 8, 16, 32]


def run(pith, shape, options):
    command = [pith, "bench", "--synthetic", shape, "--type", "w4", "--repetitions", "1", "--json", "-", "-q"]
    out = subprocess.run(command + options, check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def measure(args):
    points = []  # curve, series, x, options, figure
    for kv in CACHES:
        points += [("context", kv, c, ["-d", str(c), "--kv", kv, "-p", "1", "-n", "16"], "decode_tokens_per_s")
                   for c in CONTEXTS]
    points += [("prefill", "f16", c, ["-d", str(c), "-p", "512", "-n", "1"], "prefill_tokens_per_s")
               for c in CONTEXTS]
    points += [("batch", "f16", b, ["-b", str(b), "-d", "512", "-p", "1", "-n", "8"], "decode_tokens_per_s")
               for b in BATCHES]
    for t in range(1, args.threads + 1):
        points.append(("threads", "decode", t, ["-t", str(t), "-p", "1", "-n", "32"], "decode_tokens_per_s"))
        points.append(("threads", "prefill", t, ["-t", str(t), "-p", "512", "-n", "1"], "prefill_tokens_per_s"))
    points = [p for p in points if not args.curve or p[0] in args.curve]
    values = [[] for _ in points]
    for _ in range(args.rounds):
        for p, v in zip(points, values):
            v.append(run(args.pith, args.shape, p[3])[p[4]])
    kept = []
    if args.curve and os.path.exists(args.output):
        with open(args.output) as f:
            kept = [p for p in json.load(f)["points"] if p["curve"] not in args.curve]
    result = {"shape": args.shape, "type": "w4", "rounds": args.rounds, "threads": args.threads, "points": kept + [
        {"curve": p[0], "series": p[1], "x": p[2], "options": " ".join(p[3]), "median": statistics.median(v),
         "low": min(v), "high": max(v)} for p, v in zip(points, values)]}
    with open(args.output, "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")


COLOURS = ["#1f6fb4", "#d9730d", "#2e8b57"]


def draw(title, x_title, ticks, place, series):
    """One chart: ticks [(x, text)], place(x) in [0, 1], series {name: points}."""
    width, height, left, top, right, bottom = 640, 360, 64, 40, 20, 48
    inner_w, inner_h = width - left - right, height - top - bottom
    highest = max(p["high"] for points in series.values() for p in points)
    step = 10 ** math.floor(math.log10(highest))
    step = next(s for s in (step / 5, step / 2, step, 2 * step) if highest / s <= 6)
    ceiling = math.ceil(highest / step) * step
    at = lambda x, y: (left + place(x) * inner_w, top + inner_h * (1 - y / ceiling))
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
           f'font-size="12">', f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="{left}" y="22" font-size="14">{title}</text>']
    for i in range(round(ceiling / step) + 1):
        y = at(ticks[0][0], i * step)[1]
        out.append(f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{i * step:g}</text>')
    for x, text in ticks:
        out.append(f'<text x="{at(x, 0)[0]:.1f}" y="{height - bottom + 18}" text-anchor="middle">{text}</text>')
    out.append(f'<text x="{left + inner_w / 2}" y="{height - 8}" text-anchor="middle">{x_title}</text>')
    for (name, points), colour in zip(series.items(), COLOURS):
        line = " ".join("%.1f,%.1f" % at(p["x"], p["median"]) for p in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for p in points:
            x, y = at(p["x"], p["median"])
            low, high = at(p["x"], p["low"])[1], at(p["x"], p["high"])[1]
            out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{colour}"/>')
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
    for i, (name, colour) in enumerate(zip(series, COLOURS)):
        x = width - right - 70 * (len(series) - i)
        out.append(f'<rect x="{x}" y="14" width="10" height="10" fill="{colour}"/>')
        out.append(f'<text x="{x + 14}" y="23">{name}</text>')
    return "\n".join(out + ["</svg>", ""])


def draw_all(args):
    with open(args.results) as f:
        result = json.load(f)
    what = f'{result["shape"]}, {result["type"]}, {result["threads"]} threads'
    short = lambda n: f"{n // 1024}k" if n >= 1024 else str(n)
    by_log = lambda low, high: lambda x: math.log(max(x, low) / low) / math.log(high / low)
    contexts = [(c, short(c)) for c in CONTEXTS]
    charts = {
        "context": (f"Decode tokens/s by type of the cache: {what}", "tokens before", contexts, by_log(512, 32768)),
        "prefill": (f"Prefill tokens/s of 512 tokens: {what}", "tokens before", contexts, by_log(512, 32768)),
        "batch": (f"Decode tokens/s of all sequences: {what}", "sequences", [(b, str(b)) for b in BATCHES],
                  by_log(1, 32)),
        "threads": (f"Tokens/s: {result['shape']}, {result['type']}", "threads",
                    [(t, str(t)) for t in range(1, result["threads"] + 1)],
                    lambda x: (x - 1) / max(1, result["threads"] - 1)),
    }
    os.makedirs(args.folder, exist_ok=True)
    for curve, (title, x_title, ticks, place) in charts.items():
        series = {}
        for p in result["points"]:
            if p["curve"] == curve:
                series.setdefault(p["series"], []).append(p)
        with open(os.path.join(args.folder, f"cpu-{curve}.svg"), "w") as f:
            f.write(draw(title, x_title, ticks, place, series))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = p.add_subparsers(required=True)
    m = commands.add_parser("measure")
    m.add_argument("--pith", required=True)
    m.add_argument("--shape", default="llama-850m")
    m.add_argument("--threads", type=int, default=os.cpu_count())
    m.add_argument("--rounds", type=int, default=3)
    m.add_argument("--curve", action="append", help="this one alone; others stay in the file (default: all)")
    m.add_argument("-o", "--output", required=True)
    m.set_defaults(call=measure)
    d = commands.add_parser("draw")
    d.add_argument("results")
    d.add_argument("folder")
    d.set_defaults(call=draw_all)
    args = p.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
