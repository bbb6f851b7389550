"""Writes tests/random/data/goldens.json from the reference. Run once a stream version: a released stream never changes.

Floats are stored as hexadecimal bit patterns. `python tests/random/make_goldens.py` refuses to overwrite.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from firstlight.random import STREAM_VERSION, Law, Normal, TruncatedNormal, Uniform, key
from firstlight.random.reference import values

PATH = Path(__file__).parent / "data" / f"goldens-{STREAM_VERSION}.json"
LAWS: dict[str, Law] = {
    "uniform": Uniform(0.0, 1.0),
    "uniform-symmetric": Uniform(-0.05, 0.05),
    "normal": Normal(0.0, 1.0),
    "normal-small": Normal(0.0, 0.02),
    "normal-shifted": Normal(1.0, 0.5),
    "truncated-normal": TruncatedNormal(0.0, 1.0, -2.0, 2.0),
    "truncated-normal-loose": TruncatedNormal(0.0, 0.02, -2.0, 2.0),
    "truncated-normal-wide": TruncatedNormal(0.0, 1.0, -3.0, 3.0),
    "truncated-normal-one-sided": TruncatedNormal(0.0, 1.0, 2.0, 3.0),
    "truncated-normal-half-line": TruncatedNormal(0.0, 1.0, 0.0, math.inf),
}
INDICES = [
    0,
    1,
    2,
    63,
    64,
    65,
    127,
    128,
    191,
    192,
    255,
    256,
    257,
    1000,
    65_535,
    2**31,
    2**32 + 7,
    2**40 + 77,
    2**62 + 3,
]
KEYS = [(0, ""), (0, "fc.weight"), (1, "fc.weight"), (2**64 - 1, "transformer.h.0.attn.c_attn.weight"), (7, "重み")]


def goldens() -> dict[str, Any]:
    """Return the whole table."""
    index = np.array(INDICES, np.uint64)
    laws = {label: [type(law).__name__, asdict(law)] for label, law in LAWS.items()}
    table: dict[str, Any] = {
        "stream_version": STREAM_VERSION,
        "indices": INDICES,
        "keys": [],
        "laws": laws,
        "values": {},
    }
    for seed, name in KEYS:
        table["keys"].append({"seed": seed, "name": name, "key": f"{key(seed, name):016x}"})
    for label, law in LAWS.items():
        single = values(law, index, seed=0, name="fc.weight")
        double = values(law, index, seed=0, name="fc.weight", double=True)
        table["values"][label] = {
            "float32": [f"{bits:08x}" for bits in single.view(np.uint32).tolist()],
            "float64": [f"{bits:016x}" for bits in double.view(np.uint64).tolist()],
        }
    return table


if __name__ == "__main__":
    with PATH.open("x") as file:
        json.dump(goldens(), file, indent=1)
