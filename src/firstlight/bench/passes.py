"""What `firstlight.measure` costs beside a plain forward and backward pass: seconds and peak memory, in turn in one process."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstlight.bench.models import gpt2_small, has_transformers
from firstlight.bench.timing import in_turn
from firstlight.signal import measure

Pass = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """A model in float32. Times are seconds, the least of the rounds; memory is the peak of what a pass allocates, in bytes.

    time_ratio and memory_ratio: `firstlight.measure` over the plain pass.
    """

    model: str
    parameters: int
    threads: int
    measure: float
    plain: float
    measure_bytes: int
    plain_bytes: int

    @property
    def time_ratio(self) -> float:
        """How many times as long as a plain forward and backward pass."""
        return self.measure / self.plain

    @property
    def memory_ratio(self) -> float:
        """How many times as much memory as a plain forward and backward pass."""
        return self.measure_bytes / self.plain_bytes

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        return asdict(self) | {"time_ratio": self.time_ratio, "memory_ratio": self.memory_ratio}


class _Block(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        same = stride == 1 and before == width
        self.short = nn.Identity() if same else nn.Conv2d(before, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(branch + self.short(x))


def resnet18() -> nn.Module:
    """Return a ResNet of 18 layers for pictures of 32×32: no pooling before the blocks, as He et al. 2016 have it for CIFAR."""
    widths = (64, 64, 128, 128, 256, 256, 512, 512)
    blocks = [_Block(a, b, 1 if a == b else 2) for a, b in zip((64, *widths[:-1]), widths, strict=True)]
    first = (nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def _resnet_case() -> tuple[nn.Module, Any, Any]:
    return resnet18(), torch.randn(64, 3, 32, 32), torch.randint(10, (64,))


def _gpt2_case() -> tuple[nn.Module, Any, Any]:
    from transformers import AutoModelForCausalLM

    tokens = torch.randint(50257, (2, 256))
    model = AutoModelForCausalLM.from_config(gpt2_small())  # type: ignore[no-untyped-call]
    return model, {"input_ids": tokens, "use_cache": False}, tokens


CASES: dict[str, Callable[[], tuple[nn.Module, Any, Any]]] = {"resnet-18": _resnet_case, "gpt2-small": _gpt2_case}


def measure_cases() -> list[str]:
    """Return the names of the models that can be made here: GPT-2 needs transformers."""
    return [name for name in CASES if name != "gpt2-small" or has_transformers()]


def bench_measure(
    cases: "dict[str, Callable[[], tuple[nn.Module, Any, Any]]] | None" = None, *, rounds: int = 3
) -> Iterator[MeasureRow]:
    """Yield a row for every case as soon as it is measured.

    A plain pass is forward, cross-entropy and `backward` with no gradients there before. Both run once uncounted. Peak
    memory is taken in passes of their own with torch's profiler, which counts every allocation and, on stderr, says so.

    Args:
        cases: what returns (model, batch, target), by name; default: those of `measure_cases`.
        rounds: counted rounds; the least time is reported, as what else runs only adds.
    """
    chosen = {name: CASES[name] for name in measure_cases()} if cases is None else cases
    for name, case in chosen.items():
        model, batch, target = case()
        jobs: dict[str, Pass] = {
            "plain": partial(_plain, model, batch, target),
            "measure": partial(measure, model, batch, target=target),
        }
        times = in_turn(jobs, rounds, warm=tuple(jobs), of=min)
        held = {job: peak_bytes(run) for job, run in jobs.items()}
        count = sum(parameter.numel() for parameter in model.parameters())
        threads = torch.get_num_threads()
        yield MeasureRow(name, count, threads, times["measure"], times["plain"], held["measure"], held["plain"])


def _plain(model: nn.Module, batch: Any, target: Tensor) -> None:
    output = model(**batch) if isinstance(batch, dict) else model(batch)
    logits = getattr(output, "logits", output)
    F.cross_entropy(logits.flatten(0, -2), target.flatten()).backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)


def peak_bytes(job: Pass) -> int:
    """Return the most memory that a call holds at a time beyond what was there before, on the CPU.

    Example:
        >>> round(peak_bytes(lambda: torch.zeros(1000) + 1), -2)
        8000
    """
    gc.collect()
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        made = job()
    del made
    events = profile.kineto_results.events()
    steps = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = most = 0
    for _, change in steps:
        held += change
        most = max(most, held)
    return most
