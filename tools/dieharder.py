"""Streams endless numbers of the generator into dieharder, and keeps what it prints. Nothing else belongs here.

    python tools/dieharder.py words words.txt                                # all tests, an hour or so of a core
    python tools/dieharder.py words again.txt --seed 1 -- -d 203 -n 17 -Y 1  # one test again, with another seed

dieharder is a program of its own (Debian: `apt-get install dieharder`). It reads 32-bit words from a pipe (generator 200)
and never sees the end of it: the words of one tensor of 2^62 elements, in the order of its elements, from element 0 on.
What the words are made of:

    words     the Philox words themselves, by the kernel that all float32 and bfloat16 fills use
    uniform   float32 values of `fill` with Uniform(0, 1): 24 bits of each, packed, four values to three words
    normal    float32 values of `fill` with Normal(0, 1): the first 8 bits of the normal distribution function at each
"""

import argparse
import fcntl
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import njit

from firstlight._version import __version__
from firstlight.random import STREAM_VERSION, Normal, Uniform, fill, key
from firstlight.random.kernels import words_of
from firstlight.random.parameters import LANES, TILE

TILES = 512  # in a piece: 4 MiB of words, which stay in the cache
ENDLESS = 2**62  # elements of the logical tensor that values are filled from, piece by piece
PIPE_BYTES = 2**20


@njit(nogil=True, error_model="numpy")
def _tiles(first: Any, k0: Any, k1: Any, out: Any) -> None:
    """Write the words of whole tiles, in the order of their elements: row after row, tile after tile."""
    for tile in range(out.shape[0]):
        words_of(np.uint64(LANES) * (first + np.uint64(tile)), k0, k1, out[tile], LANES)


def words(seed: int, name: str) -> Iterator[memoryview]:
    """Yield the Philox words of the tensor, four bytes each, piece by piece."""
    stream_key = key(seed, name)
    k0, k1 = np.uint32(stream_key & 0xFFFFFFFF), np.uint32(stream_key >> 32)
    out = np.empty((TILES, 4, LANES), np.uint32)
    first = 0
    while True:
        _tiles(np.uint64(first), k0, k1, out)
        yield out.reshape(-1).view(np.uint8).data
        first += TILES


def _values(law: Uniform | Normal, seed: int, name: str) -> Iterator[Any]:
    piece = torch.empty(TILES * TILE)
    offset = 0
    while True:
        fill(piece, law, seed=seed, name=name, shape=(ENDLESS,), offset=(offset,))
        yield piece.numpy()
        offset += piece.numel()


def uniform(seed: int, name: str) -> Iterator[memoryview]:
    """Yield the 24 bits of uniform values, three bytes each."""
    for values in _values(Uniform(), seed, name):
        yield _packed(values).data


@njit(nogil=True, error_model="numpy")
def _packed(values: Any) -> Any:
    out = np.empty((values.size, 3), np.uint8)
    for i in range(values.size):
        bits = np.uint32(values[i] * np.float32(2**24))
        out[i, 0], out[i, 1], out[i, 2] = bits & 255, (bits >> 8) & 255, bits >> 16
    return out.reshape(-1)


def normal(seed: int, name: str) -> Iterator[memoryview]:
    """Yield the place of normal values among 256 intervals of equal probability, one byte each.

    More bits would find the spacing of float32, which is no fault: a border of an interval falls between two values.
    """
    from scipy import special

    borders = special.ndtri(np.arange(1, 256) / 256).astype(np.float32)
    for values in _values(Normal(), seed, name):
        yield _places(values, borders).data


@njit(nogil=True, error_model="numpy")
def _places(values: Any, borders: Any) -> Any:
    """Return how many borders lie at or below each value: a search in eight halvings."""
    places = np.empty(values.size, np.uint8)
    for i in range(values.size):
        at = 0
        for half in (128, 64, 32, 16, 8, 4, 2, 1):
            at += half if values[i] >= borders[at + half - 1] else 0
        places[i] = at
    return places


SOURCES: dict[str, Callable[[int, str], Iterator[memoryview]]] = {"words": words, "uniform": uniform, "normal": normal}


# What dieharder prints. Its speed is left out: to measure it, it reads a number of words that no two runs share.
SHOWN = ("line_header", "test_name", "ntuple", "tsamples", "psamples", "pvalues", "assessment")


def _version() -> str:
    about = subprocess.run(["dieharder", "-l"], capture_output=True, text=True, check=True).stdout
    return " ".join(about.splitlines()[1].strip("# ").split()[:3])


def _one(test: str) -> list[str]:
    """Return dieharder's options for a test, given as its number, or as number:n."""
    number, _, n = test.partition(":")
    return ["-d", number, *(["-n", n] if n else [])]


def feed(pieces: Iterator[memoryview], command: list[str], record: Path) -> tuple[int, int]:
    """Run the command on the endless pieces; return its exit status and the bytes it was given."""
    given = 0
    with record.open("ab") as output:
        reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, bufsize=0)
        assert reader.stdin is not None
        fcntl.fcntl(reader.stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        try:
            for piece in pieces:
                given += piece.nbytes
                view = piece
                while view.nbytes:
                    sent = os.write(reader.stdin.fileno(), view)
                    view = view[sent:]
        except BrokenPipeError:
            reader.stdin = None  # the reader has left: it has what it needs
        return reader.wait(), given


def main() -> int:
    """Write a header, then whatever dieharder prints, then how much it was given."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="what follows -- is for dieharder; default -a, all tests",
    )
    parser.add_argument("source", choices=SOURCES)
    parser.add_argument("record", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="dieharder")
    parser.add_argument(
        "--tests",
        help="with commas: each test alone, on the stream as it goes on, instead of -a; 203:8 is test 203 with -n 8",
    )
    own = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    options = sys.argv[len(own) + 2 :]
    asked = parser.parse_args(own)
    if asked.record.exists():
        parser.error(f"{asked.record} exists. Remove it, or give another name. Nothing was run.")
    runs = [[*_one(test), *options] for test in asked.tests.split(",")] if asked.tests else [options or ["-a"]]
    date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    asked.record.write_text(
        f"$ python {shlex.join(sys.argv)}\n"
        f"stream version {STREAM_VERSION}, firstlight {__version__}, {_version()}, {date}\n\n"
    )
    pieces, status = SOURCES[asked.source](asked.seed, asked.name), 0
    for run in runs:
        command = ["dieharder", "-g", "200", *(word for flag in SHOWN for word in ("-D", flag)), *run]
        with asked.record.open("a") as output:
            output.write(f"$ {shlex.join(command)}\n")
        done, given = feed(pieces, command, asked.record)
        status = status or done
        with asked.record.open("a") as output:
            output.write(f"exit status {done}; {given / 2**30:,.1f} GiB of words given\n\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
