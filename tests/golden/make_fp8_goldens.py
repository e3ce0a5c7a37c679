#!/usr/bin/env python3
"""Writes fp8/<name>/{config.json,logits.json}: what transformers answers for tiny models in FP8.

Usage: make_fp8_goldens.py OUT_DIR      (OUT_DIR is tests/golden/fp8)
Needs: torch, transformers, numpy.

As in make_arch_goldens.py no weights are stored. A matrix NAME of a projection ("_proj") [n, k]
with the weights w of that file's formula is stored as e4m3 codes with a scale for each 128 x 128:

  scale(i, j) = bfloat16(sqrt(3 / k) / 448 * (1 + ((3 i + 5 j) mod 7) / 8))   block row i, column j
  code = the e4m3 nearest to float32(w / scale)

and the model that answers has the products scale * code, in float32, for weights.
"""

import json
import math
import os
import sys
import tempfile

import make_arch_goldens as base
import numpy as np
import torch

plain_weight = base.weight


def fp8_weight(name, shape):
    w = plain_weight(name, shape)
    if len(shape) != 2 or "_proj" not in name:
        return w
    n, k = shape
    i = np.arange(n)[:, None] // 128
    j = np.arange(k)[None, :] // 128
    scale = math.sqrt(3.0 / k) / 448.0 * (1.0 + ((3 * i + 5 * j) % 7) / 8.0)
    scale = torch.from_numpy(scale.astype(np.float32)).to(torch.bfloat16).float()
    codes = (torch.from_numpy(w) / scale).to(torch.float8_e4m3fn)
    return (codes.float() * scale).numpy()


QUANTIZED = {"quantization_config": {"quant_method": "fp8", "fmt": "e4m3",
                                     "activation_scheme": "dynamic",
                                     "weight_block_size": [128, 128],
                                     "modules_to_not_convert": ["lm_head"]}}
SIZES = {"hidden_size": 192, "intermediate_size": 320, "num_hidden_layers": 2}
LATENT = {"hidden_size": 160, "intermediate_size": 200, "num_hidden_layers": 2,
          "num_attention_heads": 2, "num_key_value_heads": 2, "q_lora_rank": 144,
          "kv_lora_rank": 136, "moe_intermediate_size": 136, "rope_interleave": True}
MODELS = {
    "qwen3": base.qwen3(**SIZES, head_dim=48),
    # As published: a head's keys and values are whole blocks of kv_b_proj.
    "deepseek_v3": base.deepseek_v3(**LATENT, qk_nope_head_dim=128, v_head_dim=128),
    # Blocks of kv_b_proj go across heads.
    "deepseek_v3_cut": base.deepseek_v3(**LATENT, qk_nope_head_dim=48, v_head_dim=40),
}


def main():
    out_dir = sys.argv[1]
    base.weight = fp8_weight
    for name, config in MODELS.items():
        where = os.path.join(out_dir, name)
        os.makedirs(where, exist_ok=True)
        with open(os.path.join(where, "config.json"), "w") as f:
            f.write(json.dumps({**config, **QUANTIZED}, indent=2) + "\n")
        ids = base.tokens(24)
        with tempfile.TemporaryDirectory() as plain, base.all_double():
            with open(os.path.join(plain, "config.json"), "w") as f:
                json.dump(config, f)
            logits, _, _, _ = base.forward(plain, ids)
        base.dump(os.path.join(where, "logits.json"), {
            "tokens": ids,
            "first_position": 16,
            "transformers": base.transformers.__version__,
            "logits": [[float("%.9g" % v) for v in row] for row in logits[16:]],
        })
        print(f"{name}: |logits| max {np.abs(logits).max():.3f}")


if __name__ == "__main__":
    main()
