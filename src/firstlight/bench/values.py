"""Values a second of one tensor at a time, against torch.nn.init and against storing a constant; and of the first fill."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from firstlight.bench.timing import in_turn, seconds
from firstlight.errors import OptionError
from firstlight.init.structured import orthogonal_
from firstlight.random import Law, Normal, TruncatedNormal, Uniform, fill

COUNT = 2**26
SIDE = 4096
KINDS: dict[str, tuple[Law, Callable[[torch.Tensor], Any]]] = {
    "uniform": (Uniform(0.0, 1.0), torch.nn.init.uniform_),
    "normal": (Normal(0.0, 1.0), torch.nn.init.normal_),
    "truncated-normal": (TruncatedNormal(0.0, 1.0, -2.0, 2.0), torch.nn.init.trunc_normal_),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
_FIRST_FILL = "from firstlight.bench import cold_start; print(cold_start())"


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One kind of value in one dtype. Speeds are in 10^9 values a second, medians of the rounds.

    against_torch and against_constant are speed ratios: firstlight over torch.nn.init, firstlight over `tensor.fill_`.
    """

    kind: str
    dtype: str
    count: int
    threads: int
    device: str
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


def bench(*, count: int = COUNT, rounds: int = 3, device: str = "cpu") -> Iterator[BenchRow]:
    """Yield a row for every kind and dtype as soon as it is measured.

    In every round firstlight fills a tensor of each dtype, then torch does, then the constant is stored: dtypes are compared
    within the same moments, as makers are. A fill that is not counted loads kernels and touches the memory.

    Args:
        count: values a fill.
        rounds: counted rounds; the median is reported.
        device: where the tensors are; on 'cuda' a job ends when the device has done it.

    Raises:
        OptionError: if the values do not fit into memory.
    """
    tensors = {name: _empty(count, dtype, device) for name, dtype in DTYPES.items()}
    for kind, (law, theirs) in KINDS.items():
        ours = partial(fill, law=law, seed=0, name="bench")
        yield from _rows(kind, tensors, ours, theirs, rounds)


def bench_orthogonal(*, side: int = SIDE, rounds: int = 3) -> Iterator[BenchRow]:
    """Yield the row of a square orthogonal matrix in float32, measured as in `bench`.

    Args:
        side: rows and columns.
        rounds: counted rounds; the median is reported.
    """
    ours = partial(orthogonal_, seed=0, name="bench")
    yield from _rows("orthogonal", {"float32": torch.empty(side, side)}, ours, torch.nn.init.orthogonal_, rounds)


def cold_start() -> float:
    """Return the seconds of the first fill of this process: it loads the kernels and, once a machine, compiles them."""
    return seconds(partial(fill, torch.empty(256), Normal(), seed=0, name="bench"))


def empty_cache_start() -> float:
    """Return the seconds of the first fill of a new process whose cache of compiled kernels is empty."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _FIRST_FILL],
            env=os.environ | {"NUMBA_CACHE_DIR": folder},
            capture_output=True,
            text=True,
            check=True,
        )
    return float(done.stdout)


def _empty(count: int, dtype: torch.dtype, device: str) -> torch.Tensor:
    try:
        return torch.empty(count, dtype=dtype, device=device)
    except RuntimeError as error:
        raise OptionError(
            f"{count} values do not fit into memory. Give a smaller count. Nothing was measured."
        ) from error


def _rows(
    kind: str, tensors: Mapping[str, torch.Tensor], ours: Callable[..., Any], theirs: Callable[..., Any], rounds: int
) -> Iterator[BenchRow]:
    makers: dict[str, Callable[..., Any]] = {
        "firstlight": ours,
        "torch": theirs,
        "constant": partial(torch.Tensor.fill_, value=1.0),
    }
    jobs: dict[str, Callable[[], Any]] = {
        f"{who} {dtype}": partial(make, tensor) for who, make in makers.items() for dtype, tensor in tensors.items()
    }
    first = next(iter(tensors.values()))
    if first.is_cuda:
        jobs = {name: partial(_to_the_end, job) for name, job in jobs.items()}
    warm = tuple(name for name in jobs if first.is_cuda or name.startswith("firstlight"))
    took = in_turn(jobs, rounds, warm=warm)
    device = torch.cuda.get_device_name(first.device) if first.is_cuda else "cpu"
    for dtype, tensor in tensors.items():
        speeds = {who: tensor.numel() / took[f"{who} {dtype}"] / 1e9 for who in makers}
        yield BenchRow(kind, dtype, tensor.numel(), torch.get_num_threads(), device, **speeds)


def _to_the_end(job: Callable[[], Any]) -> None:
    job()
    torch.cuda.synchronize()
