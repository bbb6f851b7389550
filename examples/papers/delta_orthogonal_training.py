"""Xiao et al. 2018: 1,000 convolutions of tanh, without skips or normalisation, train under delta-orthogonal weights.

arXiv 1806.05393. Handwritten digits of 8×8; the control has Gaussian weights of the same variance, σ_w² = 1.05, and no biases
either. Both try the same rates. A run whose loss is above 95 % of ln 10 at a third of its steps is stopped.
Usage: delta_orthogonal_training.py [DEPTH] [STEPS] [WIDTH].
"""

import math
import sys
import time

import torch
from figure import chart, digits
from torch import Tensor, nn

import firstlight as fl

BATCH, CLIP, RATES = 32, 1.0, (0.003, 0.0003)
START = math.log(10)  # the loss of a network that knows nothing


class Tower(nn.Module):
    """Convolutions of 3×3, wrapped around the borders, each followed by tanh; all places are read by one linear layer."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        parts = (self.convolution(width if i else 1, width) for i in range(depth))
        self.layers = nn.Sequential(*(module for part in parts for module in (part, nn.Tanh())))
        self.head = nn.Linear(64 * width, 10)

    @staticmethod
    def convolution(inputs: int, outputs: int) -> nn.Module:
        """Return one layer."""
        return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="circular")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, 8, 8) to (N, 10)."""
        out: Tensor = self.head(self.layers(x).flatten(1))
        return out


def train(recipe: fl.Recipe | str, rate: float, depth: int, steps: int, width: int) -> tuple[list[float], float]:
    """Return the loss at each step and what is read right afterwards, of digits that were not seen."""
    images, labels = digits()
    images = 0.2 * images.reshape(-1, 1, 8, 8)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=generator)
    seen, kept = order[:1400], order[1400:]
    model = fl.initialize(Tower(depth, width), recipe, seed=0, example=images[:2])
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    losses: list[float] = []
    for step in range(steps):
        batch = seen[torch.randint(len(seen), (BATCH,), generator=generator)]
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]) or (step == steps // 3 and sum(losses[-10:]) > 9.5 * START):
            break
    with torch.no_grad():
        right = float((model(images[kept]).argmax(1) == labels[kept]).float().mean())
    return losses, right


def main() -> None:
    """Train all, print and draw."""
    depth, steps, width = (int(given) for given in (*sys.argv[1:4], *("1000", "100", "8")[len(sys.argv) - 1 :]))
    plain = fl.compose("delta-orthogonal", {"role:bias": "zeros"})
    gaussian = fl.compose(f"lecun:gain={math.sqrt(1.05)}", {"role:bias": "zeros"})
    lines = {}
    for label, recipe in (("delta-orthogonal", plain), ("Gaussian", gaussian)):
        for rate in RATES:
            began = time.perf_counter()
            losses, right = train(recipe, rate, depth, steps, width)
            last = sum(losses[-10:]) / len(losses[-10:])
            took = time.perf_counter() - began
            print(f"{label:17} rate {rate:g}: loss {losses[0]:.3f} -> {last:.3f} in {len(losses)} steps, "
                  f"{right:.1%} of new digits right; {took:.0f} s", flush=True)  # fmt: skip
            lines[f"{label}, {rate:g}"] = (range(len(losses)), losses)
    title = f"{depth:,} convolutions of tanh, {width} channels: loss"
    print(chart(f"delta_orthogonal_training_{depth}", title, "step", "loss", lines))


if __name__ == "__main__":
    main()
