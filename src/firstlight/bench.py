"""How fast values are made, against torch.nn.init and against storing a constant, side by side in one process."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from firstlight.errors import OptionError
from firstlight.random import Law, Normal, TruncatedNormal, Uniform, fill

COUNT = 2**26
KINDS: dict[str, tuple[Law, Callable[[torch.Tensor], Any]]] = {
    "uniform": (Uniform(0.0, 1.0), torch.nn.init.uniform_),
    "normal": (Normal(0.0, 1.0), torch.nn.init.normal_),
    "truncated-normal": (TruncatedNormal(0.0, 1.0, -2.0, 2.0), torch.nn.init.trunc_normal_),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One kind of value in one dtype. Speeds are in 10^9 values a second, medians of the rounds.

    against_torch and against_constant are speed ratios: firstlight over torch.nn.init, firstlight over `tensor.fill_`.
    """

    kind: str
    dtype: str
    count: int
    threads: int
    firstlight: float
    torch: float
    constant: float

    @property
    def against_torch(self) -> float:
        """How many times as fast as torch.nn.init."""
        return self.firstlight / self.torch

    @property
    def against_constant(self) -> float:
        """Which part of the speed of storing a constant."""
        return self.firstlight / self.constant

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        return asdict(self) | {"against_torch": self.against_torch, "against_constant": self.against_constant}


def bench(*, count: int = COUNT, rounds: int = 3) -> Iterator[BenchRow]:
    """Yield a row for every kind and dtype as soon as it is measured.

    In every round firstlight, torch and the constant take their turn on the same tensor with torch's thread count,
    after one round that is not counted (it compiles kernels and touches the memory).

    Args:
        count: values a fill.
        rounds: counted rounds; the median is reported.
    """
    for dtype_name, dtype in DTYPES.items():
        tensor = _empty(count, dtype)
        for kind, (law, theirs) in KINDS.items():
            fills = {
                "firstlight": partial(fill, tensor, law, seed=0, name="bench"),
                "torch": partial(theirs, tensor),
                "constant": partial(tensor.fill_, 1.0),
            }
            speeds = {name: count / seconds / 1e9 for name, seconds in _in_turn(fills, rounds).items()}
            yield BenchRow(kind, dtype_name, count, torch.get_num_threads(), **speeds)


def _empty(count: int, dtype: torch.dtype) -> torch.Tensor:
    try:
        return torch.empty(count, dtype=dtype)
    except RuntimeError as error:
        raise OptionError(
            f"{count} values do not fit into memory. Give a smaller count. Nothing was measured."
        ) from error


def cold_start() -> float:
    """Return the seconds of the first fill of this process: it loads the kernels and, once a machine, compiles them."""
    return _seconds(partial(fill, torch.empty(256), Normal(), seed=0, name="bench"))


def _in_turn(fills: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in fills}
    for turn in range(rounds + 1):
        for name, job in fills.items():
            if turn or name != "torch":  # nothing of torch's needs warming, and its truncated normal takes seconds
                taken[name].append(_seconds(job))
    return {name: statistics.median(times[-rounds:]) for name, times in taken.items()}


def _seconds(job: Callable[[], Any]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start
