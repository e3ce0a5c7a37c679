#!/usr/bin/env python3
"""Writes configs.json: what transformers makes of variants of every family's config.json.

Usage: make_config_goldens.py variants OUT.json            every variant, one config.json each
       make_config_goldens.py run VARIANTS.json V4.json    in transformers 4: what it makes of them,
                                                           and the files that it writes for them
       make_config_goldens.py run VARIANTS.json V5.json V4.json   in transformers 5: the same, and
                                                           what it makes of the files of the other
       make_config_goldens.py merge OUT.json V5.json V4.json [--some]   the goldens of the test
Needs: torch, transformers (4.57 and 5.24 were used), numpy.

A variant takes a file that says everything and leaves out, nulls or changes one key, or has the
parameters of RoPE in another layout. The models are tiny, their weights follow the formula of
make_arch_goldens.py; nothing is stored of them but names and shapes.

configs.json: families (a config.json each), tensors ([name, shape]), lists (of indices of those),
cases. A case has a family, "set" and "drop" (what its config.json changes in the family's), and
either tensors (the index of a list), nll (mean negative log likelihood of all 48 tokens but the first) and logits (every 24th
of the last position), or refused: true where no version loads it.
"""

import copy
import json
import os
import re
import sys
import tempfile

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import make_arch_goldens as arch  # noqa: E402

LENGTH = 48
ABSENT = "absent"
SIZES = dict(num_hidden_layers=2, intermediate_size=96)

FAMILIES = {
    "llama": arch.llama(head_dim=16, **SIZES),
    "mistral": arch.classic("mistral", "MistralForCausalLM", sliding_window=7, head_dim=16, **SIZES),
    "mixtral": arch.mixtral(head_dim=16, **{**SIZES, "num_local_experts": 4}),
    "qwen2": arch.qwen2(layer_types=None, **SIZES),
    "qwen2_moe": arch.qwen2_moe(**{**SIZES, "num_experts": 4, "mlp_only_layers": [],
                                   "num_experts_per_tok": 2, "qkv_bias": True}),
    "qwen3": arch.qwen3(use_sliding_window=False, sliding_window=7, max_window_layers=1,
                        layer_types=None, **SIZES),
    "qwen3_moe": arch.qwen3_moe(use_sliding_window=False, sliding_window=7,
                                **{**SIZES, "num_experts": 4, "num_experts_per_tok": 2}),
    "phi3": arch.phi3(partial_rotary_factor=0.5, **SIZES),
    "gemma": arch.gemma("gemma", "GemmaForCausalLM", hidden_act="gelu_pytorch_tanh",
                        num_key_value_heads=1, **SIZES),
    "gemma2": arch.gemma2(layer_types=None, **SIZES),
    "gemma3_text": arch.gemma3(layer_types=None, **SIZES),
    "gpt_oss": {k: v for k, v in arch.gpt_oss(num_local_experts=4, num_hidden_layers=2).items()
                if k != "quantization_config"},
    "deepseek_v2": arch.deepseek_v2(**{**SIZES, "n_routed_experts": 4, "num_experts_per_tok": 2}),
    "deepseek_v3": arch.deepseek_v3(rope_interleave=True, **SIZES),
    "glm4_moe": arch.glm4_moe(**{**SIZES, "n_routed_experts": 4, "num_experts_per_tok": 2}),
}

YARN = {"factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3 = {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}


def long_factors(pairs):
    return {"short_factor": [1 + 0.05 * i for i in range(pairs)],
            "long_factor": [1 + 0.4 * i for i in range(pairs)]}


def scalings(pairs):
    """(name, parameters with a rope_type, other keys)"""
    yield "default", {"rope_type": "default"}, {}
    yield "linear", {"rope_type": "linear", "factor": 4.0}, {}
    yield "linear_no_factor", {"rope_type": "linear"}, {}
    yield "linear_null", {"rope_type": "linear", "factor": None}, {}
    yield "dynamic", {"rope_type": "dynamic", "factor": 2.0}, {"max_position_embeddings": 32}
    yield "llama3", {"rope_type": "llama3", **LLAMA3}, {}
    yield "llama3_no_original", {"rope_type": "llama3", **{k: v for k, v in LLAMA3.items()
                                                           if k != "original_max_position_embeddings"}}, {}
    yield "llama3_outer", {"rope_type": "llama3", **LLAMA3}, {"original_max_position_embeddings": 24}
    yield "yarn", {"rope_type": "yarn", **YARN}, {}
    yield "yarn_no_original", {"rope_type": "yarn", "factor": 4.0}, {}
    yield "yarn_no_factor", {"rope_type": "yarn", "original_max_position_embeddings": 16}, {}
    yield "yarn_null_factor", {"rope_type": "yarn", **YARN, "factor": None}, {}
    yield "yarn_outer", {"rope_type": "yarn", **YARN}, {"original_max_position_embeddings": 24}
    yield "yarn_outer_null", {"rope_type": "yarn", **YARN}, {"original_max_position_embeddings": None}
    for key, values in {"attention_factor": [0.8, None], "beta_fast": [8.0, 8, 0, None],
                        "beta_slow": [0.5, None], "mscale": [0.7, None],
                        "truncate": [False, None, True]}.items():
        for v in values:
            yield f"yarn_{key}_{v}", {"rope_type": "yarn", **YARN, key: v}, {}
    for m, a in [(0.7, 0.7), (1.0, 0.5), (0.0, 0.7), (0.7, None), (None, 0.7)]:
        yield f"yarn_mscale_{m}_{a}", {"rope_type": "yarn", **YARN, "mscale": m, "mscale_all_dim": a}, {}
    yield "linear_mscale", {"rope_type": "linear", "factor": 4.0, "mscale_all_dim": 0.7}, {}
    f = long_factors(pairs)
    yield "longrope", {"rope_type": "longrope", **f, "original_max_position_embeddings": 32}, {}
    yield "longrope_outer", {"rope_type": "longrope", **f}, {"original_max_position_embeddings": 32}
    yield "longrope_no_original", {"rope_type": "longrope", **f}, {}
    yield "longrope_factor", {"rope_type": "longrope", **f, "factor": 3.0}, {
        "original_max_position_embeddings": 32}
    yield "longrope_null_factor", {"rope_type": "longrope", **f, "factor": None}, {
        "original_max_position_embeddings": 32}
    yield "longrope_attention", {"rope_type": "longrope", **f, "attention_factor": 0.9}, {
        "original_max_position_embeddings": 32}
    yield "su", {"type": "su", **f}, {"original_max_position_embeddings": 32}
    yield "unknown", {"rope_type": "ntk", "factor": 2.0}, {}
    yield "null_type", {"rope_type": None, "factor": 2.0}, {}
    yield "both_types", {"rope_type": "linear", "type": "linear", "factor": 2.0}, {}


# What is tried of a key beside leaving it out and null.
VALUES = {
    "attention_bias": [True, False], "mlp_bias": [True, False], "qkv_bias": [False],
    "head_dim": [16, 32], "num_key_value_heads": [1, 4], "rms_norm_eps": [1e-3],
    "rope_theta": [100.0, 100], "tie_word_embeddings": [True, False],
    "hidden_act": ["gelu", "gelu_pytorch_tanh", "silu"],
    "hidden_activation": ["gelu", "silu", "gelu_pytorch_tanh"],
    "max_position_embeddings": [32, 4096], "original_max_position_embeddings": [16],
    "bos_token_id": [-1, 5000, [1], "x"], "eos_token_id": [-1, 5000, [2, 3], [], "x"],
    "partial_rotary_factor": [0.5, 0.25, 1.0, 0.0, 1.5, 0.3, "x"],
    "sliding_window": [5, 100], "use_sliding_window": [True], "max_window_layers": [0, 1, 2],
    "layer_types": [["full_attention", "sliding_attention"], ["sliding_attention"] * 2,
                    ["full_attention"], ["chunked_attention"] * 2, ["full_attention"] * 2],
    "sliding_window_pattern": [1, 3], "query_pre_attn_scalar": [32, 0.5],
    "attn_logit_softcapping": [2.0, 1.0], "final_logit_softcapping": [3.0],
    "rope_local_base_freq": [50.0], "rope_interleave": [False], "use_qk_norm": [True],
    "num_experts_per_tok": [1, 3], "num_local_experts": [4, 5], "num_experts": [4, 5, 0],
    "n_routed_experts": [6], "n_shared_experts": [0, 2], "n_group": [1, 2], "topk_group": [1],
    "norm_topk_prob": [True, False], "routed_scaling_factor": [2.0, 1, 0.0],
    "topk_method": ["greedy", "group_limited_greedy", "noaux_tc"],
    "scoring_func": ["softmax", "sigmoid"], "moe_layer_freq": [1, 2],
    "first_k_dense_replace": [0, 2], "decoder_sparse_step": [2], "mlp_only_layers": [[0], [], [1]],
    "moe_intermediate_size": [48], "shared_expert_intermediate_size": [40, 0],
    "q_lora_rank": [48], "kv_lora_rank": [24], "v_head_dim": [16], "swiglu_limit": [7.0, 3.0],
    "rope_scaling": [{}, 5, "x", []], "rope_parameters": [{}, 5],
    "use_bidirectional_attention": [False, True], "num_hidden_layers": [1, 0, 2.0, -1, "2"],
    "hidden_size": [64.0, "64", -64], "vocab_size": [True],
    "use_cache": [False], "pretraining_tp": [1, 2], "initializer_range": [0.5],
    "num_nextn_predict_layers": [0, 1, 3], "dtype": ["float32"], "torch_dtype": ["bfloat16"],
}
PAIRS = [
    {"use_sliding_window": True, "sliding_window": None}, {"use_sliding_window": True, "sliding_window": 5},
    {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 0},
    {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
    {"use_sliding_window": True, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"]},
    {"num_experts": 4, "num_local_experts": 5}, {"num_experts": ABSENT, "num_local_experts": 5},
    {"num_experts": 5, "num_local_experts": ABSENT}, {"n_routed_experts": ABSENT, "num_local_experts": 8},
    {"n_routed_experts": ABSENT, "num_experts": 8},
    {"topk_method": "group_limited_greedy", "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2},
    {"num_key_value_heads": None, "head_dim": None}, {"attention_bias": True, "mlp_bias": True},
    {"use_qk_norm": True, "attention_bias": True}, {"norm_topk_prob": True, "routed_scaling_factor": 2.5},
    {"hidden_act": ABSENT, "hidden_activation": None},
]


def variants():
    out = {}

    def add(family, name, **changes):
        config = copy.deepcopy(FAMILIES[family])
        for k, v in changes.items():
            if v == ABSENT:
                config.pop(k, None)
            else:
                config[k] = v
        out[f"{family}/{name}"] = config

    for family, base in FAMILIES.items():
        add(family, "all")
        mine = set(base) | {"layer_types", "rope_scaling", "rope_parameters", "partial_rotary_factor",
                            "original_max_position_embeddings", "attention_bias", "mlp_bias",
                            "head_dim", "sliding_window", "rope_theta", "num_hidden_layers"}
        for key in sorted(mine - {"architectures", "model_type"}):
            add(family, f"{key}=absent", **{key: ABSENT})
            add(family, f"{key}=null", **{key: None})
            for v in VALUES.get(key, []):
                add(family, f"{key}={json.dumps(v)}", **{key: v})
        for pair in PAIRS:
            if all(k in base or k.startswith("num_") for k in pair):
                add(family, json.dumps(pair), **pair)
        nested = family == "gemma3_text"
        rotated = base.get("qk_rope_head_dim") or base.get("head_dim") or 16
        part = base.get("partial_rotary_factor", 1.0)
        for name, p, more in scalings(int(rotated * part) // 2):
            legacy = {("type" if k == "rope_type" and "type" not in p else k): v for k, v in p.items()}
            plain = dict(rope_scaling=ABSENT, rope_parameters=ABSENT)
            add(family, f"scaling_{name}", **{**plain, "rope_scaling": p, **more})
            if "type" in legacy:
                add(family, f"legacy_{name}", **{**plain, "rope_scaling": legacy, **more})
            new = {"full_attention": p, "sliding_attention": {"rope_type": "default"}} if nested else p
            add(family, f"parameters_{name}", **{**plain, "rope_parameters": new, **more})
            if name in ("linear", "yarn", "longrope"):
                with_theta = ({k: {**v, "rope_theta": 50.0} for k, v in new.items()} if nested
                              else {**new, "rope_theta": 50.0})
                both = dict(rope_scaling=p, rope_parameters=with_theta)
                add(family, f"theta_inside_{name}", **{**plain, "rope_parameters": with_theta, **more})
                add(family, f"theta_only_inside_{name}", **{**plain, "rope_parameters": with_theta,
                                                            "rope_theta": ABSENT, **more})
                add(family, f"scaling_beside_{name}", **{**both, **more})
                add(family, f"scaling_beside_default_{name}", **{
                    "rope_scaling": p, "rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
                    **more})
                add(family, f"no_theta_{name}", **{**plain, "rope_scaling": p, "rope_theta": ABSENT,
                                                   **more})
        for f in (0.25, 0.5, 1.0, None):
            p = {"rope_type": "default", "rope_theta": 50.0, "partial_rotary_factor": f}
            new = {"full_attention": p, "sliding_attention": p} if nested else p
            add(family, f"part_inside_{f}", rope_scaling=ABSENT, rope_parameters=new)
            add(family, f"part_only_inside_{f}", rope_scaling=ABSENT, rope_parameters=new,
                partial_rotary_factor=ABSENT)
        flat = {"rope_type": "linear", "factor": 4.0, "rope_theta": 50.0}
        by_type = {"full_attention": flat, "sliding_attention": {"rope_type": "default"}}
        add(family, "by_type", rope_scaling=ABSENT, rope_parameters=by_type)
        add(family, "flat", rope_scaling=ABSENT, rope_parameters=flat)
        add(family, "one_type", rope_scaling=ABSENT, rope_parameters={"full_attention": flat})
        add(family, "null_type_of_layer", rope_scaling=ABSENT, rope_parameters={"full_attention": None})
    return out


DONE = {}  # by what transformers writes for a configuration


def outcome(config):
    """What a file of this content gives: its result, and what transformers writes for it."""
    with tempfile.TemporaryDirectory() as where:
        with open(os.path.join(where, "config.json"), "w") as f:
            json.dump(config, f)
        loaded = AutoConfig.from_pretrained(where)
        saved = json.loads(loaded.to_json_string())
        key = json.dumps({k: v for k, v in saved.items() if not k.endswith("_token_id")})
        if key in DONE:
            return DONE[key], saved
        with torch.device("meta"):
            meta = AutoModelForCausalLM.from_config(loaded)
        if sum(p.numel() for p in meta.parameters()) > 2_000_000:
            return None
        with arch.all_double():
            loaded = AutoConfig.from_pretrained(where)
            model, stored = arch.build(loaded)
            ids = torch.tensor([arch.tokens(LENGTH)])
            with torch.no_grad():
                logits = model(input_ids=ids, use_cache=False).logits[0].double()
        if not torch.isfinite(logits).all():
            raise ValueError("not finite")
        nll = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:]).item()
        DONE[key] = {"tensors": [[t["name"], t["shape"]] for t in stored], "nll": nll,
                     "logits": [float("%.7g" % v) for v in logits[-1, ::8].tolist()]}
        return DONE[key], saved


def run(variants_path, out_path, older_path=None):
    with open(variants_path) as f:
        todo = json.load(f)
    if older_path:
        with open(older_path) as f:
            todo.update({n: c["config"] for n, c in json.load(f).items() if n.endswith("@4")})
    cases, saved = {}, {}

    def add(name, config):
        try:
            result = outcome(config)
        except Exception as e:  # noqa: BLE001: whatever it is, it does not load
            cases[name] = {"config": config, "refused": f"{type(e).__name__}: {e}"[:200]}
            return
        if result:
            cases[name] = {"config": config, **result[0]}
            saved[name + "@" + transformers.__version__[0]] = {
                "model_type": config["model_type"], **result[1]}

    torch.set_num_threads(1)
    for i, (name, config) in enumerate(todo.items()):
        if i % 200 == 0:
            print(i, len(DONE), flush=True)
        add(name, config)
    for name, config in list(saved.items()):
        if "@" not in name[:-2]:
            add(name, config)
    with open(out_path, "w") as f:
        json.dump(cases, f)
    refused = sum("refused" in c for c in cases.values())
    print(f"{transformers.__version__}: {len(cases)} cases, {refused} refused")


def changes(base, config):
    return ({k: v for k, v in config.items() if k not in base or base[k] != v
             or type(base[k]) is not type(v)}, [k for k in base if k not in config])


def merge(out_path, v5_path, v4_path, some):
    with open(v5_path) as f:
        cases = json.load(f)
    with open(v4_path) as f:
        older = json.load(f)
    with open(v4_path) as f:
        older = json.load(f)
    differ = [n for n, c in older.items() if "nll" in c and "nll" in cases.get(n, {})
              and abs(c["nll"] - cases[n]["nll"]) > 1e-6]
    print(len(differ), "are not the same in both versions, and are as in the newer")
    # What only one version refuses is left to the reader.
    cases = {n: c for n, c in cases.items() if "nll" in c or "nll" not in older.get(n, {})}
    cases = {n: c for n, c in cases.items()
             if not re.search(REFUSED if "nll" in c else REFUSED + "|" + TAKEN, n)}
    tensors, out, seen = [], [], set()
    for name, case in cases.items():
        family = name.split("/")[0]
        to_set, drop = changes(FAMILIES[family], case["config"])
        row = {"name": name, "family": family, "set": to_set, "drop": drop}
        key = json.dumps([family, to_set, drop], sort_keys=True)
        if key in seen:
            continue
        seen.add(key)
        if "refused" in case:
            row["refused"] = True
        else:
            if case["tensors"] not in tensors:
                tensors.append(case["tensors"])
            row.update(tensors=tensors.index(case["tensors"]), nll=float("%.9g" % case["nll"]),
                       logits=[float("%.6g" % v) for v in case["logits"][::3]])
        out.append(row)
    if some:
        out = chosen(out)
    used = sorted({r["tensors"] for r in out if "tensors" in r})
    for r in out:
        if "tensors" in r:
            r["tensors"] = used.index(r["tensors"])
    known = []
    for lists in (tensors[i] for i in used):
        known += [t for t in lists if t not in known]
    lists = [[known.index(t) for t in tensors[i]] for i in used]
    line = lambda v: json.dumps(v, separators=(",", ":"))
    rows = lambda v: "[\n" + ",\n".join(line(r) for r in v) + "]"
    with open(out_path, "w") as f:
        f.write('{"families":' + line(FAMILIES) + ',\n"tensors":' + rows(known) + ',\n"lists":' +
                rows(lists) + ',\n"cases":' + rows(out) + "}\n")
    print(len(out), "cases,", sum("refused" in r for r in out), "refused,", len(used), "tensor lists")


# Refused by name, since a mistake is likelier than what transformers does (it passes over the key, or
# gives nonsense); and "type" in Gemma 3, which transformers 5 passes over and 4 does not.
REFUSED = "|".join([
    "chunked_attention", "swiglu_limit=3", "scoring_func", r'topk_method": "gr|3/topk_method="gr',
    r"routed_scaling_factor=0", "deepseek.*_bias=true", "by_type", "one_type", "null_type_of_layer",
    r"rope_scaling=\[\]", "num_hidden_layers=-1", r'partial_rotary_factor="x"', "gemma3_text/legacy",
    "gemma3_text/.*_su$", "qwen2_moe/layer_types", "deepseek_v3/(topk_group=1|num_experts_per_tok=absent)",
    r'deepseek_v3/.*num_local_experts": 5'])
# Taken, where transformers insists on a type that does not matter, or fails over what does not.
TAKEN = "|".join([
    "=null", '": null', "num_key_value_heads=(1|absent)", "n_shared_experts=0", "routed_scaling_factor=1",
    "query_pre_attn_scalar=0.5", "shared_expert_intermediate_size=0", "_su$", "outer_null",
    "gemma3_text/(partial_rotary|scaling_beside_default|rope_parameters)", "num_experts_per_tok=absent",
    "num_attention_heads=absent", "n_routed_experts=6", "deepseek_v3/(n_group|head_dim)"])


def chosen(rows):
    """What is worth a place in the repository: of each family some of what is refused, and of
    different models, with the tensors of the first, as many as there is room for: each as written
    by hand and as transformers saves it."""
    out = []
    for family in FAMILIES:
        mine = [r for r in rows if r["family"] == family]
        first = next(r for r in mine if r["name"] == family + "/all")
        models = {}
        for r in mine:
            if "refused" not in r and (r["tensors"] == first["tensors"] or "=absent" in r["name"]
                                       or "num_" in r["name"] or "head_dim" in r["name"]):
                models.setdefault((r["tensors"], round(r["nll"], 6)), []).append(r)
        for i, same in enumerate(models.values()):
            saved = [r for r in same if "@5" in r["name"]] or [r for r in same if "@4" in r["name"]]
            out += same[:1] + [r for r in saved[:1] if r is not same[0] and i % 6 == 0]
            out += [r for r in same[1:] if "inside" in r["name"] or "beside" in r["name"]][:1]
        out += [r for r in mine if "refused" in r][::6]
    return [r for i, r in enumerate(out) if r not in out[:i]]


def main():
    command, args = sys.argv[1], [a for a in sys.argv[2:] if not a.startswith("--")]
    if command == "variants":
        with open(args[0], "w") as f:
            json.dump(variants(), f)
        print(len(variants()), "variants")
    elif command == "run":
        run(*args)
    else:
        merge(*args, "--some" in sys.argv)


if __name__ == "__main__":
    main()
