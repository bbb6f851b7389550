"""Optimizers by name: torch's own, the learning rates a race tries for each, and how the rate changes over the steps."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from firstlight.errors import OptionError, did_you_mean
from firstlight.race.record import Schedule

Optimizer = torch.optim.Optimizer
DECAYS = ("constant", "cosine", "linear")


@dataclass(frozen=True, slots=True)
class Entry:
    """An optimizer of the race: how it is made, its options, and the learning rates that are tried by default."""

    name: str
    summary: str
    make: Callable[..., Optimizer]
    options: dict[str, Any]
    rates: tuple[float, ...]


_SGD, _ONE_PASS, _BY_LIST = torch.optim.SGD, {"fused": True}, {"foreach": True}
_MOMENTUM, _NESTEROV = {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}
_SMALL, _MIDDLE, _LARGE = (1e-4, 3e-4, 1e-3, 3e-3), (1e-3, 3e-3, 1e-2, 3e-2), (1e-2, 3e-2, 1e-1, 3e-1)

OPTIMIZERS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("sgd", "w - lr·g", _SGD, _ONE_PASS, _LARGE),
        Entry("momentum", "SGD with momentum 0.9", _SGD, _ONE_PASS | _MOMENTUM, _MIDDLE),
        Entry("nesterov", "SGD with Nesterov's momentum 0.9", _SGD, _ONE_PASS | _NESTEROV, _MIDDLE),
        Entry("adam", "betas 0.9 and 0.999", torch.optim.Adam, _ONE_PASS, _SMALL),
        Entry("adamw", "Adam with decoupled weight decay 0.01", torch.optim.AdamW, _ONE_PASS, _SMALL),
        Entry("rmsprop", "smoothing 0.99", torch.optim.RMSprop, _BY_LIST, _SMALL),
        Entry("adagrad", "the sum of squared gradients", torch.optim.Adagrad, _ONE_PASS, _MIDDLE),
    )
}
RATES: dict[str, tuple[float, ...]] = {entry.name: entry.rates for entry in OPTIMIZERS.values()}


def make(name: str, groups: list[dict[str, Any]]) -> Optimizer:
    """Return torch's optimizer of that name over parameter groups; each group states its own 'lr'.

    Raises:
        OptionError: if there is no such optimizer.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> make("momentum", [{"params": [weight], "lr": 0.1}]).param_groups[0]["momentum"]
        0.9
    """
    entry = find(name)
    made = entry.make(groups, lr=1.0, **entry.options)
    for group in made.param_groups:
        group["initial_lr"] = group["lr"]
    return made


def find(name: str) -> Entry:
    """Return the optimizer of a name.

    Raises:
        OptionError: if there is none.
    """
    if name not in OPTIMIZERS:
        near = did_you_mean(name, OPTIMIZERS)
        raise OptionError(
            f"'{name}' is not an optimizer. Choose from {', '.join(OPTIMIZERS)}.{near} Nothing was trained."
        )
    return OPTIMIZERS[name]


def set_rate(optimizer: Optimizer, factor: float) -> None:
    """Make every group's learning rate `factor` times the one it was made with."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def factor(step: int, schedule: Schedule) -> float:
    """Return what the learning rate is multiplied by at a step, counted from 1.

    It rises linearly over the first `warmup` steps, is 1 at the end of them, and then stays ('constant'), falls along half a
    cosine ('cosine') or along a line ('linear'), to reach 0 just after the last step.

    Example:
        >>> [round(factor(step, Schedule(steps=6, decay="linear", warmup=2)), 2) for step in range(1, 7)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if step <= schedule.warmup:
        return step / schedule.warmup
    share = (step - 1 - schedule.warmup) / max(1, schedule.steps - schedule.warmup)
    if schedule.decay == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share))
    return 1 - share if schedule.decay == "linear" else 1.0
