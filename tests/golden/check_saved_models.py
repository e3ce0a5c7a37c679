#!/usr/bin/env python3
"""Compares pith with transformers on folders as save_pretrained writes them, of every family.

Usage: check_saved_models.py PITH TOKENIZER_FOLDER TEXT WORK_FOLDER
Needs: torch, transformers (4 or 5), tokenizers, and a tokenizer of at most 2048 tokens.

Prints the perplexity of both (protocol gptq-128, 3 windows) and the relative difference.
"""

import json
import math
import os
import shutil
import subprocess
import sys

import torch
import transformers
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_config_goldens import FAMILIES  # noqa: E402


def perplexity(model, ids):
    nll = 0
    for w in range(3):
        x = torch.tensor([ids[w * 128:(w + 1) * 128]])
        with torch.no_grad():
            logits = model(input_ids=x, use_cache=False).logits[0].double()
        nll += torch.nn.functional.cross_entropy(logits[:-1], x[0, 1:], reduction="sum").item()
    return math.exp(nll / (3 * 127))


def main():
    pith, tokenizer, text, work = sys.argv[1:]
    with open(text, newline="") as f:
        lines = f.read().removesuffix("\n").split("\n")
    rows = "\n\n".join(line + "\n" if line.strip() else "" for line in lines)
    ids = Tokenizer.from_file(os.path.join(tokenizer, "tokenizer.json")).encode(rows).ids
    worst = 0
    torch.manual_seed(0)
    for family, config in FAMILIES.items():
        where = os.path.join(work, f"{family}-{transformers.__version__[0]}")
        os.makedirs(where, exist_ok=True)
        with open(os.path.join(where, "config.json"), "w") as f:
            json.dump({**config, "vocab_size": 2048, "max_position_embeddings": 256}, f)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(where),
                                                 attn_implementation="eager").float().eval()
        with torch.no_grad():
            for name, p in model.named_parameters():
                if p.dim() > 1:
                    p.normal_(0, 0.3 if "embed" in name else 0.6 / p.shape[-1] ** 0.5)
        model.save_pretrained(where)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(os.path.join(tokenizer, name), where)
        loaded = AutoModelForCausalLM.from_pretrained(where, attn_implementation="eager",
                                                      dtype=torch.float32).eval()
        expected = perplexity(loaded, ids)
        answer = subprocess.run([pith, "eval", "ppl", where, "--text", text, "--protocol", "gptq-128",
                                 "--max-windows", "3", "--json", "-", "-q"],
                                capture_output=True, text=True, check=True)
        got = json.loads(answer.stdout)["perplexity"]
        worst = max(worst, abs(got / expected - 1))
        print(f"{family} {expected:.4f} {got:.4f} {abs(got / expected - 1):.1e}", flush=True)
    print(f"transformers {transformers.__version__}: the worst {worst:.1e}")


if __name__ == "__main__":
    main()
