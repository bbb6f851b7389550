"""Xiao et al. 2018: plain convolutions of tanh, 1,000 and 10,000 layers deep, without skips or normalisation, can be trained.

    python examples/papers/delta_orthogonal_training.py [--depth 1000] [--steps 60] [--recipe auto ...] [--rates 0.03 0.1]

arXiv 1806.05393. Handwritten digits averaged to 4×4, eight channels, Adam at rates that fall with depth, gradients clipped at
norm 1. Starts: delta-orthogonal weights, `auto`, and as a control Gaussian weights of the variance of the first, σ_w² = 1.05;
no biases but what `auto` finds for the outputs. A run whose loss is above 95 % of ln 10 at a third of its steps is stopped.
"""

import argparse
import math
import sys
import time

import torch
import torch.nn.functional as F
from figure import chart, digits
from torch import Tensor, nn

import firstlight as fl

BATCH, CLIP, SIDE = 32, 1.0, 4
START = math.log(10)  # the loss of a network that knows nothing
RECIPES: dict[str, fl.Recipe | str] = {
    "delta-orthogonal": fl.compose("delta-orthogonal", {"role:bias": "zeros"}),
    "auto": "auto",
    "gaussian": fl.compose(f"lecun:gain={math.sqrt(1.05)}", {"role:bias": "zeros"}),
}


class Tower(nn.Module):
    """Convolutions of 3×3, each followed by tanh; all places are read by one linear layer. Borders are repeated, not zero."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        parts = (self.convolution(width if i else 1, width) for i in range(depth))
        self.layers = nn.Sequential(*(module for part in parts for module in (part, nn.Tanh())))
        self.head = nn.Linear(SIDE**2 * width, 10)

    @staticmethod
    def convolution(inputs: int, outputs: int) -> nn.Module:
        """Return one layer."""
        return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, 4, 4) to (N, 10)."""
        out: Tensor = self.head(self.layers(x).flatten(1))
        return out


def train(recipe: fl.Recipe | str, rate: float, depth: int, steps: int, width: int) -> tuple[list[float], float]:
    """Return the loss at each step and what is read right afterwards, of new digits; Adam's rate is rate/depth."""
    images, labels = digits()
    images = F.adaptive_avg_pool2d(images.reshape(-1, 1, 8, 8), SIDE)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=generator)
    seen, kept = order[:1400], order[1400:]
    began = time.process_time()
    model = fl.initialize(Tower(depth, width), recipe, seed=0, example=images[seen[:128]])
    print(f"planned and applied in {time.process_time() - began:.1f} s of a core", file=sys.stderr, flush=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate / depth, betas=(0.9, 0.95))
    losses: list[float] = []
    for step in range(steps):
        batch = seen[torch.randint(len(seen), (BATCH,), generator=generator)]
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        losses.append(loss.item())
        print(f"step {step + 1}: {losses[-1]:.3f}", file=sys.stderr, flush=True)
        if not math.isfinite(losses[-1]) or (step == steps // 3 and sum(losses[-10:]) > 9.5 * START):
            break
    with torch.no_grad():
        right = float((model(images[kept]).argmax(1) == labels[kept]).float().mean())
    return losses, right


def main() -> None:
    """Train all, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--recipe", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.03, 0.1], help="times 1/depth, for Adam")
    args = parser.parse_args()
    lines = {}
    for name in args.recipe:
        for rate in args.rates:
            began = time.process_time()
            losses, right = train(RECIPES[name], rate, args.depth, args.steps, args.width)
            last = sum(losses[-10:]) / len(losses[-10:])
            print(f"{name:17} rate {rate:g}/{args.depth}: loss {losses[0]:.3f} -> {last:.3f} in {len(losses)} steps, "
                  f"{right:.1%} of new digits right; {time.process_time() - began:.0f} s of a core", flush=True)  # fmt: skip
            lines[f"{name}, {rate:g}/{args.depth}"] = (range(len(losses)), losses)
    title = f"{args.depth:,} convolutions of tanh, {args.width} channels: loss"
    print(chart(f"delta_orthogonal_training_{args.depth}", title, "step", "loss", lines))


if __name__ == "__main__":
    main()
