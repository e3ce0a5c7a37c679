#!/usr/bin/env python3
"""Writes arch/<name>/{config.json,logits.json}: what tiny random Hugging Face models answer.

Usage: make_arch_goldens.py OUT_DIR [NAME...]      (OUT_DIR is tests/golden/arch)
Needs: torch, transformers, numpy.

No weights are stored. Element i (row-major) of the state-dict tensor NAME follows a formula that
any program can repeat (all integer arithmetic modulo 2^64):

  x = fnv1a64(utf8 of NAME) + i * 0x9E3779B97F4A7C15
  z = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB
  z = z ^ (z >> 31)
  u = (z >> 40) / 2^24 * 2 - 1                              (double, in [-1, 1))

  rank 1, NAME ends in "norm.weight"     1 + 0.1 * u
  rank 1, anything else (biases)         0.1 * u
  rank 2, NAME ends in "embed_tokens.weight"   u
  rank 2, anything else, shape [n, k]    sqrt(3.0 / k) * u
  NAME ends in ".sinks"                  2 * u
  NAME ends in "gate_up_proj_bias"       8 * u
  NAME ends in "down_proj_bias"          0.1 * u
  rank 3, [e, n, k] (experts in MXFP4)   sqrt(3.0 / k) * u as MXFP4: group j of 32 along k has the
                                         scale 2^(-5 - j mod 3), its numbers the nearest codes

computed in double and rounded to float32. A tied model has no lm_head.weight of its own.

logits.json: tokens (t_j = (7*j*j + 3*j + 5) mod 96, the whole sequence in one call), logits (nine
digits, one row of 96 for each of the last 8 positions, the first of which is first_position),
inv_freq and attention_scaling (the rotary frequencies in force during that call and the factor on
cos and sin; of Gemma 3 those of layers without a window), tensors (name, shape, first and last element of each stored tensor).

The committed config.json is the input: the model is built from that very file. The forward pass
runs in float64. Transformers forces float32 in places (RMSNorm, softmax, the rotary tables) even
for a float64 model, so those names are pointed at float64 while the model is built and run;
logits.json also records how far the unpatched float64 model is from that ("hf_float32_spots").
"""

import contextlib
import json
import math
import os
import sys

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig

transformers.logging.set_verbosity_error()
MASK = (1 << 64) - 1


def fnv1a64(data: bytes) -> int:
    h = 0xCBF29CE484222325
    for b in data:
        h = ((h ^ b) * 0x100000001B3) & MASK
    return h


def uniform(name: str, count: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        i = np.arange(count, dtype=np.uint64)
        x = np.uint64(fnv1a64(name.encode())) + i * np.uint64(0x9E3779B97F4A7C15)
        z = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**24 * 2.0 - 1.0


def mx(w: np.ndarray) -> np.ndarray:
    scale = np.exp2(-5.0 - (np.arange(w.size) // 32) % 3)
    codes = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    nearest = np.abs(np.abs(w / scale)[:, None] - codes).argmin(axis=1)
    return np.sign(w) * codes[nearest] * scale


def weight(name: str, shape) -> np.ndarray:
    u = uniform(name, int(np.prod(shape)))
    if name.endswith("gate_up_proj_bias") or name.endswith(".sinks"):
        w = (2.0 if name.endswith(".sinks") else 8.0) * u
    elif len(shape) == 1 or name.endswith("down_proj_bias"):
        w = 1.0 + 0.1 * u if name.endswith("norm.weight") else 0.1 * u
    elif name.endswith("embed_tokens.weight"):
        w = u
    elif len(shape) == 3:
        w = mx(math.sqrt(3.0 / shape[2]) * u)
    else:
        w = math.sqrt(3.0 / shape[1]) * u
    return w.astype(np.float32).reshape(shape)


def tokens(count: int):
    return [(7 * j * j + 3 * j + 5) % 96 for j in range(count)]


# ------------------------------------------------------------------------------------ the models

BASE = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.02,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "use_cache": True,
    "torch_dtype": "float32",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}


def classic(model_type: str, arch: str, **more) -> dict:
    c = {"architectures": [arch], "model_type": model_type}
    c.update(BASE)
    c.update(more)
    return c


def llama(**more):
    fixed = {"attention_bias": False, "mlp_bias": False, "rope_scaling": None, "pretraining_tp": 1}
    return classic("llama", "LlamaForCausalLM", **{**fixed, **more})


def phi3(**more):
    fixed = {"original_max_position_embeddings": 64, "rope_scaling": None, "sliding_window": None}
    return classic("phi3", "Phi3ForCausalLM", **{**fixed, **more})


def qwen2(**more):
    fixed = {"use_sliding_window": False, "sliding_window": 64, "max_window_layers": 3}
    return classic("qwen2", "Qwen2ForCausalLM", **{**fixed, **more})


def qwen3(**more):
    fixed = {"head_dim": 24, "attention_bias": False, "rope_scaling": None}
    return classic("qwen3", "Qwen3ForCausalLM", **{**fixed, **more})


def mixtral(**more):
    fixed = {"num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": None}
    return classic("mixtral", "MixtralForCausalLM", **{**fixed, **more})


def qwen3_moe(**more):
    fixed = {"head_dim": 24, "attention_bias": False, "rope_scaling": None, "num_experts": 8,
             "num_experts_per_tok": 3, "moe_intermediate_size": 40, "norm_topk_prob": True,
             "decoder_sparse_step": 1, "mlp_only_layers": []}
    return classic("qwen3_moe", "Qwen3MoeForCausalLM", **{**fixed, **more})


def qwen2_moe(**more):
    fixed = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 40,
             "shared_expert_intermediate_size": 72, "norm_topk_prob": False,
             "decoder_sparse_step": 1, "mlp_only_layers": [1],
             "use_sliding_window": False, "sliding_window": 64, "max_window_layers": 3}
    return classic("qwen2_moe", "Qwen2MoeForCausalLM", **{**fixed, **more})


def deepseek(model_type, arch, **more):
    """What the second and the third version share: the latents and the experts."""
    fixed = {"num_key_value_heads": 4, "attention_bias": False, "rope_scaling": None,
             "q_lora_rank": None, "kv_lora_rank": 32, "qk_nope_head_dim": 16,
             "qk_rope_head_dim": 8, "v_head_dim": 24, "n_routed_experts": 8,
             "num_experts_per_tok": 3, "moe_intermediate_size": 40, "first_k_dense_replace": 1,
             "moe_layer_freq": 1}
    return classic(model_type, arch, **{**fixed, **more})


def deepseek_v2(**more):
    fixed = {"n_shared_experts": 2, "topk_method": "greedy", "n_group": 1, "topk_group": 1,
             "norm_topk_prob": False, "routed_scaling_factor": 1.0, "scoring_func": "softmax"}
    return deepseek("deepseek_v2", "DeepseekV2ForCausalLM", **{**fixed, **more})


def deepseek_v3(**more):
    fixed = {"n_shared_experts": 1, "topk_method": "noaux_tc", "n_group": 4, "topk_group": 2,
             "norm_topk_prob": True, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid"}
    return deepseek("deepseek_v3", "DeepseekV3ForCausalLM", **{**fixed, **more})


def deepseek_yarn(mscale):
    return {"type": "yarn", "factor": 4, "original_max_position_embeddings": 16, "beta_fast": 32,
            "beta_slow": 1, "mscale": mscale, "mscale_all_dim": mscale}


def glm4_moe(**more):
    fixed = {"head_dim": 24, "partial_rotary_factor": 0.5, "attention_bias": True,
             "use_qk_norm": False, "rope_scaling": None, "n_routed_experts": 8,
             "n_shared_experts": 1, "num_experts_per_tok": 3, "n_group": 1, "topk_group": 1,
             "norm_topk_prob": True, "routed_scaling_factor": 1.5, "moe_intermediate_size": 40,
             "first_k_dense_replace": 1}
    return classic("glm4_moe", "Glm4MoeForCausalLM", **{**fixed, **more})


def gemma(model_type, arch, **more):
    fixed = {"head_dim": 24, "attention_bias": False, "hidden_activation": "gelu_pytorch_tanh"}
    c = classic(model_type, arch, **{**fixed, **more})
    for key in ("hidden_act", "tie_word_embeddings"):  # as in files of the time: left to defaults
        if key not in more:
            del c[key]
    return c


def gemma2(**more):
    fixed = {"query_pre_attn_scalar": 24, "sliding_window": 7, "attn_logit_softcapping": 2.5,
             "final_logit_softcapping": 6.0}
    return gemma("gemma2", "Gemma2ForCausalLM", **{**fixed, **more})


def gemma3(**more):
    fixed = {"query_pre_attn_scalar": 24, "sliding_window": 7, "sliding_window_pattern": 2,
             "attn_logit_softcapping": None, "final_logit_softcapping": None,
             "rope_theta": 1000.0, "rope_local_base_freq": 100.0,
             "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
    return gemma("gemma3_text", "Gemma3ForCausalLM", **{**fixed, **more})


def new_style_gemma3() -> dict:
    """What the installed transformers itself writes (rope_parameters by kind of layer)."""
    config = Gemma3TextConfig(**{k: v for k, v in gemma3(query_pre_attn_scalar=32).items()
                                 if k not in ("model_type", "rope_theta", "rope_local_base_freq",
                                              "rope_scaling", "torch_dtype")},
                              dtype="float32",
                              rope_parameters={
                                  "full_attention": {"rope_type": "linear", "factor": 4.0,
                                                     "rope_theta": 500.0},
                                  "sliding_attention": {"rope_type": "default",
                                                        "rope_theta": 50.0}})
    return json.loads(config.to_json_string())


def gpt_oss(**more):
    fixed = {"head_dim": 24, "attention_bias": True, "intermediate_size": 96, "num_local_experts": 6,
             "num_experts_per_tok": 2, "sliding_window": 7, "swiglu_limit": 7.0,
             "quantization_config": {"quant_method": "mxfp4"},
             "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0,
                              "beta_slow": 1.0, "truncate": False,
                              "original_max_position_embeddings": 16}}
    return classic("gpt_oss", "GptOssForCausalLM", **{**fixed, **more})


SHORT = [1.0, 1.05, 1.1, 1.2, 1.3, 1.45, 1.7, 2.0]
LONG = [1.0, 1.25, 1.6, 2.1, 2.8, 3.4, 3.8, 4.25]


def new_style_llama() -> dict:
    """What the installed transformers itself writes for a scaled model (rope_parameters)."""
    more = {k: v for k, v in BASE.items() if k not in ("rope_theta", "torch_dtype")}
    config = LlamaConfig(
        **more,
        dtype="float32",
        architectures=["LlamaForCausalLM"],
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    )
    return json.loads(config.to_json_string())


MODELS = {
    # name: (config, sequence length)
    "llama": (llama(), 24),
    "llama_tied": (llama(tie_word_embeddings=True), 24),
    "llama_headdim": (llama(head_dim=24, attention_bias=True, mlp_bias=True), 24),
    # "type" is the spelling of older files, "rope_type" the later one: both occur here.
    "llama_rope_linear": (llama(rope_scaling={"type": "linear", "factor": 4.0}), 24),
    "llama_rope_dynamic": (
        llama(max_position_embeddings=32, rope_scaling={"rope_type": "dynamic", "factor": 2.0}), 48),
    "llama3": (
        llama(max_position_embeddings=512, rope_theta=500.0, head_dim=16,
              rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                            "high_freq_factor": 4.0, "original_max_position_embeddings": 256}), 48),
    "llama_yarn": (
        llama(max_position_embeddings=256,
              rope_scaling={"rope_type": "yarn", "factor": 4.0,
                            "original_max_position_embeddings": 64}), 96),
    "llama_yarn_options": (
        llama(max_position_embeddings=256,
              rope_scaling={"rope_type": "yarn", "factor": 4.0, "beta_fast": 8.0, "beta_slow": 0.5,
                            "mscale": 1.0, "mscale_all_dim": 0.5, "truncate": False,
                            "original_max_position_embeddings": 64}), 96),
    "llama_yarn_factor": (
        llama(max_position_embeddings=256,
              rope_scaling={"rope_type": "yarn", "factor": 4.0, "attention_factor": 0.9,
                            "original_max_position_embeddings": 64}), 96),
    "llama_new_config": (new_style_llama(), 48),
    "mistral": (classic("mistral", "MistralForCausalLM", sliding_window=7), 24),
    "qwen2": (qwen2(tie_word_embeddings=True), 24),
    "qwen2_window": (qwen2(use_sliding_window=True, sliding_window=7, max_window_layers=1), 24),
    "qwen3": (qwen3(), 24),
    "qwen3_tied": (qwen3(tie_word_embeddings=True, rope_theta=1000000.0), 24),
    "mixtral": (mixtral(), 24),
    "qwen3_moe": (qwen3_moe(), 24),
    "qwen3_moe_some": (qwen3_moe(norm_topk_prob=False, mlp_only_layers=[1]), 24),
    "qwen2_moe": (qwen2_moe(), 24),
    "deepseek_v2": (deepseek_v2(), 24),
    "deepseek_v2_groups": (
        deepseek_v2(q_lora_rank=48, topk_method="group_limited_greedy", n_group=4, topk_group=2,
                    routed_scaling_factor=2.5), 24),
    "deepseek_v2_yarn": (deepseek_v2(rope_scaling=deepseek_yarn(0.707)), 48),
    # The published files leave rope_interleave to its default, which is true: so does the second.
    "deepseek_v3": (deepseek_v3(q_lora_rank=48, rope_interleave=True), 24),
    "deepseek_v3_yarn": (deepseek_v3(norm_topk_prob=False, rope_scaling=deepseek_yarn(1.0)), 48),
    "glm4_moe": (glm4_moe(), 24),
    "glm4_moe_norms": (glm4_moe(use_qk_norm=True, attention_bias=False), 24),
    "gemma": (gemma("gemma", "GemmaForCausalLM", hidden_act="gelu", num_key_value_heads=1), 24),
    "gemma2": (gemma2(), 24),
    "gemma2_untied": (gemma2(tie_word_embeddings=False, final_logit_softcapping=None,
                             query_pre_attn_scalar=32), 24),
    "gemma3": (gemma3(), 24),
    "gemma3_new_config": (new_style_gemma3(), 24),
    "gpt_oss": (gpt_oss(), 24),
    "gpt_oss_windows": (gpt_oss(layer_types=["full_attention", "sliding_attention",
                                             "full_attention"]), 24),
    "phi3": (phi3(), 24),
    "phi3_window": (phi3(sliding_window=7), 24),
    "phi3_partial": (phi3(partial_rotary_factor=0.5), 24),
    "phi3_longrope": (
        phi3(max_position_embeddings=128, original_max_position_embeddings=32,
             rope_scaling={"type": "longrope", "short_factor": SHORT, "long_factor": LONG}), 48),
    "phi3_longrope_short": (
        phi3(max_position_embeddings=128, original_max_position_embeddings=32,
             rope_scaling={"type": "longrope", "short_factor": SHORT, "long_factor": LONG}), 32),
    "phi3_longrope_partial": (
        phi3(max_position_embeddings=128, original_max_position_embeddings=32,
             partial_rotary_factor=0.75, tie_word_embeddings=True,
             rope_scaling={"type": "longrope", "short_factor": SHORT[:6],
                           "long_factor": LONG[:6]}), 48),
}


# ----------------------------------------------------------------------------------- the running

@contextlib.contextmanager
def all_double():
    saved = torch.float32, torch.float, torch.Tensor.float
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = saved


def parts(name, shape, model_type):
    """Tensors of a checkpoint that make up one of the state dict: [(name, shape, place in it)].
    Transformers 5 stacks experts; checkpoints have each on its own."""
    if ".experts." not in name or model_type == "gpt_oss" or len(shape) == 2:  # transformers 4
        return [(name, shape, ...)]
    mixtral = model_type == "mixtral"
    layer = name[: name.index("mlp.experts.")]
    where = layer + ("block_sparse_moe" if mixtral else "mlp") + ".experts."
    gate, up, down = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
    out = []
    for e in range(shape[0]):
        if name.endswith("gate_up_proj"):
            n = shape[1] // 2
            out.append((f"{where}{e}.{gate}.weight", (n, shape[2]), (e, slice(0, n))))
            out.append((f"{where}{e}.{up}.weight", (n, shape[2]), (e, slice(n, 2 * n))))
        else:
            out.append((f"{where}{e}.{down}.weight", tuple(shape[1:]), (e,)))
    return out


def build(config):
    new = {"experts_implementation": "eager"} if int(transformers.__version__[0]) >= 5 else {}
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager",
                                             dtype=torch.float64, **new).double().eval()
    tied = config.tie_word_embeddings
    stored = []
    with torch.no_grad():
        for name, p in model.state_dict().items():
            if tied and name == "lm_head.weight":
                assert p.data_ptr() == model.get_input_embeddings().weight.data_ptr()
                continue
            if config.model_type == "mixtral" and name.endswith("mlp.gate.weight"):
                stored_name = name.replace("mlp.gate", "block_sparse_moe.gate")
            else:
                stored_name = name
            if config.model_type == "gpt_oss" and name.endswith("_proj") and ".experts." in name:
                # Stored [expert, out, in]; transformers has it the other way round.
                stored_shape = (p.shape[0], p.shape[2], p.shape[1])
                w = weight(name, stored_shape)
                p.copy_(torch.from_numpy(w).transpose(1, 2))
                stored.append({"name": name, "shape": list(stored_shape),
                               "first": float(w.flat[0]), "last": float(w.flat[-1])})
                continue
            for part, shape, place in parts(stored_name, tuple(p.shape), config.model_type):
                w = weight(part, shape)
                p[place].copy_(torch.from_numpy(w))
                flat = w.reshape(-1)
                stored.append({"name": part, "shape": list(shape),
                               "first": float("%.9g" % flat[0]), "last": float("%.9g" % flat[-1])})
    return model, stored


def forward(config_dir, ids):
    config = AutoConfig.from_pretrained(config_dir)
    model, stored = build(config)
    with torch.no_grad():
        out = model(input_ids=torch.tensor([ids]), use_cache=False)
    rotary = model.model.rotary_emb
    kind = "" if hasattr(rotary, "inv_freq") else "full_attention_"
    return (out.logits[0].double().numpy(), stored, getattr(rotary, kind + "inv_freq"),
            getattr(rotary, kind + "attention_scaling"))


def dump(path, record):
    """JSON with one line per key, and one line per row of the lists of lists."""
    def rows(v):
        if isinstance(v, list) and v and isinstance(v[0], (list, dict)):
            return "[\n    " + ",\n    ".join(json.dumps(r) for r in v) + "\n  ]"
        return json.dumps(v)
    with open(path, "w") as f:
        f.write("{\n" + ",\n".join(f"  {json.dumps(k)}: {rows(v)}" for k, v in record.items()) + "\n}\n")


def main():
    out_dir, only = sys.argv[1], sys.argv[2:]
    for name, (config, length) in MODELS.items():
        if only and name not in only:
            continue
        where = os.path.join(out_dir, name)
        os.makedirs(where, exist_ok=True)
        with open(os.path.join(where, "config.json"), "w") as f:
            f.write(json.dumps(config, indent=2) + "\n")
        ids = tokens(length)
        plain, _, _, _ = forward(where, ids)
        with all_double():
            logits, stored, inv_freq, scaling = forward(where, ids)
            assert inv_freq.dtype == torch.float64
        first = length - 8
        nine = lambda row: [float("%.9g" % v) for v in row]
        dump(os.path.join(where, "logits.json"), {
            "tokens": ids,
            "first_position": first,
            "transformers": transformers.__version__,
            "hf_float32_spots": float("%.3g" % np.abs(plain - logits).max()),
            "inv_freq": nine(inv_freq.tolist()),
            "attention_scaling": float("%.9g" % scaling),
            "tensors": stored,
            "logits": [nine(row) for row in logits[first:]],
        })
        print(f"{name}: T={length} |logits| max {np.abs(logits).max():.3f} "
              f"unpatched differs by {np.abs(plain - logits).max():.2e} scaling {scaling}")


if __name__ == "__main__":
    main()
