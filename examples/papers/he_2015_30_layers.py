"""He et al. 2015: thirty layers of ReLU learn under He's variance 2/fan_in and stand still under Xavier's.

arXiv 1502.01852, section 2.2: Xavier's std is √2 smaller a layer, so that after 30 layers the signal is 2^-15 of itself.
"""

import torch
from figure import chart, digits
from torch import Tensor, nn

import firstlight as fl
from firstlight.model.targets import load

DEPTH, STEPS, LR = 30, 300, 0.02


def stds(model: nn.Module, x: Tensor) -> list[float]:
    """Return the root mean square of every layer's output."""
    return [
        row.forward_second_moment**0.5
        for row in fl.measure(model, x).rows
        if row.kind == "Linear" and row.forward_second_moment
    ]


def train(model: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """Return the loss at every step of SGD with momentum."""
    steps, losses = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9), []
    order = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        batch = torch.randint(0, len(x), (64,), generator=order)
        steps.zero_grad()
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        torch.autograd.backward(loss)
        steps.step()
        losses.append(float(loss.detach()))
    return losses


def main() -> None:
    """Print and draw both."""
    x, y = digits()
    lines = {}
    for recipe in ("he", "xavier", "torch-default"):
        model = fl.initialize(load(f"mlp:depth={DEPTH},width=128,act=relu").build(), recipe, seed=0)
        signal = stds(model, x[:256])
        losses = train(model, x, y)
        with torch.no_grad():
            right = float((model(x).argmax(1) == y).float().mean())
        end = sum(losses[-20:]) / 20
        print(
            f"{recipe:14} rms of layer 1 {signal[0]:.3g}, of layer {DEPTH} {signal[-1]:.3g}; loss {end:.3f}, right {right:.1%}"
        )
        lines[recipe] = (range(1, STEPS + 1), losses)
    print(chart("he_2015_30_layers", "30 layers of ReLU, SGD 0.02", "step", "loss", lines))


if __name__ == "__main__":
    main()
