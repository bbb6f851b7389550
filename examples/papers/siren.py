"""Sitzmann et al. 2020 (SIREN): networks of sines fit a picture from its coordinates when their weights are right.

arXiv 2006.09661. Prints the law of the activations at every depth, then fits a 64×64 montage of handwritten digits; the control
is the same network with torch's default weights, and with SIREN's weights of a third the size.
"""

import math

import torch
from figure import chart, digits
from torch import Tensor, nn

import firstlight as fl

DEPTH, WIDTH, STEPS, LR = 4, 128, 300, 1e-3


class Sines(nn.Module):
    """sin(30 (W x + b)) over and over, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2 if i == 0 else WIDTH, WIDTH) for i in range(DEPTH))
        self.out = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map coordinates (N, 2) to values (N, 1)."""
        for layer in self.layers:
            x = torch.sin(30 * layer(x))
        out: Tensor = self.out(x)
        return out


def distances(model: Sines, x: Tensor) -> list[float]:
    """Return the Kolmogorov-Smirnov distance of each layer's activations to the arcsine law."""
    found = []
    with torch.no_grad():
        for layer in model.layers:
            x = torch.sin(30 * layer(x))
            ordered = x.flatten().double().sort().values
            expected = 0.5 + torch.arcsin(ordered.clamp(-1, 1)) / math.pi
            steps = torch.arange(1, len(ordered) + 1) / len(ordered)
            found.append(float((steps - expected).abs().max()))
    return found


def fit(model: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """Return the mean squared error at every step of Adam on the whole picture."""
    adam, losses = torch.optim.Adam(model.parameters(), lr=LR), []
    for _ in range(STEPS):
        adam.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        torch.autograd.backward(loss)
        adam.step()
        losses.append(float(loss.detach()))
    return losses


def main() -> None:
    """Print and draw all."""
    pictures, _ = digits()
    picture = pictures[:64].reshape(8, 8, 8, 8).permute(0, 2, 1, 3).reshape(64, 64)
    axis = torch.linspace(-1, 1, 64)
    x = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    y = picture.reshape(-1, 1)
    print(f"variance of the picture: {float(y.var()):.3f}")
    lines = {}
    for label in ("siren", "a third of siren", "torch-default"):
        model = fl.initialize(Sines(), "torch-default" if label == "torch-default" else "siren", seed=0)
        if label == "a third of siren":
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.div_(3)
        law = ", ".join(f"{value:.3f}" for value in distances(model, x))
        losses = fit(model, x, y)
        print(f"{label:17} distance to arcsine by layer {law}; error {losses[0]:.3g} -> {losses[-1]:.2g}")
        lines[label] = (range(1, STEPS + 1), losses)
    print(chart("siren", "fitting 64×64 digits with sines", "step", "mean squared error", lines, log="y"))


if __name__ == "__main__":
    main()
