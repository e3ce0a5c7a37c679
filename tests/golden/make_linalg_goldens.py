#!/usr/bin/env python3
"""Singular values and eigenvalues by numpy (LAPACK), for tests/core/factorizations_test.cc.

The matrices are made there as here: uniform numbers in [-1, 1) by counter (core/rng.h), columns
scaled by powers of two.

    python3 tests/golden/make_linalg_goldens.py > tests/golden/linalg.json
"""
import json
import numpy as np

MASK = (1 << 64) - 1


def mix(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def uniform(rows, columns, seed):
    key = mix((seed + 0x9E3779B97F4A7C15) & MASK) ^ mix(1)
    at = lambda i: (mix((key + i * 0x9E3779B97F4A7C15) & MASK) >> 11) * 2.0**-53 * 2 - 1
    return np.array([at(i) for i in range(rows * columns)]).reshape(rows, columns)


def matrix(case):
    a = uniform(case["m"], case["n"], case["seed"])
    if case["kind"] == "graded":
        a *= 2.0 ** -np.arange(case["n"])
    if case["kind"] == "rank 3":
        a = a[:, :3] @ uniform(3, case["n"], case["seed"] + 1)
    if case["kind"] == "huge":
        a *= 2.0**1000
    if case["kind"] == "tiny":
        a *= 2.0**-1000
    if case["kind"] == "zero":
        a *= 0
    return a


CASES = [
    ("uniform", 1, 1), ("uniform", 1, 9), ("uniform", 9, 1), ("uniform", 12, 12), ("uniform", 40, 17),
    ("uniform", 17, 40), ("uniform", 65, 33), ("graded", 30, 30), ("graded", 24, 60), ("rank 3", 20, 31),
    ("rank 3", 50, 10), ("huge", 7, 5), ("tiny", 7, 5), ("zero", 6, 4),
]
out = []
for seed, (kind, m, n) in enumerate(CASES):
    case = {"kind": kind, "m": m, "n": n, "seed": seed}
    a = matrix(case)
    case["singular"] = [float(v) for v in np.linalg.svd(a, compute_uv=False)]
    if kind not in ("huge", "tiny"):
        case["eigen"] = [float(v) for v in np.linalg.eigvalsh(a.T @ a)[::-1]]
    out.append(case)
print("[\n" + ",\n".join(json.dumps(c) for c in out) + "\n]")
