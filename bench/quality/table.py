"""Joins what run.sh measured into OUT_DIR/quality.json and prints it as a table."""
import json
import os
import sys

out, names, files, evaluations = sys.argv[1], sys.argv[2].split(","), sys.argv[3].split(","), sys.argv[4:]


def size(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(path, f)) for f in os.listdir(path) if f.endswith(".safetensors"))


rows = []
for name, file in zip(names, files):
    row = {"name": name, "bytes": size(file), "texts": {}}
    report = os.path.join(out, name + ".json")
    if os.path.exists(report):
        made = json.load(open(report))
        row.update({k: made[k] for k in ("type", "method", "bits_per_weight", "calibration_tokens", "seconds")})
    rows.append(row)
meta = {}
for path in evaluations:
    e = json.load(open(path))
    text = os.path.basename(path)[len("eval-"):-len(".json")]
    meta[text] = {k: e[k] for k in ("protocol", "windows", "tokens", "text_hash", "base_perplexity")}
    for row, result in zip(rows, e["models"]):
        row["texts"][text] = {k: result[k] for k in (
            "kl_mean", "kl_standard_error", "kl_median", "kl_p99", "kl_p999", "kl_max", "same_top",
            "perplexity", "ppl_ratio", "ppl_ratio_standard_error")}
json.dump({"texts": meta, "rows": rows}, open(os.path.join(out, "quality.json"), "w"), indent=1)

for text, m in meta.items():
    print(f"\n{text}: {m['protocol']}, {m['windows']} windows, {m['tokens']} tokens, "
          f"base perplexity {m['base_perplexity']:.3f}\n")
    print("| | MB | mean KL | perplexity | same top token | s to make |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        r = row["texts"][text]
        seconds = f"{row['seconds']:.0f}" if "seconds" in row else ""
        print(f"| {row['name']} | {row['bytes'] / 1e6:.2f} | {r['kl_mean']:.4f} ± {r['kl_standard_error']:.4f} "
              f"| {r['perplexity']:.3f} ({100 * (r['ppl_ratio'] - 1):+.2f} ± {100 * r['ppl_ratio_standard_error']:.2f} %) "
              f"| {100 * r['same_top']:.1f} % | {seconds} |")
