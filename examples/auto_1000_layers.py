"""A plain ReLU network of 1,000 layers, without skips or norms, learns handwritten digits from the start that `auto` gives it.

    python examples/auto_1000_layers.py [--depth 1000] [--steps 60]

He's start, which is made for ReLU, is the control. Both are trained with Adam at two low rates; the better one counts.
"""

import argparse
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import firstlight as fl
from firstlight.race import task

RATES = (3e-5, 1e-4)


def network(depth: int, width: int = 32) -> nn.Sequential:
    """Return `depth` linear layers of a width with ReLU after each, and a linear output."""
    sizes = [64, *[width] * depth]
    return nn.Sequential(
        nn.Flatten(), *(part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())), nn.Linear(width, 10)
    )


def trained(recipe: str, rate: float, depth: int, steps: int, images: Tensor, labels: Tensor) -> float:
    """Return the loss on all training images after so many steps of 64 of them."""
    model = fl.initialize(network(depth), recipe, seed=0, example=images[:256])
    optimizer = torch.optim.Adam(model.parameters(), rate)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (64,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(images[chosen]), labels[chosen]).backward()  # type: ignore[no-untyped-call] # torch
        optimizer.step()
    with torch.no_grad():
        return float(F.cross_entropy(model(images), labels))


def main() -> None:
    """Train from both starts and print the losses; chance is ln 10 = 2.303."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    images, labels = task("digits").train
    for recipe in ("auto", "he"):
        losses = [trained(recipe, rate, args.depth, args.steps, images, labels) for rate in RATES]
        found = ", ".join(f"{loss:.3f} at {rate:g}" for rate, loss in zip(RATES, losses, strict=True))
        print(f"{recipe:5} {args.depth} layers, {args.steps} steps: loss {found}", flush=True)


if __name__ == "__main__":
    main()
