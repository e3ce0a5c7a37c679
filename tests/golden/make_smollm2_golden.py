#!/usr/bin/env python3
"""Writes smollm2/logits.json: what SmolLM2-135M-Instruct (a Q4_1 GGUF file) answers in float64.

Usage: make_smollm2_golden.py MODEL.gguf OUT_DIR        (OUT_DIR is tests/golden/smollm2)
Needs: torch, transformers, gguf, tokenizers, numpy.

The weights are dequantized by the `gguf` package through transformers' gguf_file option and go
into transformers' Llama model, which runs in float64 (see all_double in make_arch_goldens.py), so
no kernel of llama.cpp takes part. The tokenizer is built here from the vocabulary and merges of
the file: digits one by one, then GPT-2's byte-level split, which is what "smollm" stands for.
"""

import hashlib
import json
import os
import sys

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

from make_arch_goldens import all_double, dump
from make_tokenizer_goldens import smollm2_from_gguf

TEXT = (
    "The lighthouse keeper kept two notebooks. In the first she wrote the weather: wind from the "
    "north-west, 14 knots, rain before noon. In the second she wrote what the weather could not "
    "explain, such as why the gulls went quiet at a quarter past four, or who had lit the lamp on "
    "the evening she fell asleep. She never compared them, because she didn't want to know which "
    "one was the truer record."
)


def main():
    path, out_dir = sys.argv[1], sys.argv[2]
    ids = smollm2_from_gguf(path).encode(TEXT, add_special_tokens=False).ids
    folder, file = os.path.split(os.path.abspath(path))
    with all_double():
        model = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=file, dtype=torch.float64, attn_implementation="eager").eval()
        model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
        assert model.model.rotary_emb.inv_freq.dtype == torch.float64
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].numpy()
    assert logits.dtype == np.float64

    top = logits.max(axis=1)
    lse = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    nll = [lse[p] - logits[p, ids[p + 1]] for p in range(len(ids) - 1)]
    first = len(ids) - 6
    nine = lambda v: float("%.9g" % v)
    rows = []
    for p in range(first, len(ids)):
        best = np.argsort(-logits[p], kind="stable")[:32]
        rows.append({
            "position": p,
            "logsumexp": nine(lse[p]),
            "mean": nine(logits[p].mean()),
            "std": nine(logits[p].std()),
            "top": [[int(i), nine(logits[p, i])] for i in best],
        })
    os.makedirs(out_dir, exist_ok=True)
    dump(os.path.join(out_dir, "logits.json"), {
        "gguf_sha256": hashlib.sha256(open(path, "rb").read()).hexdigest(),
        "transformers": transformers.__version__,
        "rms_norm_eps": model.config.rms_norm_eps,
        "rope_theta": model.config.rope_parameters["rope_theta"],
        "text": TEXT,
        "tokens": ids,
        "first_position": first,
        "average_nll": nine(np.mean(nll)),
        "nll": [nine(v) for v in nll],
        "positions": rows,
    })
    if len(sys.argv) > 3:  # every logit, for a comparison by hand
        np.save(sys.argv[3], logits)
    print(len(ids), "tokens, average nll", np.mean(nll), "perplexity", np.exp(np.mean(nll)))


if __name__ == "__main__":
    main()
