"""Print the table of docs/findings.md: signal and gradient ratios of deep starts, and what training makes of them.

Run: python tests/diagnose/calibrate.py (about two minutes on one core). Digits, MLPs of width 128, 200 steps of 64 examples;
the best test accuracy over the learning rates of each optimizer.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from firstlight.diagnose.case import rms, signal
from firstlight.diagnose.depth import _gradients, _head, _points, _tail
from firstlight.diagnose.question import Question
from firstlight.race import task

STARTS: list[tuple[str, Callable[[], nn.Module], int, float | None]] = [
    *(("relu", nn.ReLU, depth, None) for depth in (6, 8, 10, 12, 15)),
    *(("tanh", nn.Tanh, depth, None) for depth in (6, 8, 10, 12, 15)),
    *(("sigmoid", nn.Sigmoid, depth, None) for depth in (3, 4, 5, 6)),
    *(("relu", nn.ReLU, 10, gain) for gain in (1.41, 2.0, 2.8, 4.0, 6.0)),
    *(("tanh", nn.Tanh, 30, gain) for gain in (1.0, 1.5, 2.0, 2.5, 3.0)),
]
ADAM, SGD = (1e-4, 1e-3, 3e-3), (1e-3, 1e-2, 3e-2, 0.1, 0.3)
STEPS, BATCH, TEST = 200, 64, 397


def build(act: Callable[[], nn.Module], depth: int, gain: float | None) -> nn.Sequential:
    """Return an MLP with torch's default weights, or N(0, gain²/fan_in) and zero biases."""
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for before, after in pairwise([64, *[128] * (depth - 1), 10]):
        linear = nn.Linear(before, after)
        if gain is not None:
            nn.init.normal_(linear.weight, 0, gain / math.sqrt(before))
            nn.init.zeros_(linear.bias)
        parts += [linear, act()]
    return nn.Sequential(*parts[:-1])


def best_accuracy(model: Callable[[], nn.Sequential], adam: bool, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the best test accuracy over the learning rates of an optimizer."""
    best = 0.0
    for lr in ADAM if adam else SGD:
        net = model()
        generator = torch.Generator().manual_seed(0)
        step: torch.optim.Optimizer = (
            torch.optim.Adam(net.parameters(), lr) if adam else torch.optim.SGD(net.parameters(), lr, momentum=0.9)
        )
        for _ in range(STEPS):
            rows = torch.randint(TEST, len(x), (BATCH,), generator=generator)
            step.zero_grad()
            F.cross_entropy(net(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
            step.step()
        with torch.no_grad():
            best = max(best, float((net(x[:TEST]).argmax(1) == y[:TEST]).float().mean()))
    return best


def main() -> None:
    """Print a Markdown table."""
    inputs, labels = task("digits").batch(1400, seed=0)
    x = inputs.flatten(1)
    print("| activation | layers | std·√fan_in | signal | rms | gradient | Adam | SGD |")  # noqa: T201
    print("|---|---|---|---|---|---|---|---|")  # noqa: T201
    for name, act, depth, gain in STARTS:
        model = build(act, depth, gain)

        case = Question(model, x[:256], labels[:256], None).ask(model)
        points = _points(case, signal, min)
        sizes, back = _points(case, rms, max), _gradients(case, max)
        ratios = [_tail(points) / _head(points), _tail(sizes) / _head(sizes), _head(back) / _tail(back)]
        start = partial(build, act, depth, gain)
        accuracies = [best_accuracy(start, adam, x, labels) for adam in (True, False)]
        cells = [name, str(depth), "default" if gain is None else f"{gain:g}"]
        cells += [*(f"{ratio:.1e}" for ratio in ratios), *(f"{accuracy:.2f}" for accuracy in accuracies)]
        print(f"| {' | '.join(cells)} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
