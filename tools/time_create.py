"""How fast `create` is beside the generator alone and the disk alone, in turn in one process. Nothing else belongs here.

    python tools/time_create.py --rounds 5                  # a Llama of 1.1e9 parameters in bfloat16, 2.2 GB
    python tools/time_create.py --hidden 3072 --layers 28   # 3.2e9 parameters, 6.4 GB in two files

A round is one of each, and a line. create: the whole call, model and plan included. generator: `fill` into one block, again
and again. disk: the same bytes past the page cache and an `fsync`, one write of 32 MiB at a time; reserved: three writes of
16 MiB at a time into room that was set aside first; sink: through what create itself writes with, and nothing is made. The
first round, with imports and kernels to load, is not counted.
"""

import argparse
import json
import mmap
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch

import firstlight as fl
from firstlight.bench.timing import seconds
from firstlight.checkpoint.disk import BLOCK, Blocks, Sink
from firstlight.random import Normal, fill


def config(hidden: int, layers: int) -> dict[str, object]:
    """Return a Llama's config; its widths follow from the hidden size as in TinyLlama."""
    heads = hidden // 64
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 32_000,
        "hidden_size": hidden,
        "intermediate_size": hidden * 11 // 4,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 8),
        "tie_word_embeddings": False,
    }


def create(folder: Path, recipe: str) -> int:
    """Write a checkpoint of the folder's config, and return the bytes of its values."""
    return fl.create(folder / "config.json", folder / "out", recipe=recipe, dtype="bfloat16").bytes


def generate(count: int) -> None:
    """Make as many values as a checkpoint of `count` bytes in bfloat16 holds."""
    block = torch.empty(2**23, dtype=torch.bfloat16)
    for _ in range(-(-count // 2**24)):
        fill(block, Normal(std=0.02), seed=0, name="alone")


def write(path: Path, count: int, block: int, writers: int, *, reserve: bool) -> None:
    """Write `count` bytes, whole blocks, past the page cache, and remove the file."""
    memory = mmap.mmap(-1, block)
    memory.write(os.urandom(2**20) * (block // 2**20))
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    try:
        if reserve:
            os.posix_fallocate(file, 0, -(-count // block) * block)
        with ThreadPoolExecutor(writers) as threads:
            list(threads.map(lambda at: os.pwrite(file, memory, at), range(0, count, block)))
        os.fsync(file)
    finally:
        os.close(file)
        path.unlink()


def pour(path: Path, count: int) -> None:
    """Write `count` bytes through create's sink, and remove the file."""
    with Blocks() as blocks, Sink(path, count, blocks) as sink:
        for first in range(0, count, BLOCK):
            sink.space(min(BLOCK, count - first))
    path.unlink()


def speeds(folder: Path, recipe: str) -> dict[str, float]:
    """Return GB/s of everything that is compared, in turn."""
    start = time.perf_counter()
    size = create(folder, recipe)
    took = {"create": time.perf_counter() - start}
    shutil.rmtree(folder / "out")
    jobs = {
        "generator": partial(generate, size),
        "disk": partial(write, folder / "alone", size, 2**25, 1, reserve=False),
        "reserved": partial(write, folder / "alone", size, 2**24, 3, reserve=True),
        "sink": partial(pour, folder / "alone", size),
    }
    took |= {name: seconds(job) for name, job in jobs.items()}
    return {name: size / time_ / 1e9 for name, time_ in took.items()}


def main() -> None:
    """Print a line a round, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=22)
    parser.add_argument("--recipe", default="normal:std=0.02")
    parser.add_argument("--folder", default=".", help="where to write; on the disk that is to be measured")
    asked = parser.parse_args()
    rounds = []
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(config(asked.hidden, asked.layers)))
        for number in range(asked.rounds + 1):
            found = speeds(folder, asked.recipe)
            load = f"load {os.getloadavg()[0]:.1f}{'' if number else ', not counted'}"
            print(*(f"{what} {speed:.2f} GB/s, " for what, speed in found.items()), load, flush=True)
            rounds.append(found)
    medians = {what: statistics.median(found[what] for found in rounds[1:]) for what in rounds[0]}
    print(*(f"{what} {speed:.2f} GB/s, " for what, speed in medians.items()), "median")


if __name__ == "__main__":
    main()
