"""Writes random blocks of every ggml type with the values that the `gguf` Python package decodes them to.

Usage: make_ggml_goldens.py OUTPUT.json     (needs: pip install gguf numpy)

Rows hold two blocks; codes are random, scales are finite f16 numbers of many magnitudes, subnormal ones included.
"""

import json
import sys

import gguf
import numpy as np

# type -> byte offsets of the f16 scales in a block
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "IQ4_NL": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "MXFP4": [],  # a power of two in its first byte
}
ROWS = 2


def blocks_per_row(block):
    return 3 if block == 32 else 1


def random_scale(rng):
    magnitude = float(np.exp2(rng.uniform(-20.0, 4.0)))
    return np.float16(magnitude * rng.choice([-1.0, 1.0]))


def main(path):
    rng = np.random.default_rng(20240607)
    cases = []
    for name, scales in SCALES.items():
        type_ = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[type_]
        k = block * blocks_per_row(block)
        data = rng.integers(0, 256, (ROWS * k // block, size), dtype=np.uint8)
        for row in data:
            for offset in scales:
                row[offset:offset + 2] = np.frombuffer(random_scale(rng).tobytes(), dtype=np.uint8)
        if name == "MXFP4":
            data[:, 0] = np.minimum(data[:, 0], 250)
            data[0, 0] = 0
        data = data.reshape(ROWS, -1)
        values = gguf.quants.dequantize(data, type_).astype(np.float32)
        assert values.shape == (ROWS, k) and np.isfinite(values).all()
        cases.append({
            "type": int(type_), "name": name.lower(), "rows": ROWS, "k": k,
            "bytes": data.tobytes().hex(), "f32": values.astype("<f4").tobytes().hex(),
        })
    with open(path, "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
